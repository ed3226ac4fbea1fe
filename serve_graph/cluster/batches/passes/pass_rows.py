"""Rows in a pass, as data, and in pieces on the disk. Imports little: readers of pieces are processes of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from serve_graph.cluster.batches.passes.purse import PurseLike

TEXT_COLUMNS = pa.schema([(name, pa.large_string()) for name in ("key", "body", "story")])
CALL_COLUMNS = pa.schema([*TEXT_COLUMNS, ("call", pa.large_string())])
REPLY_COLUMNS = pa.schema([*CALL_COLUMNS, ("reply", pa.large_string()), ("seconds", pa.float64())])
Columns = dict[str, list[Any]]
"""A table of rows by columns: `key`, `body`, `story`, `call`; after a tier also `reply` and `seconds`.

`call` is "" where a tier is to answer the request in `body`. In a pass of calls for signals each call is a line of
its own: its number among the row's calls and its body, as JSON; the first of a row's lines has its body and its story.
"""
_ASKED = "?"
"""Ends, or begins, the name of a place where rows wait for a tier's word on an answer or on a request."""


def about(tier: str) -> str:
    """The place where rows wait for what a tier, or a verifier model, says of an answer."""
    return f"{tier}{_ASKED}"


def before(tier: str) -> str:
    """The place where rows wait for what a tier says of their requests, before one is chosen for these."""
    return f"{_ASKED}{tier}"


def tier_at(place: str) -> str:
    """The tier, or verifier model, that rows wait for at a place."""
    return place.strip(_ASKED)


def is_for_calls(place: str) -> bool:
    """Whether what rows wait for at a place are calls for signals, and not a tier's answers."""
    return _ASKED in place


@dataclass(frozen=True, slots=True)
class PassRow:
    """A row in a pass: its key, its request as a body for /v1/chat/completions, and what happened to it so far."""

    key: str
    body: str
    story: str = ""


@dataclass(frozen=True, slots=True)
class TierReply:
    """What a tier's engine said to a row: a chat.completion, or `{"error": …}`; and the seconds that it took."""

    tier: str
    reply: Mapping[str, Any]
    seconds: float


def error_reply(message: str, status: int) -> dict[str, Any]:
    """An engine's error object."""
    return {"error": {"message": message[:2000], "code": status}}


@dataclass(frozen=True, slots=True)
class RowProgress:
    """Where a row stands after a pass: at a tier whose answer, or word (`about`, `before`), is wanted, or at its end.

    `cost_usd`: what it cost so far. `body`: its request, of a row that began in this pass. `record`: its decision
    record as JSON, at the end.
    """

    key: str
    cost_usd: str
    tier: str | None = None
    story: str = ""
    body: str = ""
    ok: bool = False
    result: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RowPieces:
    """Rows in pieces, one file each, so that a pass holds no more of them than it works on.

    With a `purse` a piece gives no more rows than may begin, once they may; the others are left. `alone`: each is a
    row of which nothing else may be in its worker, since it may be what kills one. `about`: the tier, or verifier
    model, that is asked for signals of the rows; None: their own requests are answered.
    """

    folder: Path
    count: int
    rows: int
    purse: PurseLike | None = None
    alone: bool = False
    about: str | None = None
    schema: ClassVar[pa.Schema] = CALL_COLUMNS

    @classmethod
    def write(
        cls,
        folder: Path,
        rows: Iterable[PassRow],
        size: int,
        purse: PurseLike | None = None,
        *,
        alone: bool = False,
        about: str | None = None,
        first: int | None = None,
    ) -> RowPieces:
        """Write rows in pieces of `size`; the `first` may be smaller, and each next one is twice as large as it."""
        folder.mkdir(parents=True, exist_ok=True)
        left, count, total, most = iter(rows), 0, 0, first or size
        while piece := list(islice(left, most)):
            texts = {name: [getattr(row, name) for row in piece] for name in TEXT_COLUMNS.names}
            pq.write_table(pa.table(texts, schema=TEXT_COLUMNS), folder / f"{count}.parquet")
            count, total, most = count + 1, total + len(piece), min(size, most * 2)
        return cls(folder, count, total, purse, alone, about)

    def read(self, number: int) -> list[PassRow]:
        """The rows of a piece that may begin now; waits where that is not known yet."""
        found = pq.read_table(self.folder / f"{number}.parquet").to_pylist()
        if self.purse is not None and found:
            found = found[: self.purse.begin(len(found))]
        return [PassRow(**row) for row in found]

    def columns(self, number: int) -> Columns:
        """What a pass's first worker gets of a piece, as columns."""
        lines = [line for row in self.read(number) for line in self._lines(row)]
        return {name: [line[at] for line in lines] for at, name in enumerate(CALL_COLUMNS.names)}

    def _lines(self, row: PassRow) -> Iterator[tuple[str, str, str, str]]:
        if self.about is None:
            yield row.key, row.body, row.story, ""
            return
        body, story = row.body, row.story
        for number, call in enumerate(json.loads(row.story)["pending"]["calls"]):
            if call["tier"] == self.about and call["reply"] is None:
                yield row.key, body, story, json.dumps([number, call["body"]])
                body = story = ""


@dataclass(frozen=True, slots=True)
class ReplyPieces:
    """Rows in pieces, one file each, with what a tier said to them: it is left to judge that. `alone`: as of rows."""

    folder: Path
    count: int
    alone: bool = False
    schema: ClassVar[pa.Schema] = REPLY_COLUMNS

    @classmethod
    def write(cls, folder: Path, pieces: Sequence[Columns], *, alone: bool = False) -> ReplyPieces:
        """Write pieces as a pass's tier gives them: the columns of rows, `reply` and `seconds`."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, piece in enumerate(pieces):
            pq.write_table(pa.table(piece, schema=REPLY_COLUMNS), folder / f"{number}.parquet")
        return cls(folder, len(pieces), alone)

    def columns(self, number: int) -> Columns:
        """A piece as columns."""
        found: Columns = pq.read_table(self.folder / f"{number}.parquet").to_pydict()
        return found


def read_pieces(chunks: RowPieces | ReplyPieces, numbers: pa.Table) -> pa.Table:
    """The rows of the pieces in the column `id`, as Ray Data reads them."""
    found: Columns = {name: [] for name in chunks.schema.names}
    for number in numbers.column("id").to_pylist():
        for name, values in chunks.columns(number).items():
            found[name] += values
    return pa.table(found, schema=chunks.schema)
