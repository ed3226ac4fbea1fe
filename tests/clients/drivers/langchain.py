"""LangChain's ChatOpenAI, with either of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

import langchain_openai
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from pydantic import SecretStr

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, TOOL, Weather, Where, weather


class LangChain(Driver):
    """`ChatOpenAI`; `responses` sets its `use_responses_api`."""

    package = "langchain-openai"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError

    def __init__(self, *, responses: bool) -> None:
        self.responses = responses

    def chat(self, at: Where) -> str:
        return str(self._model(at).invoke(QUESTION).text)

    def stream(self, at: Where) -> str:
        return "".join(piece.text for piece in self._model(at).stream(QUESTION))

    def tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=False)

    def streamed_tools(self, at: Where) -> tuple[list[Any], str]:
        return self._tools(at, stream=True)

    def _tools(self, at: Where, *, stream: bool) -> tuple[list[Any], str]:
        model = self._model(at).bind_tools([TOOL], parallel_tool_calls=True)
        asked = HumanMessage(QUESTION)
        if stream:
            pieces = list(model.stream([asked]))
            message: Any = sum(pieces[1:], pieces[0])
        else:
            message = model.invoke([asked])
        results = [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in message.tool_calls]
        said = model.invoke([asked, message, *results])
        return [(call["name"], call["args"]) for call in message.tool_calls], str(said.text)

    def structured(self, at: Where) -> Weather:
        answer = self._model(at).with_structured_output(Weather, method="json_schema").invoke(QUESTION)
        assert isinstance(answer, Weather)
        return answer

    def image(self, at: Where) -> str:
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": PICTURE}}]
        return str(self._model(at).invoke([HumanMessage(parts)]).text)  # type: ignore[arg-type]

    def _model(self, at: Where) -> Any:
        return langchain_openai.ChatOpenAI(
            model=at.model, base_url=at.url, api_key=SecretStr(at.key), max_retries=0,
            use_responses_api=self.responses, timeout=60,
        )  # fmt: skip
