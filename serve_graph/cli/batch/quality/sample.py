"""Answers of a batch that are drawn for a person to look at: a file that says nothing of who answered."""

from __future__ import annotations

import hashlib
import heapq
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.dataset import Row, json_line
from serve_graph.errors import ServeGraphError

DRAWN = "audit"
"""What the first line of such a file says it holds."""


@dataclass(frozen=True, slots=True)
class DrawnAnswer:
    """One answer to look at, in the order of the draw. `key`: what the journal knows its row by.

    `request`: what was asked, as a body for /v1/chat/completions without a model. `value`, `last_tier_right`: what
    somebody wrote into the file: whether it is right, and whether the last tier's answer is.
    """

    key: str
    prompt: str
    answer: str
    decision: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    value: bool | None = None
    last_tier_right: bool | None = None


@dataclass(frozen=True, slots=True)
class DrawnSample:
    """A simple random sample of the answered rows, in random order. `of`: how many rows were answered."""

    answers: tuple[DrawnAnswer, ...]
    of: int


class Occurrences:
    """How often each key has come so far; on the disk, since there are as many keys as rows."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name, which is gone with this
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID")

    def before(self, key: str) -> int:
        """How often a key had come before this time."""
        again = "INSERT INTO seen VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1 RETURNING count"
        return int(self._db.execute(again, (key,)).fetchone()[0]) - 1

    def close(self) -> None:
        self._db.close()


def is_drawn_file(path: Path) -> bool:
    """Whether a file is such a sample: its first line says so."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(1 << 16))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and DRAWN in first


def write_audit(
    path: Path, results: Iterable[tuple[str, Row]], prompt: str, size: int, seed: int, asked: Mapping[str, Any]
) -> int:
    """Draw so many of the answered rows, every one as likely, and write them in random order.

    `results`: rows of the result with their keys; `asked`: what was asked of all rows alike (`system` included). What
    is drawn depends on seed and rows alone: a larger sample has a smaller one of the same rows in it.

    Returns how many there are: all where there are no more than `size`.
    """
    seen, count = Occurrences(), 0

    def ranked() -> Iterable[tuple[bytes, str, Row]]:
        nonlocal count
        for key, row in results:
            if row.get("serve_graph_status") != "200":
                continue
            count += 1
            place = f"{seed} {key} {seen.before(key)}"  # equal rows have one answer, and each may be drawn
            yield hashlib.sha256(place.encode()).digest(), key, row

    with closing(seen):
        drawn = heapq.nsmallest(size, ranked(), key=lambda one: one[0])
    settings = {name: value for name, value in asked.items() if name not in ("model", "system") and value is not None}
    with path.open("w", encoding="utf-8") as file:
        file.write(json_line({DRAWN: {"drawn": len(drawn), "of": count, "seed": seed}}))
        for _, key, row in drawn:
            file.write(json_line(_line(key, row, prompt, asked.get("system"), settings)))
    return len(drawn)


def _line(key: str, row: Row, prompt: str, system: str | None, settings: Mapping[str, Any]) -> Row:
    given = row.get("messages")
    if isinstance(given, str):
        given = json.loads(given)
    messages = given if isinstance(given, list) and given else [{"role": "user", "content": row.get(prompt)}]
    messages = [*([] if system is None else [{"role": "system", "content": system}]), *messages]
    return {
        "row": key,
        "prompt": row.get("messages") or row.get(prompt),
        "answer": row.get("answer"),
        "decision": row.get("serve_graph_decision"),
        "kind": "label",
        "value": None,
        "request": {**settings, "messages": messages},
    }


def read_drawn(path: Path) -> DrawnSample:
    """A sample as `batch run --audit` writes it, with the values that somebody wrote into it.

    Raises ServeGraphError, naming the line, for a file that is none.
    """
    lines = _objects(path)
    head = lines[0][1].get(DRAWN) if lines else None
    if not isinstance(head, dict) or not isinstance(head.get("of"), int):
        raise ServeGraphError(f"{path} is no sample that `batch run --audit` has drawn: its first line says nothing")
    found = [_drawn(path, number, one) for number, one in lines[1:]]
    return DrawnSample(tuple(found), head["of"])


def _objects(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ServeGraphError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except ValueError as error:
            raise ServeGraphError(f"{path}, line {number}: {error}") from None
        if not isinstance(one, dict):
            raise ServeGraphError(f"{path}, line {number} is no JSON object")
        found.append((number, one))
    return found


def _drawn(path: Path, number: int, one: Mapping[str, Any]) -> DrawnAnswer:
    if not isinstance(one.get("row"), str):
        raise ServeGraphError(f"{path}, line {number} lacks `row`, which the run wrote")
    request = one["request"] if isinstance(one.get("request"), dict) else {}
    return DrawnAnswer(
        one["row"],
        _shown(request.get("messages") or one.get("prompt")),
        str(one.get("answer") or ""),
        one.get("decision"),
        request,
        _word(path, number, "value", one.get("value")),
        _word(path, number, "last_tier_right", one.get("last_tier_right")),
    )


def _word(path: Path, number: int, name: str, value: Any) -> bool | None:
    words = {"right": True, "wrong": False, "": None}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise ServeGraphError(f"{path}, line {number}: `{name}` is {value!r}; it is true, false, right, wrong or null")


def _shown(prompt: Any) -> str:
    """A prompt as a person reads it, with the roles of its messages where there are several."""
    if not isinstance(prompt, list):
        return str(prompt)
    parts = []
    for one in prompt:
        said = one if isinstance(one, dict) else {"content": one}
        content = said.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        parts.append(f"[{said.get('role', '?')}] {text}" if len(prompt) > 1 else text)
    return "\n".join(parts)
