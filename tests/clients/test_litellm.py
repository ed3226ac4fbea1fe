"""LiteLLM as a client, unchanged."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeDecider, FakeEmbedder, FakeEngine

litellm = pytest.importorskip("litellm", reason="litellm is not installed (the clients extra has it)")
pytestmark = pytest.mark.filterwarnings("ignore")

Served = Callable[..., Any]
LONG = "A long answer, with ☃ and\nnew lines: " + "wörd " * 40
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def ask(at: Any, **fields: Any) -> Any:
    messages = fields.pop("messages", [{"role": "user", "content": "hello"}])
    return litellm.completion(
        model="openai/auto", messages=messages, api_base=at.url, api_key="none", num_retries=0, timeout=60, **fields
    )


def test_it_answers(served: Served) -> None:
    reply = ask(served(), temperature=0, max_tokens=9, metadata={})
    assert (reply.choices[0].message.content, reply.usage.total_tokens) == ("cheap says", 15)


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
def test_it_streams(served: Served, tier: str) -> None:
    at = served(**{tier: FakeEngine(LONG)}, decider=FakeDecider(tier))
    pieces = list(ask(at, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices) == LONG


def test_a_tool_loop_goes_round(served: Served) -> None:
    at = served(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    message = ask(at, tools=TOOLS).choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    at.context.decider.tier = "cheap"
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    ask(at, tools=TOOLS, messages=[{"role": "user", "content": "hello"}, message.model_dump(), result])
    assert at.sink.records[-1].tier == "frontier"


def test_its_errors_are_openais(served: Served) -> None:
    at = served()
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(
            model="openai/gpt-17", messages=[{"role": "user", "content": "x"}], api_base=at.url, api_key="none"
        )


def test_it_embeds(served: Served) -> None:
    at = served(embedder=FakeEmbedder())
    reply = litellm.embedding(
        model="openai/auto", input=["a"], api_base=at.url, api_key="none", encoding_format="float"
    )
    assert reply.data[0]["embedding"] == [0.25, 0.5]
