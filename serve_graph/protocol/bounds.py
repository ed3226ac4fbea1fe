"""Bounds on what a request holds: they keep parsing, routing and verifying it short, whatever its size in bytes."""

from __future__ import annotations

import math
from typing import Any

from serve_graph.errors import PayloadTooLargeError

MAX_CHOICES = 8  # upper bound of `n`: each choice is generated, verified and paid for
MAX_DEPTH = 100  # Ray pickles requests recursively; a schema nests a dozen levels
MAX_TEXT_BYTES = 4 * 1024 * 1024  # of a body, images, audio and files apart: what is routed, checked and verified
MAX_SEPARATORS = 1_000_000  # commas and opening brackets: a bound on the values that parsing makes
MAX_NODES = 20_000  # objects and arrays: messages, parts, tools and their schemas; validating one takes some 5 µs
MAX_STOPS = 4  # stop sequences, as OpenAI has it: vLLM looks for each of them after every token
MAX_STOP_SEQUENCES = 64  # the same of a Messages request, whose own API takes more than four
PARSED_AT_ONCE = 64 * 1024  # bytes: a larger body is parsed beside the event loop
NODES_AT_ONCE = 500  # opening brackets: so is a body with more of them
MEDIA_KEYS = frozenset({"url", "data", "file_data", "image_url", "video_url", "audio_url"})


def check_separators(body: bytes) -> None:
    """Raise PayloadTooLargeError if parsing the body could make too many values; those inside texts count too."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_SEPARATORS:
        raise _too_much_text()


def check_text(body: bytes, data: dict[str, Any]) -> None:
    """Raise PayloadTooLargeError if the body holds more than MAX_TEXT_BYTES beside images, audio and files."""
    if len(body) - _media_chars(data) > MAX_TEXT_BYTES:
        raise _too_much_text()


def check_shape(data: dict[str, Any]) -> None:
    """Raise RecursionError if the body nests deeper than MAX_DEPTH, PayloadTooLargeError for more than MAX_NODES."""
    level: list[Any] = [data]
    found = 0
    for _ in range(MAX_DEPTH):
        found += len(level)
        if found > MAX_NODES:
            message = f"the request holds more than {MAX_NODES} objects and arrays"
            raise PayloadTooLargeError(message, code="payload_too_large")
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for nodes in children for child in nodes if isinstance(child, dict | list)]
        if not level:
            return
    raise RecursionError


def _too_much_text() -> PayloadTooLargeError:
    message = f"the request holds more than {MAX_TEXT_BYTES} bytes beside images, audio and files"
    return PayloadTooLargeError(message, code="payload_too_large")


def _media_chars(data: dict[str, Any]) -> int:
    """Return the length of the URLs and the base64 data in a request."""
    chars = 0
    left: list[Any] = [data]
    while left:
        node = left.pop()
        for key, value in node.items() if isinstance(node, dict) else ((None, value) for value in node):
            if isinstance(value, dict | list):
                left.append(value)
            elif key in MEDIA_KEYS and isinstance(value, str):
                chars += len(value)
    return chars


def refuse_constant(name: str) -> Any:
    """Raise ValueError for NaN and the infinities, which Python's parser would take."""
    raise ValueError(f"{name} is no number of JSON")


def finite_number(text: str) -> float:
    """Return a number; raises ValueError for one beyond the range of 64-bit floats."""
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
