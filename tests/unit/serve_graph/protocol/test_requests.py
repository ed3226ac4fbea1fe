"""Chat and text requests: what is taken, and what is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.api.responses import ResponsesRequest
from serve_graph.errors import RequestError
from serve_graph.protocol.bounds import MAX_DEPTH
from serve_graph.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    chat_query,
    engine_body,
    parse_request,
)
from tests.unit.serve_graph.protocol.bodies import HELLO, JSON, body


def refusal(raw: bytes, kind: type[Any] = ChatRequest) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_request(kind, raw)
    return caught.value


def join_states(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_plain_request_is_taken() -> None:
    request = parse_request(ChatRequest, body(temperature=0, max_tokens=5, stream=False, top_k=3))
    assert request.model == "auto"
    assert request.temperature == 0


def test_the_largest_numbers_engines_hold_are_taken() -> None:
    most = {"max_tokens": 2**31 - 1, "top_k": 2**31 - 1, "logit_bias": {"50256": -100, "0": 100}}
    request = parse_request(ChatRequest, body(**most))
    assert request.logit_bias == {"50256": -100, "0": 100}
    assert parse_request(ChatRequest, body(top_k=-1)).top_k == -1


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty_body"),
        (b" \n\t", "empty_body"),
        (b"{", "invalid_json"),
        (b"hello", "invalid_json"),
        (b"{'model': 'auto'}", "invalid_json"),
        (body()[:-1], "invalid_json"),
        (body() + b"}", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"[" + body() + b"]", "invalid_json"),
        (b'"auto"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"17", "invalid_json"),
        (b"\xff\xfe", "invalid_utf8"),
        (body().replace(b"hello", b"h\xe9llo"), "invalid_utf8"),
        (body().replace(b"hello", rb"\ud800"), "invalid_utf8"),
        (body().replace(b"auto", rb"\udfff"), "invalid_utf8"),
        (body(temperature=float("nan")), "invalid_json"),
        (body(temperature=float("inf")), "invalid_json"),
        (body(logit_bias={"1": float("-inf")}), "invalid_json"),
        (body().replace(b'"hello"', b"1e999"), "invalid_json"),
        (body(seed=0).replace(b'"seed": 0', b'"seed": ' + b"9" * 5000), "invalid_json"),
        (body(response_format={"x": join_states(MAX_DEPTH)}), "invalid_json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
    ],
    ids=lambda value: value[:24].decode("ascii", "replace") if isinstance(value, bytes) else value,
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes, code: str) -> None:
    error = refusal(raw)
    assert error.code == code
    assert "Traceback" not in str(error)


def test_a_surrogate_pair_is_ordinary_text() -> None:
    request = parse_request(ChatRequest, body().replace(b"hello", rb"\ud83d\ude00"))
    assert request.messages[0].content == "😀"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"colour": "blue"}, "colour", "unknown_field"),
        ({"stream_options": {"colour": 1}}, "stream_options", "unknown_field"),
        ({"model": None}, "model", "invalid_value"),
        ({"model": 3}, "model", "invalid_value"),
        ({"model": ""}, "model", "invalid_value"),
        ({"model": "m" * 300}, "model", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_value"),
        ({"messages": {"role": "user"}}, "messages", "invalid_value"),
        ({"messages": ["hello"]}, "messages", "invalid_value"),
        ({"messages": [{"content": "hello"}]}, "messages", "missing_field"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"text": "no type"}]}]}, "messages", "missing_field"),
        ({"messages": [{"role": "user", "content": "x"}] * 5000}, "messages", "invalid_value"),
        ({"n": 9}, "n", "unsupported_value"),
        ({"serve_graph": {"stream": "guess"}}, "serve_graph", "invalid_value"),
        ({"serve_graph": {"colour": "blue"}}, "serve_graph", "unknown_field"),
        ({"n": 0}, "n", "unsupported_value"),
        ({"n": "1"}, "n", "unsupported_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 10**30}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens", "invalid_value"),
        ({"min_tokens": 10**30}, "min_tokens", "invalid_value"),
        ({"top_k": 10**30}, "top_k", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"repetition_penalty": 1e300}, "repetition_penalty", "invalid_value"),
        ({"logit_bias": {"1": 10**30}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {str(10**30): 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"the": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": -5}, "max_completion_tokens", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": "warm"}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_p": 1.01}, "top_p", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stop": 7}, "stop", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options", "invalid_value"),
        ({"logit_bias": [1]}, "logit_bias", "invalid_value"),
        ({"tools": {}}, "tools", "invalid_value"),
        ({"metadata": {"k": 1}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_value"),
        ({"metadata": {str(i): "v" for i in range(17)}}, "metadata", "invalid_value"),
        ({"prompt": "hello"}, "prompt", "unknown_field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(body(**fields))
    assert (error.param, error.code) == (param, code)
    assert param in str(error)


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_field_that_is_missing_is_named(missing: str) -> None:
    error = refusal(json.dumps({k: v for k, v in HELLO.items() if k != missing}).encode())
    assert (error.param, error.code) == (missing, "missing_field")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None},
        {"prompt": ["a", "b"]},
        {"prompt": []},
        {"prompt": [1, 2]},
        {"echo": True},
        {"logprobs": 3},
        {"suffix": "x"},
        {"best_of": 2},
    ],
    ids=str,
)
def test_a_text_completion_refuses_what_it_does_not_do(fields: dict[str, Any]) -> None:
    raw = json.dumps({"model": "auto", "prompt": "hello"} | fields).encode()
    assert refusal(raw, CompletionRequest).param == next(iter(fields))


def test_messages_in_parts_are_routed_on_their_text() -> None:
    parts = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "two"},
    ]
    query = chat_query(parse_request(ChatRequest, body(messages=[{"role": "user", "content": parts}])))
    assert query.text == "one\ntwo"
    assert query.parameters["messages"] == [{"role": "user", "content": parts}]


@given(JSON)
def test_any_json_either_parses_or_is_refused(value: Any) -> None:
    for kind in (ChatRequest, CompletionRequest):
        try:
            parse_request(kind, json.dumps(value).encode())
        except RequestError:
            continue


@given(st.dictionaries(st.sampled_from(sorted(ChatRequest.model_fields)), JSON))
def test_any_json_in_known_fields_either_parses_or_is_refused(fields: dict[str, Any]) -> None:
    try:
        request = parse_request(ChatRequest, json.dumps(HELLO | fields).encode())
    except RequestError:
        return
    json.dumps(engine_body(chat_query(request), "tier", {}), allow_nan=False)


@given(st.binary(max_size=200))
def test_any_bytes_either_parse_or_are_refused(raw: bytes) -> None:
    try:
        parse_request(ChatRequest, raw)
    except RequestError:
        return


@pytest.mark.parametrize("setting", ["refuse", "ignore", "forward"])
def test_a_setting_is_named_only_where_it_would_help(setting: Any) -> None:
    request = json.dumps({"model": "auto", "prompt": "x", "messages": [], "tools": None}).encode()
    with pytest.raises(RequestError, match="unrecognized request argument") as refused:
        parse_request(CompletionRequest, request, setting)
    assert "policy.unknown_fields" not in str(refused.value)
    with pytest.raises(RequestError, match=r"colour; policy\.unknown_fields may"):
        parse_request(ChatRequest, body(colour="red"), "refuse")


UNTYPED = {"messages": [{"role": "user", "content": [{"image_url": {"url": "http://x/y.png"}}]}]}


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (ChatRequest, UNTYPED, "missing required field: messages.0.content.0.type"),
        (ChatRequest, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content: Input should be a"),
        (ChatRequest, {**HELLO, "stop": ["a", 1]}, "stop.1: Input should be a valid string"),
        (ChatRequest, {**HELLO, "tool_choice": 5}, "tool_choice: Input should be a valid string"),
        (CompletionRequest, {"prompt": [1, 2]}, "prompt: List should have at most 1 item"),
        (ResponsesRequest, {"input": [5]}, "input.0: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_place_and_no_type_of_ours(kind: Any, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request(kind, json.dumps({"model": "auto", **fields}).encode(), "refuse")
    assert str(refused.value).startswith(said)
