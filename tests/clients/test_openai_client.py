"""The `openai` client over a real socket, unchanged: everything it can ask for."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from router_models.types import Action
from serve_graph.cascade.fakes import FakeDecider, FakeEmbedder, FakeEngine, FakeJudge
from serve_graph.errors import EngineError

Served = Callable[..., Any]
LONG = "A long answer, with ☃ and\nnew lines: " + "wörd " * 40
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "strict": True,
            "parameters": {"type": "object", "additionalProperties": False},
        },
    }
]
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


def client_of(at: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url=at.url, max_retries=0, timeout=60)


@pytest.mark.parametrize("mode", ["verify", "prefix", "route"])
def test_it_streams_in_every_mode(served: Served, mode: str) -> None:
    at = served(cheap=FakeEngine(LONG), prefix_tokens=4)
    with client_of(at) as client:
        pieces = list(
            client.chat.completions.create(
                **HELLO,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"serve_graph": {"stream": mode}},
            )
        )
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == LONG
    assert pieces[-1].usage.total_tokens == 15
    assert pieces[-1].serve_graph["tier"] == "cheap"


def test_its_stream_helper_gathers_tool_calls(served: Served) -> None:
    at = served(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    with client_of(at) as client, client.chat.completions.stream(**HELLO, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    assert final.choices[0].finish_reason == "tool_calls"


def test_its_parse_helper_reads_structured_output(served: Served) -> None:
    class Answer(BaseModel):
        city: str

    at = served(cheap=FakeEngine('{"city": "Oslo"}'))
    with client_of(at) as client:
        parsed = client.chat.completions.parse(**HELLO, response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(city="Oslo")


def test_errors_are_its_own_exceptions(served: Served) -> None:
    with client_of(served(frontier=FakeEngine(error=EngineError("died")))) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**HELLO | {"model": "gpt-17"})
        with pytest.raises(openai.BadRequestError, match="n must be"):
            client.chat.completions.create(**HELLO, n=100)
        with pytest.raises(openai.InternalServerError, match="died"):
            client.chat.completions.create(**HELLO | {"model": "frontier"})
        with pytest.raises(openai.NotFoundError, match="no embeddings"):
            client.embeddings.create(model="auto", input="x")


def test_stream_that_breaks_off_is_an_exception(served: Served) -> None:
    frontier = FakeEngine(LONG, break_after=5, breaks_with=EngineError("the replica died"))
    with (
        client_of(served(frontier=frontier)) as client,
        pytest.raises(openai.APIError, match="the replica died"),
    ):
        list(client.chat.completions.create(**HELLO | {"model": "frontier"}, stream=True))


def test_silence_before_the_commit_is_borne(served: Served) -> None:
    at = served(cheap=FakeEngine("cheap says", slow_s=0.3), judge=FakeJudge(Action.ESCALATED), keep_alive_s=0.05)
    with client_of(at) as client:
        pieces = list(client.chat.completions.create(**HELLO, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "frontier says"


def test_text_completions_models_and_embeddings(served: Served) -> None:
    with client_of(served(embedder=FakeEmbedder())) as client:
        assert client.completions.create(model="auto", prompt="x").choices[0].text == "cheap says"
        assert [model.id for model in client.models.list()] == ["auto", "cheap", "frontier"]
        assert client.embeddings.create(model="auto", input=["a"], encoding_format="float").data[0].embedding == [
            0.25,
            0.5,
        ]


def test_its_responses_helper_streams(served: Served) -> None:
    at = served(cheap=FakeEngine(LONG))
    with client_of(at) as client, client.responses.stream(model="auto", input="hello") as stream:
        assert stream.get_final_response().output_text == LONG
