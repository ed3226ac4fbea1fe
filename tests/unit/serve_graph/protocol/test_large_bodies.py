"""Photos pass; text, and the number of values that parsing makes, stay bounded."""

import json
import time
from typing import Any

import pytest

from serve_graph.access.turns import LONGEST_WAIT_S, Turns
from serve_graph.api.messages import MessagesRequest
from serve_graph.api.responses import ResponsesRequest
from serve_graph.errors import PayloadTooLargeError, RequestError
from serve_graph.protocol.bounds import (
    MAX_FAULTS,
    MAX_FIELD_CHARS,
    MAX_ITEMS,
    MAX_NAMES,
    MAX_NODES,
    MAX_TEXT_BYTES,
    MAX_TOKEN_IDS,
    MAX_VALUES,
    MOST_MEMBERS,
)
from serve_graph.protocol.embeddings import EmbeddingsRequest
from serve_graph.protocol.requests import ChatRequest, CompletionRequest, parse_request

PHOTO = "data:image/png;base64," + "A" * 8_000_000
MANY = 9_000_000


def body(*parts: dict[str, Any], **fields: Any) -> bytes:
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, *parts]}]
    return json.dumps({"model": "auto", "messages": messages, **fields}).encode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": PHOTO, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": PHOTO, "format": "wav"}},
        {"type": "file", "file": {"file_data": PHOTO, "filename": "a.pdf"}},
        {"type": "video_url", "video_url": {"url": PHOTO}},
        {"type": "input_image", "image_url": PHOTO},
    ],
    ids=lambda part: str(part["type"]),
)
def test_a_photo_or_a_file_is_taken(part: dict[str, Any]) -> None:
    request = parse_request(ChatRequest, body(part, part))
    assert request.messages[0].content is not None


