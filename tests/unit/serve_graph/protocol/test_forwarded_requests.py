"""What of a request goes on to an engine, and how its reply is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Message, Query, Usage
from serve_graph.errors import RequestError
from serve_graph.protocol.fields import OWN_NAMES
from serve_graph.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    chat_query,
    completion_query,
    engine_body,
    parse_request,
)
from serve_graph.protocol.responses import completion_of, text_pieces, usage_json, usage_of
from tests.unit.serve_graph.protocol.bodies import HELLO, JSON, body


@given(
    response_format=st.none() | st.dictionaries(st.text(), JSON.filter(lambda v: v == v), max_size=3),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.none() | st.text() | st.lists(st.text(), max_size=3),
    extra=st.dictionaries(
        st.text(min_size=1).filter(lambda s: s not in ("role", "content")), st.text() | st.integers(), max_size=3
    ),
    contents=st.lists(st.text(), min_size=1, max_size=4),
)
def test_nothing_is_lost_on_the_way_to_the_engine(
    response_format: Any, seed: int | None, stop: Any, extra: dict[str, Any], contents: list[str]
) -> None:
    messages = [{"role": "user", "content": content, **extra} for content in contents]
    sent = {"response_format": response_format, "seed": seed, "stop": stop, "messages": messages}
    try:
        request = parse_request(ChatRequest, json.dumps({"model": "auto", **sent}).encode())
    except RequestError:  # NaN, infinities and lone surrogates inside
        return
    got = engine_body(chat_query(request), "cheap", {})
    for name, value in sent.items():
        assert got.get(name) == value
    assert got["model"] == "cheap"


def test_nulls_inside_a_json_schema_are_kept() -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"enum": ["a", None], "default": None}}}
    query = chat_query(parse_request(ChatRequest, body(response_format=schema)))
    assert query.parameters["response_format"] == schema


def test_what_concerns_the_endpoint_alone_is_not_forwarded() -> None:
    fields = {"metadata": {"task": "sum", "serve_graph.abstain": "forbid"}, "user": "u1", "stream": True}
    fields |= {"serve_graph": {"stream": "route"}, "stream_options": {"include_usage": True}}
    query = chat_query(parse_request(ChatRequest, body(**fields)))
    assert query.metadata == {"task": "sum", "serve_graph.abstain": "forbid"}
    always = {"messages", "model", "logprobs", "top_logprobs"}
    assert set(engine_body(query, "t", {}, "vllm")) == always
    got = engine_body(query, "t", {}, "openai")
    assert set(got) == always | {"metadata", "user"}
    assert got["metadata"] == {"task": "sum"}


def test_max_completion_tokens_is_max_tokens_to_the_engine() -> None:
    query = chat_query(parse_request(ChatRequest, body(max_completion_tokens=7)))
    assert engine_body(query, "t", {"max_tokens": 256})["max_tokens"] == 7


def test_the_callers_settings_win_over_the_tiers() -> None:
    query = chat_query(parse_request(ChatRequest, body(temperature=0.7)))
    got = engine_body(query, "t", {"temperature": 0.0, "max_tokens": 256})
    assert (got["temperature"], got["max_tokens"]) == (0.7, 256)


def test_an_explicit_null_leaves_the_tiers_setting() -> None:
    query = chat_query(parse_request(ChatRequest, body(temperature=None)))
    assert engine_body(query, "t", {"temperature": 0.3})["temperature"] == 0.3


def test_a_text_completion_becomes_one_user_message() -> None:
    query = completion_query(parse_request(CompletionRequest, b'{"model": "auto", "prompt": "2+2", "max_tokens": 3}'))
    assert query == Query((Message("user", "2+2"),), {}, {"max_tokens": 3})
    assert engine_body(query, "t", {})["messages"] == [{"role": "user", "content": "2+2"}]
    listed = completion_query(
        parse_request(CompletionRequest, b'{"model": "auto", "prompt": ["2+2"], "max_tokens": 3}')
    )
    assert listed == query


def test_an_engines_reply_is_read_whole() -> None:
    payload = {
        "choices": [
            {
                "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "length",
                "logprobs": {"content": [{"token": "hi", "logprob": -0.5}]},
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    completion = completion_of(payload, 0.5)
    assert (completion.text, completion.finish_reason, completion.latency_s) == ("hi", "length", 0.5)
    assert completion.usage == Usage(3, 1, 2)
    assert completion.token_logprobs == (-0.5,)
    assert completion.payload is payload


def test_an_engines_reply_may_lack_text_usage_and_logprobs() -> None:
    completion = completion_of({"choices": [{"message": {"tool_calls": []}}]}, 0.0)
    assert (completion.text, completion.finish_reason, completion.usage) == ("", "stop", Usage())


def test_usage_survives_both_ways() -> None:
    for usage in (Usage(7, 5), Usage(7, 5, 3), Usage(7, 5, 3, 2)):
        assert usage_of(usage_json(usage)) == usage
    assert usage_json(Usage(7, 5))["total_tokens"] == 12


@given(st.text(), st.integers(1, 50))
def test_pieces_joined_are_the_text_again(text: str, size: int) -> None:
    assert "".join(text_pieces(text, size)) == text


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
@pytest.mark.parametrize(("kind", "fields"), [(ChatRequest, HELLO), (CompletionRequest, {"prompt": "x"})])
def test_a_name_that_the_endpoint_sets_itself_is_never_forwarded(kind: Any, fields: Any, name: str) -> None:
    request = json.dumps({"model": "auto", **fields, name: {"type": "ephemeral"}, "top_a": 1}).encode()
    with pytest.raises(RequestError, match=f"unrecognized request argument: {name}"):
        parse_request(kind, request, "forward")
    assert parse_request(kind, request, "ignore").extras == {}
