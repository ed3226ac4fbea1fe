"""The OpenAI Agents SDK, with either of its models: it runs tools by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import openai

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, Weather, Where, weather

agents.set_tracing_disabled(True)


class AgentsSdk(Driver):
    """`Runner.run` and `Runner.run_streamed`; `responses` chooses the SDK's default model, else the chat one."""

    package = "openai-agents"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError
    runs_tools = True

    def __init__(self, *, responses: bool) -> None:
        self.model: Any = agents.OpenAIResponsesModel if responses else agents.OpenAIChatCompletionsModel

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

        @agents.function_tool(name_override="weather")
        def looked_up(city: str) -> str:
            calls.append(("weather", {"city": city}))
            return weather(city)

        said = self._run(at, QUESTION, stream=stream, tools=[looked_up])
        return calls, str(said)

    def structured(self, at: Where) -> Weather:
        answer = self._run(at, QUESTION, output_type=Weather)
        assert isinstance(answer, Weather)
        return answer

    def image(self, at: Where) -> str:
        parts = [
            {"type": "input_text", "text": QUESTION},
            {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        ]
        return str(self._run(at, [{"role": "user", "content": parts}]))

    def _run(self, at: Where, asked: Any, *, stream: bool = False, **fields: Any) -> Any:
        async def run() -> Any:
            async with openai.AsyncOpenAI(base_url=at.url, api_key=at.key, max_retries=0, timeout=60) as client:
                settings = agents.ModelSettings(parallel_tool_calls=True) if fields.get("tools") else None
                agent = agents.Agent(
                    name="a", instructions="Be brief.", model=self.model(at.model, client),
                    model_settings=settings or agents.ModelSettings(), **fields,
                )  # fmt: skip
                if not stream:
                    return (await agents.Runner.run(agent, asked)).final_output
                running = agents.Runner.run_streamed(agent, asked)
                deltas = [
                    event.data.delta
                    async for event in running.stream_events()
                    if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
                ]
                assert "".join(deltas) == running.final_output
                return running.final_output

        return asyncio.run(run())
