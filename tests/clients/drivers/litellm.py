"""LiteLLM's `completion`."""

from __future__ import annotations

import json
from typing import Any

import litellm

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, TOOL, Weather, Where, weather

ASKED = {"role": "user", "content": QUESTION}


class LiteLLM(Driver):
    """`completion` with the provider `openai`."""

    package = "litellm"
    unknown_model = litellm.NotFoundError
    wrong_key = litellm.AuthenticationError

    def chat(self, at: Where) -> str:
        return str(self._ask(at).choices[0].message.content)

    def stream(self, at: Where) -> str:
        pieces = self._ask(at, stream=True, stream_options={"include_usage": True})
        return "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        asked = {"tools": [TOOL], "parallel_tool_calls": True}
        reply = self._ask(at, **asked, stream=stream)
        message = (litellm.stream_chunk_builder(list(reply)) if stream else reply).choices[0].message
        made = message.tool_calls or ()
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in made]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)}
            for call, (_, arguments) in zip(made, calls, strict=True)
        ]
        said = self._ask(at, **asked, messages=[ASKED, message.model_dump(), *results])
        return calls, str(said.choices[0].message.content)

    def structured(self, at: Where) -> Weather:
        reply = self._ask(at, response_format=Weather)
        return Weather.model_validate_json(reply.choices[0].message.content)

    def image(self, at: Where) -> str:
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": PICTURE}}]
        return str(self._ask(at, messages=[{"role": "user", "content": parts}]).choices[0].message.content)

    def _ask(self, at: Where, messages: Any = (ASKED,), **fields: Any) -> Any:
        return litellm.completion(
            model=f"openai/{at.model}", messages=list(messages), api_base=at.url, api_key=at.key, num_retries=0,
            max_retries=0, timeout=60, **fields,
        )  # fmt: skip
