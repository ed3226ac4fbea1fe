"""The `anthropic` package: messages."""

from __future__ import annotations

from typing import Any

import anthropic

from tests.clients.drivers import Driver
from tests.clients.exchanges import PARAMETERS, PICTURE, QUESTION, TOOL, Weather, Where, weather

ASKED: dict[str, Any] = {"role": "user", "content": QUESTION}
MOST = 256


class AnthropicMessages(Driver):
    """`messages`."""

    package = "anthropic"
    unknown_model = anthropic.NotFoundError
    wrong_key = anthropic.AuthenticationError

    def chat(self, at: Where) -> str:
        return self._ask(at, messages=[ASKED])

    def stream(self, at: Where) -> str:
        with (
            self._opened(at) as client,
            client.messages.stream(model=at.model, max_tokens=MOST, messages=[ASKED]) as stream,  # type: ignore[list-item]
        ):
            return "".join(stream.text_stream)

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        tool = {"name": "weather", "description": TOOL["function"]["description"], "input_schema": PARAMETERS}  # type: ignore[index]
        asked: dict[str, Any] = {"model": at.model, "max_tokens": MOST, "tools": [tool]}
        with self._opened(at) as client:
            if stream:
                with client.messages.stream(**asked, messages=[ASKED]) as events:
                    message: Any = events.get_final_message()
            else:
                message = client.messages.create(**asked, messages=[ASKED])
            made = [block for block in message.content if block.type == "tool_use"]
            if not made:
                return [], message.content[0].text
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)} for call in made
            ]
            turns = [ASKED, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
            said = client.messages.create(**asked, messages=turns)
        return [(call.name, call.input) for call in made], said.content[0].text

    def structured(self, at: Where) -> Weather | None:
        with self._opened(at) as client:
            reply = client.messages.parse(
                model=at.model,
                max_tokens=MOST,
                messages=[ASKED],
                output_format=Weather,  # type: ignore[list-item]
            )
        return reply.parsed_output

    def image(self, at: Where) -> str:
        kind, data = PICTURE.removeprefix("data:").split(";base64,")
        image = {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
        return self._ask(at, messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION}, image]}])

    def _ask(self, at: Where, **fields: Any) -> str:
        with self._opened(at) as client:
            message: Any = client.messages.create(model=at.model, max_tokens=MOST, **fields)
        return str(message.content[0].text)

    def _opened(self, at: Where) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=at.url.removesuffix("/v1"), api_key=at.key, max_retries=0, timeout=60)
