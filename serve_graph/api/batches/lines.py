"""The lines of a batch's input file: read in pieces, and what is wrong with one, in OpenAI's words."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from router_models.errors import by_number
from serve_graph.errors import RequestError
from serve_graph.records.batches.file_storage import FILE_PIECE

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
MOST_ERRORS = 100
"""Faults of a file that are told; the first ones."""
CUSTOM_ID_CHARS = 512
CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*("(?:[^"\\]|\\.)*")')
ENDS_A_LINE = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
"""What text may hold and a line of a result not: what `str.splitlines` ends lines at, and halves of characters."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, from 1, and its bytes without their end. `too_long`: they were not read to their end."""

    number: int
    text: bytes
    too_long: bool = False


def read_lines(file: IO[bytes], most_bytes: int) -> Iterator[Line]:
    """The lines of a file that are not blank, with any line ends and without a byte order mark.

    Of a line longer than `most_bytes` no more than that is kept in memory.
    """
    number, left, too_long = 0, b"", False
    while True:
        piece = file.read(FILE_PIECE)
        *whole, rest = (left + piece).split(b"\n")
        for text in whole:
            number += 1
            if not too_long and not text.strip():
                continue  # a file may be millions of blank lines
            if (line := _line(number, text, most_bytes, too_long)) is not None:
                yield line
            too_long = False
        left = rest
        if len(left) > most_bytes + 2:  # a carriage return, and a byte that shows it is too long
            left, too_long = left[: most_bytes + 2], True
        if not piece:
            break
    if (line := _line(number + 1, left, most_bytes, too_long)) is not None:
        yield line


def _line(number: int, text: bytes, most_bytes: int, too_long: bool) -> Line | None:
    text = text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text
    text = text.removesuffix(b"\r")
    if not text.strip() and not too_long:
        return None
    return Line(number, text[:most_bytes], too_long or len(text) > most_bytes)


@dataclass
class InputCheck:
    """What is wrong with an input file. Lines are shown one by one (`add`); `errors` are OpenAI's BatchError.

    `most_lines` bounds the texts to embed as well, of which a line may have many: `inputs` are those so far.
    """

    endpoint: str
    most_lines: int
    most_line_bytes: int
    total: int = 0
    last: int = 0
    inputs: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def add(self, line: Line) -> bool:
        """Look at a line; whether the next one is worth looking at."""
        self.total, self.last = self.total + 1, line.number
        if self.total > self.most_lines:
            self.errors = [
                fault(
                    "too_many_tasks",
                    f"a batch may have at most {self.most_lines} {by_number(self.most_lines, 'request')}",
                )
            ]
            return False
        found = self._fault(line)
        if found is not None:
            self.errors.append(fault(*found, line=line.number))
        if self.inputs > self.most_lines:
            self.errors = [fault("too_many_tasks", f"a batch may embed at most {self.most_lines} inputs")]
            return False
        return len(self.errors) < MOST_ERRORS

    def done(self) -> list[dict[str, Any]]:
        """All faults, once the last line was shown."""
        if self.total == 0:
            return [fault("empty_file", "the file holds no requests: each of its lines is one, as JSON")]
        return self.errors

    def _fault(self, line: Line) -> tuple[str, str, str | None] | None:
        if line.too_long:
            return "line_too_long", f"this line is longer than {self.most_line_bytes} bytes", None
        try:
            data = json.loads(line.text)
        except (ValueError, RecursionError):
            return "invalid_json_line", "this line is not parseable as valid JSON", None
        if not isinstance(data, dict):
            return "invalid_json_line", "this line is JSON, but no object", None
        name = data.get("custom_id")
        if not isinstance(name, str) or not 0 < len(name) <= CUSTOM_ID_CHARS:
            what = f"custom_id is required: a text of at most {CUSTOM_ID_CHARS} characters"
            return "missing_required_parameter" if name is None else "invalid_type", what, "custom_id"
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            return "duplicate_custom_id", f"the custom_id {name[:80]!r} is that of an earlier line", "custom_id"
        self._seen.add(digest)
        if data.get("method") != "POST":
            code = "missing_required_parameter" if data.get("method") is None else "invalid_method"
            return code, "method must be POST", "method"
        if data.get("url") != self.endpoint:
            code = "missing_required_parameter" if data.get("url") is None else "url_mismatch"
            return code, f"url must be the batch's endpoint, {self.endpoint}", "url"
        if not isinstance(data.get("body"), dict):
            code = "missing_required_parameter" if data.get("body") is None else "invalid_type"
            return code, "body must be an object: the request", "body"
        if self.endpoint == "/v1/embeddings":
            self.inputs += _inputs(data["body"].get("input"))
        return None


def _inputs(given: Any) -> int:
    """How many texts an embeddings request has: one, or a list of texts or of lists of tokens."""
    return len(given) if isinstance(given, list) and not any(isinstance(one, int) for one in given) else 1


def fault(code: str, message: str, param: str | None = None, line: int | None = None) -> dict[str, Any]:
    """OpenAI's BatchError."""
    return {"code": code, "line": line, "message": message, "param": param}


def custom_id_of(line: Line) -> str:
    """The custom_id of a line; of one that cannot be read, the first that its text names, or none."""
    try:
        return str(json.loads(line.text)["custom_id"])
    except (ValueError, RecursionError, LookupError, TypeError):
        found = CUSTOM_ID.search(line.text)
        try:
            return "" if found is None else str(json.loads(found[1]))
        except ValueError:
            return ""


def opened_line(line: Line) -> tuple[str, bytes]:
    """The custom_id of a line that was found without fault, and its request as JSON.

    Raises RequestError where it cannot be read now: bodies may be shorter than when the file was checked, the file may
    be another one, and how deep JSON may nest depends on who reads it.
    """
    if line.too_long:
        raise RequestError("this line is longer than a request may be by now", None, "line_too_long")
    try:
        data = json.loads(line.text)
        return str(data["custom_id"]), json.dumps(data["body"]).encode()
    except (ValueError, RecursionError, LookupError, TypeError):
        raise RequestError("this line cannot be read as a request", None, "invalid_json_line") from None


def result_line(
    name: str, custom_id: str, request_id: str | None, status: int, body: Any, error: dict[str, str] | None = None
) -> str:
    """One line of an output or error file; with `error`, of a request that was never sent."""
    response = None if error is not None else {"status_code": status, "request_id": request_id, "body": body}
    shown = {"id": name, "custom_id": custom_id, "response": response, "error": error}
    return in_one_line(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))


def in_one_line(text: str) -> str:
    """JSON as one line for any reader, and as UTF-8: what no line may hold is escaped."""
    return ENDS_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
