"""instructor around the `openai` client: structured output and parallel tool calls as objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import instructor
import openai
from pydantic import BaseModel

from tests.clients.drivers import Driver
from tests.clients.exchanges import PICTURE, QUESTION, Weather, Where

ASKED = {"role": "user", "content": QUESTION}


class weather(BaseModel):  # noqa: N801 - its name is the tool's
    """The weather in a city."""

    city: str


class Instructor(Driver):
    """`create` in the modes TOOLS (without a model: plain chat), PARALLEL_TOOLS and JSON_SCHEMA."""

    package = "instructor"
    unknown_model = openai.NotFoundError
    wrong_key = openai.AuthenticationError

    def chat(self, at: Where) -> str:
        return str(self._create(at, response_model=None).choices[0].message.content)

    def stream(self, at: Where) -> str:
        pieces = self._create(at, response_model=None, stream=True)
        return "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)

    def tools(self, at: Where) -> tuple[list[Any], None]:
        made = self._create(at, instructor.Mode.PARALLEL_TOOLS, response_model=Iterable[weather])
        return [(type(call).__name__, call.model_dump()) for call in made], None

    def structured(self, at: Where) -> Weather:
        answer = self._create(at, instructor.Mode.JSON_SCHEMA, response_model=Weather)
        assert isinstance(answer, Weather)
        return answer

    def image(self, at: Where) -> str:
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": PICTURE}}]
        asked = [{"role": "user", "content": parts}]
        return str(self._create(at, response_model=None, messages=asked).choices[0].message.content)

    def _create(self, at: Where, mode: Any = instructor.Mode.TOOLS, messages: Any = (ASKED,), **fields: Any) -> Any:
        client = openai.OpenAI(base_url=at.url, api_key=at.key, max_retries=0, timeout=60)
        made = instructor.from_openai(client, mode=mode)
        return made.chat.completions.create(model=at.model, messages=list(messages), max_retries=0, **fields)
