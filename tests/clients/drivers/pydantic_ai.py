"""pydantic-ai with either of its OpenAI models: it runs tools by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, Weather, Where, weather


class PydanticAI(Driver):
    """`Agent.run` and `Agent.run_stream`; structured output as a JSON schema (`NativeOutput`)."""

    package = "pydantic-ai-slim"
    unknown_model = ModelHTTPError
    wrong_key = ModelHTTPError
    runs_tools = True

    def __init__(self, *, responses: bool) -> None:
        self.model: Any = OpenAIResponsesModel if responses else OpenAIChatModel

    def chat(self, at: Where) -> str:
        return str(self._run(at, QUESTION))

    def stream(self, at: Where) -> str:
        return str(self._run(at, QUESTION, stream=True))

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        calls: list[Any] = []

        def looked_up(city: str) -> str:
            calls.append(("weather", {"city": city}))
            return weather(city)

        looked_up.__name__ = "weather"
        said = self._run(at, QUESTION, stream=stream, tools=[looked_up], model_settings={"parallel_tool_calls": True})
        return calls, str(said)

    def structured(self, at: Where) -> Weather:
        answer = self._run(at, QUESTION, output_type=NativeOutput(Weather))
        assert isinstance(answer, Weather)
        return answer

    def image(self, at: Where) -> str:
        return str(self._run(at, [QUESTION, BinaryContent.from_data_uri(PICTURE)]))

    def _run(self, at: Where, asked: Any, *, stream: bool = False, **fields: Any) -> Any:
        async def run() -> Any:
            async with openai.AsyncOpenAI(base_url=at.url, api_key=at.key, max_retries=0, timeout=60) as client:
                model = self.model(at.model, provider=OpenAIProvider(openai_client=client))
                agent: Any = Agent(model, retries=0, **fields)
                if not stream:
                    return (await agent.run(asked)).output
                async with agent.run_stream(asked) as running:
                    return "".join([piece async for piece in running.stream_text(delta=True, debounce_by=None)])

        return asyncio.run(run())
