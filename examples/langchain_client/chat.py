"""LangChain's ChatOpenAI against a running graph; only `base_url` differs from OpenAI's own."""

import os
import sys

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="auto", base_url=os.environ["BASE_URL"], api_key=os.environ.get("SERVE_GRAPH_KEY", "unused"))
message = model.invoke(sys.argv[1])
print(message.text)
print(message.usage_metadata)
