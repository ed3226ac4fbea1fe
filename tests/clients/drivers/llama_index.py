"""LlamaIndex's OpenAILike."""

from __future__ import annotations

from typing import Any

import openai
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, Weather, Where, weather

ASKED = ChatMessage(role=MessageRole.USER, content=QUESTION)
TOOLS = [FunctionTool.from_defaults(weather)]


class LlamaIndex(Driver):
    """`chat`, `stream_chat`, `chat_with_tools` and `as_structured_llm`."""

    package = "llama-index-llms-openai-like"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError

    def chat(self, at: Where) -> str:
        return str(self._model(at).chat([ASKED]).message.content)

    def stream(self, at: Where) -> str:
        return "".join(piece.delta or "" for piece in self._model(at).stream_chat([ASKED]))

    def tools(self, at: Where) -> tuple[list[Any], str]:
        model = self._model(at)
        return self._answered(
            model, model.chat_with_tools(TOOLS, chat_history=[ASKED], allow_parallel_tool_calls=True)
        )

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        model = self._model(at)
        pieces = list(model.stream_chat_with_tools(TOOLS, chat_history=[ASKED], allow_parallel_tool_calls=True))
        return self._answered(model, pieces[-1])

    def _answered(self, model: Any, reply: Any) -> tuple[list[Any], str]:
        calls = model.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
        results = [
            ChatMessage(
                role=MessageRole.TOOL,
                content=weather(**call.tool_kwargs),
                additional_kwargs={"tool_call_id": call.tool_id},
            )
            for call in calls
        ]
        said = model.chat_with_tools(TOOLS, chat_history=[ASKED, reply.message, *results])
        return [(call.tool_name, call.tool_kwargs) for call in calls], str(said.message.content)

    def structured(self, at: Where) -> Weather:
        model = self._model(at, should_use_structured_outputs=True)
        answer = model.as_structured_llm(Weather).chat([ASKED]).raw
        assert isinstance(answer, Weather)
        return answer

    def image(self, at: Where) -> str:
        asked = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=QUESTION), ImageBlock(url=PICTURE)])
        return str(self._model(at).chat([asked]).message.content)

    def _model(self, at: Where, **fields: Any) -> Any:
        return OpenAILike(
            model=at.model, api_base=at.url, api_key=at.key, is_chat_model=True, is_function_calling_model=True,
            max_retries=0, timeout=60, **fields,
        )  # fmt: skip