@pytest.mark.parametrize(
    "raw",
    [
        body({"type": "text", "text": "word " * (MAX_TEXT_BYTES // 5)}),
        body(*({"type": "text", "text": "word " * 100_000} for _ in range(10))),
        body(response_format={"type": "json_schema", "description": "x" * MAX_TEXT_BYTES}),
        b'{"model": "auto", "messages": [' + b"[]," * (MANY // 3) + b"[]]}",
        b'{"model": "auto", "messages": [' + b"1," * (MANY // 2) + b"1]}",
        b'{"model": "auto", "messages": ' + b'{"":' * (MANY // 4),
        b'{"url": ["' + b'","' * (MANY // 3),
    ],
    ids=["one text", "texts", "schema", "lists", "numbers", "nested", "strings"],
)
def test_text_or_values_without_end_are_refused_soon(raw: bytes) -> None:
    started = time.process_time()
    with pytest.raises(PayloadTooLargeError, match="beside images, audio and files"):
        parse_request(ChatRequest, raw)
    assert time.process_time() - started < 2.0


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_request(ChatRequest, b"\xef\xbb\xbf" + body()).model == "auto"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_no_engine_can_hold_is_refused(number: str) -> None:
    with pytest.raises(RequestError, match="not valid JSON"):
        parse_request(ChatRequest, body().replace(b'"auto"', b'"auto", "logit_bias": {"5": %b}' % number.encode()))


@pytest.mark.parametrize("half", ["\\ud83d", "\\uD83D", "\\ude00", "a\\uDE00b"])
def test_half_a_character_is_refused_wherever_it_stands(half: str) -> None:
    with pytest.raises(RequestError, match="unpaired surrogate"):
        parse_request(ChatRequest, body().replace(b"what is", half.encode()))


@pytest.mark.parametrize(
    "raw",
    [
        body(*[{"type": "text", "text": ""}] * MAX_NODES),
        body(*[{}] * MAX_NODES),
        body(tools=[{"type": "function", "function": {"name": "f", "parameters": {"anyOf": [{}] * MAX_NODES}}}]),
        body(response_format={"type": "json_schema", "json_schema": {"schema": {"enum": [[]] * MAX_NODES}}}),
        body(metadata=[[[]] * 9] * (MAX_NODES // 9)),
    ],
    ids=["parts", "empty parts", "tools", "a schema", "metadata"],
)
def test_objects_without_end_are_refused_before_they_are_validated(raw: bytes) -> None:
    started = time.process_time()
    with pytest.raises(PayloadTooLargeError, match=r"more than 20000 (objects and|items in) arrays"):
        parse_request(ChatRequest, raw)
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("kind", "field", "most"),
    [(ChatRequest, "stop", 4), (CompletionRequest, "stop", 4), (MessagesRequest, "stop_sequences", 64)],
)
def test_stop_sequences_are_few_and_short(kind: Any, field: str, most: int) -> None:
    rest = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}], "prompt": "a"}
    rest.pop("prompt" if kind is not CompletionRequest else "messages")
    assert parse_request(kind, json.dumps(rest | {field: ["a"] * most}).encode())
    for given in (["a"] * (most + 1), ["a"] * 19_000, ["a" * 5_000]):
        with pytest.raises(RequestError, match=f"{field}"):
            parse_request(kind, json.dumps(rest | {field: given}).encode())


TRICKS = {
    "zeros": b"[" + b"0," * MAX_VALUES + b"0]",
    "stop sequences": b'["' + b'a","' * MAX_VALUES + b'"]',
    "empty texts": b"[" + b'"",' * MAX_VALUES + b'""]',
    "after a text that ends in a backslash": b'["a\\\\",' + b"0," * MAX_VALUES + b"0]",
    "after an escaped quote": b'["a\\"",' + b"0," * MAX_VALUES + b"0]",
    "names and values": b"{" + b",".join(b'"%d":1' % i for i in range(MAX_NAMES + 1)) + b"}",
    "names in many objects": b"[" + b'{"a":1,"b":2},' * (MAX_NAMES // 2) + b"{}]",
    "between texts": b"[" + b'"' + b"," * 70_000 + b'",' + b"0," * MAX_VALUES + b"0]",
}


@pytest.mark.parametrize("field", ["messages", "stop", "metadata", "tools"])
@pytest.mark.parametrize("values", TRICKS.values(), ids=TRICKS)
def test_values_without_end_are_refused_before_they_are_parsed(field: str, values: bytes) -> None:
    raw = body()[:-1] + b', "%b": %b}' % (field.encode(), values)
    with pytest.raises(PayloadTooLargeError, match=r"more than \d+ (values|members in objects)"):
        parse_request(ChatRequest, raw)


@pytest.mark.parametrize(
    "text", ["1,2,[3],{4}\n" * 40_000, 'a,"b"\n' * 60_000, "\\" * 65_535 + '",' * 120_000, '\\",[' * 50_000]
)
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_commas_and_brackets_inside_texts_are_no_values(text: str, shift: int) -> None:
    request = parse_request(ChatRequest, body({"type": "text", "text": "x" * shift + text}))
    assert request.messages[0].content is not None


def test_as_many_token_ids_are_embedded_as_openai_takes() -> None:
    ids = [[7] * 1000] * (MAX_TOKEN_IDS // 1000 - 1)
    raw = json.dumps({"model": "embedder", "input": ids}, separators=(",", ":"))
    assert len(parse_request(EmbeddingsRequest, raw.encode()).input) == len(ids)
    with pytest.raises(PayloadTooLargeError, match="values"):
        parse_request(EmbeddingsRequest, json.dumps({"model": "embedder", "input": [*ids, *ids]}).encode())


HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
MANY_FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "items of an array": (ChatRequest, HELLO | {"tools": [0] * (MAX_ITEMS + 1)}, "items in arrays"),
    "items of many": (ChatRequest, HELLO | {"tools": [{"a": [0] * 99}] * (MAX_ITEMS // 99)}, "items in arrays"),
    "members": (ChatRequest, HELLO | {f"u{i}": 1 for i in range(MOST_MEMBERS + 1)}, "members in one object"),
    "wrong items": (ChatRequest, HELLO | {"tools": [0] * 9_000}, r"tools\.0"),
    "wrong parts": (
        ChatRequest,
        {"model": "a", "messages": [{"role": "user", "content": [0] * 9_000}]},
        r"messages\.0",
    ),
    "wrong blocks": (
        MessagesRequest,
        {"model": "a", "max_tokens": 1, "messages": [{"role": "user", "content": [{}] * 9_000}]},
        r"messages\.0\.content\.0",
    ),
    "unknown fields": (ChatRequest, HELLO | {f"u{i}": 1 for i in range(MAX_FAULTS + 1)}, "u0"),
    "after those that are looked at": (ChatRequest, HELLO | {"tools": [{}] * 99 + [0] * 999}, "not of their types"),
}


@pytest.mark.parametrize(("kind", "fields", "named"), MANY_FAULTS.values(), ids=MANY_FAULTS)
def test_of_very_many_faults_one_is_named_and_the_others_are_not_looked_at(
    kind: Any, fields: dict[str, Any], named: str
) -> None:
    for unknown_fields in ("refuse", "ignore", "forward"):
        started = time.process_time()
        with pytest.raises(RequestError, match=named):
            parse_request(kind, json.dumps(fields).encode(), unknown_fields)
        assert time.process_time() - started < 1.0


def test_numbers_of_thousands_of_digits_are_refused_where_there_could_be_many() -> None:
    """Reading a thousand of them takes 80 ms, in which no other thread runs."""
    many = "[" + ",".join(["9" * 4_000] * 900) + "]"
    with pytest.raises(RequestError, match="too large a number"):
        parse_request(ChatRequest, body()[:-1] + b', "tools": ' + many.encode() + b"}")
    kept = body(tools=[{"a": 10**300}], user="x" * 60_000)
    assert parse_request(ChatRequest, kept).tools == [{"a": 10**300}]


@pytest.mark.parametrize("said", ["what is this?", "what is this? \\ud83d\\ude00"], ids=["plain", "with an emoji"])
async def test_a_key_that_sends_photos_need_not_rest(said: str) -> None:
    photo = body({"type": "image_url", "image_url": {"url": PHOTO + "A" * 4_000_000}})
    sent, turns = photo.replace(b"what is this?", said.encode()), Turns()
    for _ in range(2):
        await turns.run_on("a", len(sent), lambda: parse_request(ChatRequest, sent))
        assert turns.resting_s("a") < LONGEST_WAIT_S


@pytest.mark.parametrize("where", [{"x": "\\ud800"}, {"\\ud800": "x"}, {"x": ["\\udfff"]}, {"é": [{"y": "é\\udc00"}]}])
def test_half_a_character_is_found_in_names_and_texts_wherever_it_stands(where: dict[str, Any]) -> None:
    sent = body({"type": "image_url", **where}).replace(b"\\\\", b"\\")
    with pytest.raises(RequestError, match="unpaired surrogate"):
        parse_request(ChatRequest, sent)


LONG = "x" * (MAX_FIELD_CHARS + 1)
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = CHAT | {"max_tokens": 5}
RESPONSES = {"model": "auto", "input": "hi"}
TOO_LONG: dict[str, tuple[Any, dict[str, Any]]] = {
    "user": (ChatRequest, CHAT | {"user": LONG}),
    "prompt_cache_key": (ChatRequest, CHAT | {"prompt_cache_key": LONG}),
    "safety_identifier": (ResponsesRequest, RESPONSES | {"safety_identifier": LONG}),
    "chat_template_kwargs": (ChatRequest, CHAT | {"chat_template_kwargs": {"a": [{"b": LONG}]}}),
    "tool_choice": (ChatRequest, CHAT | {"tool_choice": {"type": "function", "function": {"name": LONG}}}),
    "modalities": (ChatRequest, CHAT | {"modalities": ["text" * 99] * 999}),
    "prompt_cache_options": (ChatRequest, CHAT | {"prompt_cache_options": {f"{i:064}": i for i in range(1_100)}}),
    "client_metadata": (ResponsesRequest, RESPONSES | {"client_metadata": {"a": LONG}}),
    "include": (ResponsesRequest, RESPONSES | {"include": ["a" * 100] * 700}),
    "cache_control": (MessagesRequest, MESSAGES | {"cache_control": {"type": LONG}}),
    "logit_bias": (CompletionRequest, {"model": "auto", "prompt": "hi", "logit_bias": {LONG: 1}}),
    "tools": (ChatRequest, CHAT | {"tools": [{"type": "function", "function": {"name": "f", "x": LONG * 17}}]}),
    "response_format": (ChatRequest, CHAT | {"response_format": {"type": LONG * 17}}),
    "output_format": (
        MessagesRequest,
        MESSAGES | {"output_format": {"type": "json_schema", "schema": {LONG * 17: 1}}},
    ),
    "guided_json": (ChatRequest, CHAT | {"guided_json": {"enum": [LONG]}}),
    "nvext": (ChatRequest, CHAT | {"nvext": [10**300] * 999}),
    "input": (ChatRequest, CHAT | {"input": LONG}),
    "dimensions": (EmbeddingsRequest, {"model": "e", "input": "hi", "dimensions": LONG}),
}


@pytest.mark.parametrize(("name", "kind", "fields"), [(name, *sent) for name, sent in TOO_LONG.items()], ids=TOO_LONG)
def test_no_field_but_the_texts_is_long_whatever_its_name(name: str, kind: Any, fields: dict[str, Any]) -> None:
    for unknown_fields in ("forward", "ignore", "refuse"):
        with pytest.raises(RequestError, match=f"{name} is longer than the \\d+ characters") as refused:
            parse_request(kind, json.dumps(fields).encode(), unknown_fields)
        assert refused.value.param == name


def test_a_name_that_is_a_text_is_refused_and_quoted_in_part() -> None:
    with pytest.raises(RequestError, match=r"^x{80} is longer than") as refused:
        parse_request(ChatRequest, json.dumps(CHAT | {LONG: 1}).encode(), "forward")
    assert len(str(refused.value)) < 200


def test_all_that_openai_and_vllm_take_is_within_the_bounds() -> None:
    full = {
        "logit_bias": {str(i): -100.0 for i in range(9_000, 10_024)},
        "metadata": {f"{i:064}": "x" * 512 for i in range(16)},
        "tools": [{"type": "function", "function": {"name": f"{i}", "description": "x" * 1024}} for i in range(512)],
        "prediction": {"type": "content", "content": "word " * 100_000},
    }
    assert parse_request(ChatRequest, json.dumps(CHAT | full).encode()).prediction == full["prediction"]
