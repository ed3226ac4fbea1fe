"""The `openai` package: chat completions and responses."""

from __future__ import annotations

import json
from typing import Any

import openai

from tests.clients.drivers import Driver
from tests.clients.exchanges import PARAMETERS, PICTURE, QUESTION, TOOL, Weather, Where, weather

ASKED: dict[str, Any] = {"role": "user", "content": QUESTION}
SEEN = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": PICTURE}}]


def opened(at: Where) -> openai.OpenAI:
    return openai.OpenAI(base_url=at.url, api_key=at.key, max_retries=0, timeout=60)


class OpenAIChat(Driver):
    """`chat.completions`."""

    package = "openai"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError

    def chat(self, at: Where) -> str:
        with opened(at) as client:
            reply = client.chat.completions.create(model=at.model, messages=[ASKED])  # type: ignore[list-item]
        return reply.choices[0].message.content or ""

    def stream(self, at: Where) -> str:
        with opened(at) as client, client.chat.completions.stream(model=at.model, messages=[ASKED]) as stream:  # type: ignore[list-item]
            return "".join(event.delta for event in stream if event.type == "content.delta")

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        asked: dict[str, Any] = {"model": at.model, "tools": [TOOL], "parallel_tool_calls": True}
        with opened(at) as client:
            if stream:
                with client.chat.completions.stream(**asked, messages=[ASKED]) as events:
                    message = events.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(**asked, messages=[ASKED]).choices[0].message
            calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
            results = [
                {"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)}
                for call, (_, arguments) in zip(message.tool_calls or (), calls, strict=True)
            ]
            said = client.chat.completions.create(**asked, messages=[ASKED, message.model_dump(), *results])
        return calls, said.choices[0].message.content or ""

    def structured(self, at: Where) -> Weather | None:
        with opened(at) as client:
            reply = client.chat.completions.parse(model=at.model, messages=[ASKED], response_format=Weather)  # type: ignore[list-item]
        return reply.choices[0].message.parsed

    def image(self, at: Where) -> str:
        with opened(at) as client:
            reply = client.chat.completions.create(model=at.model, messages=[{"role": "user", "content": SEEN}])  # type: ignore[list-item,misc]
        return reply.choices[0].message.content or ""


class OpenAIResponses(Driver):
    """`responses`."""

    package = "openai"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError

    def chat(self, at: Where) -> str:
        with opened(at) as client:
            return client.responses.create(model=at.model, input=QUESTION).output_text

    def stream(self, at: Where) -> str:
        with opened(at) as client, client.responses.stream(model=at.model, input=QUESTION) as stream:
            return "".join(event.delta for event in stream if event.type == "response.output_text.delta")

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
        asked: dict[str, Any] = {"model": at.model, "tools": [tool], "parallel_tool_calls": True}
        with opened(at) as client:
            if stream:
                with client.responses.stream(**asked, input=[ASKED]) as events:
                    reply: Any = events.get_final_response()
            else:
                reply = client.responses.create(**asked, input=[ASKED])
            made = [item for item in reply.output if item.type == "function_call"]
            calls = [(call.name, json.loads(call.arguments)) for call in made]
            results = [
                {"type": "function_call_output", "call_id": call.call_id, "output": weather(**arguments)}
                for call, (_, arguments) in zip(made, calls, strict=True)
            ]
            said = client.responses.create(**asked, input=[ASKED, *reply.output, *results])
        return calls, said.output_text

    def structured(self, at: Where) -> Weather | None:
        with opened(at) as client:
            return client.responses.parse(model=at.model, input=QUESTION, text_format=Weather).output_parsed

    def image(self, at: Where) -> str:
        parts = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": PICTURE}]
        with opened(at) as client:
            return client.responses.create(model=at.model, input=[{"role": "user", "content": parts}]).output_text  # type: ignore[list-item,misc]
