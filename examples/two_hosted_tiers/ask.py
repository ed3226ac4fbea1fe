"""Ask a running graph through the `openai` client: routed, and of one tier by name."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"), api_key="unused")
for model in ("auto", "cheap"):
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is the capital of France?"}]
    )
    print(f"{model}: {reply.choices[0].message.content}")
    print(f"    {reply.serve_graph}")  # tier, outcome, version, cost
