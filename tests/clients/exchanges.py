"""What every client asks, what the API behind the hosted tier replies, and what a client must make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

QUESTION = "Is it raining in Oslo and in Bergen?"
ANSWER = "Ja: in Oslo, naïvely,\nand in Bergen ☃."
CALLS = (("weather", {"city": "Oslo"}), ("weather", {"city": "Bergen"}))
RESULTS = {"Oslo": "rain", "Bergen": "more rain"}
IDS = ("call_Oslo1", "call_Bergen2")
PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
HEAD = {"id": "chatcmpl-upstream", "created": 1_700_000_000, "model": "some-model-2026"}


class Weather(BaseModel):
    """What is asked for as structured output."""

    city: str
    raining: bool


OBJECT = {"city": "Oslo", "raining": True}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": PARAMETERS},
}


def weather(city: str) -> str:
    """The weather in a city."""
    return RESULTS[city]


@dataclass(frozen=True, slots=True)
class Where:
    """The endpoint, the key to show it and the model to ask for."""

    url: str
    key: str
    model: str


def says(text: str | None, *, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A whole reply of the API, as the echo server's script takes it."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason, "logprobs": None}
    return {"json": {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}}


def calls_both() -> dict[str, Any]:
    """A whole reply with two parallel calls."""
    return says(None, finish_reason="tool_calls", tool_calls=[_call(*each) for each in zip(IDS, CALLS, strict=True)])


def says_in_pieces(text: str) -> dict[str, Any]:
    """A streamed reply, four characters a chunk."""
    return _stream(*({"content": text[at : at + 4]} for at in range(0, len(text), 4)), finish_reason="stop")


def calls_both_in_pieces() -> dict[str, Any]:
    """A streamed reply with two parallel calls, as OpenAI streams them: id and name first, arguments in parts."""
    deltas = []
    for index, (name, call) in enumerate(zip(IDS, CALLS, strict=True)):
        whole = _call(name, call)
        text = whole["function"]["arguments"]
        opening = {"index": index, **whole, "function": {**whole["function"], "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        for at in range(0, len(text), 5):
            part = {"index": index, "function": {"arguments": text[at : at + 5]}}
            deltas.append({"tool_calls": [part]})
    return _stream(*deltas, finish_reason="tool_calls")


def _call(name: str, call: tuple[str, dict[str, str]]) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": call[0], "arguments": json.dumps(call[1])}}


def _stream(*deltas: dict[str, Any], finish_reason: str) -> dict[str, Any]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], "usage": None}

    last = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    pieces = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish_reason), last]
    return {"events": [*pieces, "data: [DONE]\n\n"]}
