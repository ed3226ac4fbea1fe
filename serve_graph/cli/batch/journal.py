"""What is known of a dataset's rows so far, in a SQLite file beside the result: no row is asked twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_graph.errors import ServeGraphError

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, ok INTEGER NOT NULL, version TEXT, tier TEXT, outcome TEXT, cost_usd TEXT,
    tokens INTEGER NOT NULL, result TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS replaced (key TEXT NOT NULL, cost_usd TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS under_way (
    key TEXT PRIMARY KEY, tier TEXT NOT NULL, made_under TEXT NOT NULL, cost_usd TEXT NOT NULL, body TEXT NOT NULL,
    story TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS under_way_tier ON under_way (tier, key)
"""


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """Sums over the rows of a journal. `unmetered`: answers whose cost nobody told.

    `usd` holds what rows had cost before they were asked again, failed ones or those that another version answered.
    """

    answered: int
    failed: int
    tokens: int
    usd: Decimal
    unmetered: int


class Journal:
    """One process at a time writes it. A result is on the disk before the next row is begun in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(SCHEMA)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise ServeGraphError(f"the journal {path} cannot be used, or another run has it: {error}") from None

    @property
    def connection(self) -> sqlite3.Connection:
        """The file, for tables of others beside the answers: one process at a time has it."""
        return self._db

    def find(self, key: str) -> dict[str, Any] | None:
        """What became of a row; None: it was not asked."""
        row = self._db.execute("SELECT ok, version, result FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else {"ok": bool(row[0]), "version": row[1], **json.loads(row[2])}

    @contextmanager
    def at_once(self) -> Iterator[sqlite3.Connection]:
        """Write together what is written in this: all of it or nothing is on the disk."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise ServeGraphError(f"the journal {self.path} cannot be written: {error}") from None

    def reading(self, chosen: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, as they are read."""
        yield from self._db.execute(chosen, values)

    def note(self, key: str, ok: bool, result: dict[str, Any]) -> None:
        """Keep what became of a row that was asked, instead of what became of it before, which was paid as well."""
        paid = "INSERT INTO replaced SELECT key, cost_usd FROM answers WHERE key = ? AND cost_usd NOT NULL"
        try:
            self._db.execute("SAVEPOINT noted")  # also within `at_once`
            try:
                self._db.execute(paid, (key,))
                self.amend(key, ok, result)
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled all back
                    self._db.execute("ROLLBACK TO noted")
                    self._db.execute("RELEASE noted")
                raise
            self._db.execute("RELEASE noted")
        except sqlite3.Error as error:
            raise ServeGraphError(f"the journal {self.path} cannot be written: {error}") from None

    def amend(self, key: str, ok: bool, result: dict[str, Any]) -> None:
        """Write down more of a row that was not asked again."""
        values = (
            key, int(ok), result.get("version"), result.get("tier"), result.get("outcome"), result.get("cost_usd"),
            int(result.get("tokens") or 0), json.dumps(result),
        )  # fmt: skip
        try:
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise ServeGraphError(f"the journal {self.path} cannot be written: {error}") from None

    def totals(self) -> JournalTotals:
        answered = failed = tokens = unmetered = 0
        usd = sum((Decimal(row[0]) for row in self._db.execute("SELECT cost_usd FROM replaced")), Decimal(0))
        for ok, cost, count in self._db.execute("SELECT ok, cost_usd, tokens FROM answers"):
            answered, failed, tokens = answered + ok, failed + (not ok), tokens + count
            usd += Decimal(cost or 0)
            unmetered += bool(ok) and cost is None
        return JournalTotals(answered, failed, tokens, usd, unmetered)

    def shares(self, column: str) -> Iterator[tuple[str, int]]:
        """How many answered rows have which `tier`, `outcome` or `version`."""
        assert column in ("tier", "outcome", "version")
        yield from self._db.execute(
            f"SELECT coalesce({column}, 'none'), count(*) FROM answers WHERE ok = 1 GROUP BY 1 ORDER BY 2 DESC"
        )

    def unjudged_below(self, last: str) -> int:
        """How many answers another tier than the last gave without a verdict."""
        chosen = "SELECT count(*) FROM answers WHERE ok = 1 AND outcome = 'routed' AND tier != ?"
        return int(self._db.execute(chosen, (last,)).fetchone()[0])

    def costs(self) -> Iterator[float]:
        """The cost of every answered row whose cost is known."""
        chosen = "SELECT CAST(cost_usd AS REAL) FROM answers WHERE ok = 1 AND cost_usd NOT NULL"
        yield from (float(row[0]) for row in self._db.execute(chosen))

    def dearest(self) -> Decimal | None:
        """The cost of the dearest answer; None where no cost is known."""
        chosen = "SELECT max(CAST(cost_usd AS REAL)) FROM answers WHERE ok = 1"
        found = self._db.execute(chosen).fetchone()[0]
        return None if found is None else Decimal(str(found))

    def answered_after(self, key: str, most: int) -> list[tuple[str, dict[str, Any]]]:
        """At most so many answered rows whose keys come after one, in the keys' order."""
        chosen = "SELECT key, result FROM answers WHERE ok = 1 AND key > ? ORDER BY key LIMIT ?"
        return [(str(row[0]), json.loads(row[1])) for row in self._db.execute(chosen, (key, most))]

    def usages(self, most: int) -> Iterator[tuple[int, int]]:
        """Prompt and completion tokens of at most so many answered rows, drawn by their keys."""
        rows = self._db.execute("SELECT result FROM answers WHERE ok = 1 ORDER BY key LIMIT ?", (most,))
        found = (json.loads(row[0]) for row in rows)
        yield from ((int(one["prompt_tokens"]), int(one["completion_tokens"])) for one in found)

    def close(self) -> None:
        self._db.close()
