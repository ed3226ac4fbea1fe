"""Rows in a pass, as data, and in pieces on the disk. Imports little: readers of pieces are processes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serve_graph.cluster.batches.passes.purse import PurseLike

TEXT_COLUMNS = pa.schema([(name, pa.large_string()) for name in ("key", "body", "story")])
Columns = dict[str, list[Any]]
"""A table of rows by columns: `key`, `body`, `story`; after a tier also `reply` and `seconds`."""


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


@dataclass(frozen=True, slots=True)
class RowProgress:
    """Where a row stands after a pass: at a tier whose answer is wanted, or at its end with a result.

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

    With a `purse` a piece gives no more rows than may begin; the others are left. `alone`: each is a row of which
    nothing else may be in its worker, since it may be what kills one.
    """

    folder: Path
    count: int
    rows: int
    purse: PurseLike | None = None
    alone: bool = False

    @classmethod
    def write(
        cls, folder: Path, rows: Iterable[PassRow], size: int, purse: PurseLike | None = None, *, alone: bool = False
    ) -> RowPieces:
        """Write rows in pieces of `size`. With a `purse` the first are small: little is known of their cost yet."""
        folder.mkdir(parents=True, exist_ok=True)
        left, count, total, most = iter(rows), 0, 0, size if purse is None else 1
        while piece := list(islice(left, most)):
            pq.write_table(pa.table(columns_of(piece), schema=TEXT_COLUMNS), folder / f"{count}.parquet")
            count, total, most = count + 1, total + len(piece), min(size, most * 2)
        return cls(folder, count, total, purse, alone)

    def read(self, number: int) -> list[PassRow]:
        """The rows of a piece that may begin now; waits where that is not known yet."""
        found = pq.read_table(self.folder / f"{number}.parquet").to_pylist()
        if self.purse is not None and found:
            found = found[: self.purse.begin(len(found))]
        return [PassRow(**row) for row in found]


def columns_of(rows: Iterable[PassRow]) -> Columns:
    """Rows as columns."""
    found = list(rows)
    return {name: [getattr(row, name) for row in found] for name in ("key", "body", "story")}


def read_pieces(chunks: RowPieces, numbers: pa.Table) -> pa.Table:
    """The rows of the pieces in the column `id`, as Ray Data reads them."""
    rows = [row for number in numbers.column("id").to_pylist() for row in chunks.read(number)]
    return pa.table(columns_of(rows), schema=TEXT_COLUMNS)
