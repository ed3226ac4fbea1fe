"""Photos pass; text, and the number of values that parsing makes, stay bounded."""

import json
import time
from typing import Any

import pytest

from serve_graph.errors import PayloadTooLargeError, RequestError
from serve_graph.protocol.requests import MAX_TEXT_BYTES, ChatRequest, parse_request

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
