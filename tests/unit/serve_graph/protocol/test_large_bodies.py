"""Photos pass; text, and the number of values that parsing makes, stay bounded."""

import json
import time
from typing import Any

import pytest

from serve_graph.api.messages import MessagesRequest
from serve_graph.errors import PayloadTooLargeError, RequestError
from serve_graph.protocol.bounds import MAX_NODES
from serve_graph.protocol.requests import MAX_TEXT_BYTES, ChatRequest, CompletionRequest, parse_request

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
    with pytest.raises(PayloadTooLargeError, match=f"more than {MAX_NODES} objects and arrays"):
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
    for given in (["a"] * (most + 1), ["a"] * 400_000, ["a" * 5_000]):
        with pytest.raises(RequestError, match=f"{field}"):
            parse_request(kind, json.dumps(rest | {field: given}).encode())
