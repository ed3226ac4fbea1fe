"""Bounds on what a request holds, and its body read within them: parsing, routing and verifying it stay short."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

from serve_graph.errors import PayloadTooLargeError, RequestError

MAX_CHOICES = 8  # upper bound of `n`: each choice is generated, verified and paid for
MAX_DEPTH = 100  # Ray pickles requests recursively; a schema nests a dozen levels
MAX_TEXT_BYTES = 4 * 1024 * 1024  # of a body, images, audio and files apart: what is routed, checked and verified
MAX_SEPARATORS = 1_000_000  # commas and opening brackets: a bound on the values that parsing makes
MAX_VALUES = 100_000  # commas and opening brackets outside texts: parsing and validating values holds all threads
MAX_NAMES = 50_000  # colons outside texts: an object of 100,000 members takes eight times as long as an array
MAX_TOKEN_IDS = 300_000  # the same of a request for embeddings, as OpenAI has it
COUNTED_AT_ONCE = 64 * 1024  # bytes
MAX_NODES = 20_000  # objects and arrays: messages, parts, tools and their schemas; validating one takes some 5 µs
MAX_STOPS = 4  # stop sequences, as OpenAI has it: vLLM looks for each of them after every token
MAX_STOP_SEQUENCES = 64  # the same of a Messages request, whose own API takes more than four
PARSED_AT_ONCE = 64 * 1024  # bytes: a larger body is parsed beside the event loop
NODES_AT_ONCE = 500  # opening brackets: so is a body with more of them
SEPARATORS = (b",", b"[", b"{")
MAX_ITEMS = 20_000  # of all arrays together: a wrong one is a fault of its own
MOST_MEMBERS = 2048  # of one object
MAX_FAULTS = 500  # that are told apart: naming each takes 5 µs in which no other thread runs
MAX_DIGITS = 400  # of a whole number in a large body: floats have 309
MAX_FIELD_CHARS = 64 * 1024  # of a field that is no text to be answered: 1,024 biases take some 20,000
MAX_SCHEMA_CHARS = 1024 * 1024  # of tools, of a format and its schema, of a predicted answer
CONTENT = frozenset({"messages", "input", "prompt", "instructions", "system"})  # bounded as text, by MAX_TEXT_BYTES
SCHEMAS = frozenset("tools functions response_format text output_config output_format prediction".split())
MEDIA_KEYS = frozenset({"url", "data", "file_data", "image_url", "video_url", "audio_url"})


def read_object(body: bytes, most_values: int) -> dict[str, Any]:
    """Parse a JSON object within these bounds, and make sure that it can be sent to an engine as UTF-8 JSON.

    `most_values` is the most that `check_values` permits. Raises RequestError where it is no such object,
    PayloadTooLargeError where it is beyond a bound.
    """
    try:
        if len(body) > MAX_NAMES:
            check_values(body, most_values)
        whole = _whole_number if len(body) > MAX_NAMES else int
        text = body.decode("utf-8-sig")
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_number, parse_int=whole)
        if not isinstance(data, dict):
            raise RequestError("the request body must be a JSON object", code="invalid_json")
        if len(body) > MAX_TEXT_BYTES:
            check_text(body, data)
        check_shape(data, MAX_ITEMS if most_values == MAX_VALUES else most_values)
        # The only way to write half a character, in steps: one byte is found several times as fast as three.
        if b"\\" in body and b"\\u" in body and (b"\\ud" in body or b"\\uD" in body):
            check_unicode(data)
    except UnicodeDecodeError as error:
        raise RequestError(f"the request body is not valid UTF-8 (byte {error.start})", code="invalid_utf8") from None
    except UnicodeEncodeError:
        raise RequestError(
            "the request contains an unpaired surrogate, which is not valid Unicode", code="invalid_utf8"
        ) from None
    except RecursionError:
        message = f"the request nests arrays and objects more than {MAX_DEPTH} levels deep"
        raise RequestError(message, code="invalid_json") from None
    except ValueError as error:  # JSONDecodeError, NaN and infinities, integers of thousands of digits
        raise RequestError(f"the request body is not valid JSON: {error}", code="invalid_json") from None
    return data


def check_values(body: bytes, most: int) -> None:
    """Raise PayloadTooLargeError if parsing the body would make more than about `most` values, or MAX_NAMES members of
    objects; what texts hold does not count. Of a body of more than MAX_TEXT_BYTES it does: MAX_SEPARATORS.

    Counts up to the first place that is no JSON, where a parser stops too. In pieces, so that other threads can run.
    """
    separators = sum(map(body.count, SEPARATORS))
    if separators > MAX_SEPARATORS and len(body) > MAX_TEXT_BYTES:
        raise _too_much_text()
    if separators <= most and body.count(b":") <= MAX_NAMES:
        return
    values, names, at, in_text = 0, 0, 0, False
    while at < len(body):
        piece = body[at : at + COUNTED_AT_ONCE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # an escape is not cut in two
            piece = body[at : at + COUNTED_AT_ONCE + 1]
        at += len(piece)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        between = b"".join(parts[in_text::2])
        values += sum(map(between.count, SEPARATORS))
        names += between.count(b":")
        if values > most:
            raise _too_many("values", most)
        if names > MAX_NAMES:
            raise _too_many("members in objects", MAX_NAMES)
        in_text ^= len(parts) % 2 == 0


def check_text(body: bytes, data: dict[str, Any]) -> None:
    """Raise PayloadTooLargeError if the body holds more than MAX_TEXT_BYTES beside images, audio and files."""
    if len(body) - _media_chars(data) > MAX_TEXT_BYTES:
        raise _too_much_text()


def check_shape(data: dict[str, Any], most_items: int = MAX_ITEMS) -> None:
    """Raise RecursionError if the body nests deeper than MAX_DEPTH, PayloadTooLargeError for more than MAX_NODES, for
    more than `most_items` in arrays, and for an object of more than MOST_MEMBERS.
    """
    level: list[Any] = [data]
    found = items = 0
    for _ in range(MAX_DEPTH):
        found += len(level)
        if found > MAX_NODES:
            raise _too_many("objects and arrays", MAX_NODES)
        for node in level:
            if isinstance(node, list):
                items += len(node)
            elif len(node) > MOST_MEMBERS:
                raise _too_many("members in one object", MOST_MEMBERS)
        if items > most_items:
            raise _too_many("items in arrays", most_items)
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for nodes in children for child in nodes if isinstance(child, dict | list)]
        if not level:
            return
    raise RecursionError


def check_fields(data: dict[str, Any], known: Collection[str]) -> None:
    """Raise RequestError that names a field of more than MAX_FIELD_CHARS, or MAX_SCHEMA_CHARS: settings are hashed,
    compared, sent on and kept, so that each is bounded, whatever its name. Texts are not: those of `known` fields.
    """
    for name, value in data.items():
        if name in CONTENT and name in known:
            continue
        most = MAX_SCHEMA_CHARS if name in SCHEMAS else MAX_FIELD_CHARS
        if len(name) > MAX_FIELD_CHARS or _is_longer(value, most):
            message = f"{name[:80]} is longer than the {most} characters that it may have"
            raise RequestError(message, name[:80], "invalid_value")


def _is_longer(value: Any, most: int) -> bool:
    """Whether texts, names and numbers of a value have more characters than `most`, each of its members one more."""
    chars, left = 0, [value]
    while left and chars <= most:
        node = left.pop()
        chars += 1
        if isinstance(node, str):
            chars += len(node)
        elif isinstance(node, dict):
            chars += sum(map(len, node))
            left += node.values()
        elif isinstance(node, list):
            left += node
        elif isinstance(node, int) and not isinstance(node, bool):
            chars += node.bit_length() // 3
    return chars > most


def check_unicode(data: Any) -> None:
    """Raise UnicodeEncodeError if any text, or name of a member, holds half a character; looks into no ASCII."""
    left: list[Any] = [data]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            left += node
            left += node.values()
        elif isinstance(node, list):
            left += node
        elif isinstance(node, str) and not node.isascii():
            node.encode()


def first_items(node: Any, items: int = 16) -> Any:
    """Return a request without all but the first items of its arrays, and members of objects beyond a few dozen."""
    if isinstance(node, dict):
        return {name: first_items(node[name], items) for name in list(node)[: 4 * items]}
    return [first_items(one, items) for one in node[:items]] if isinstance(node, list) else node


def _too_many(what: str, most: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the request holds more than {most} {what}", code="payload_too_large")


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


def _refuse_constant(name: str) -> Any:
    """Raise ValueError for NaN and the infinities, which Python's parser would take."""
    raise ValueError(f"{name} is no number of JSON")


def _finite_number(text: str) -> float:
    """Return a number; raises ValueError for one beyond the range of 64-bit floats."""
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _whole_number(text: str) -> int:
    """Return a whole number; raises ValueError for one of more than MAX_DIGITS, which take long in their thousands."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:40]}… is too large a number")
    return int(text)
