"""Which lines were sent to a provider in which batch, beside the rows' journal: nothing is paid twice after a crash.

A batch is begun here before its file is uploaded, under a token that file and batch carry at the provider. So whatever
a killed run had sent is found again, noted or not.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

PROVIDER_SCHEMA = """
CREATE TABLE IF NOT EXISTS provider_batches (
    token TEXT PRIMARY KEY, tier TEXT NOT NULL, began REAL NOT NULL, file TEXT, batch TEXT, status TEXT
);
CREATE TABLE IF NOT EXISTS provider_lines (
    key TEXT PRIMARY KEY, row TEXT NOT NULL, tier TEXT NOT NULL, body TEXT NOT NULL, most_usd TEXT NOT NULL,
    token TEXT, tries INTEGER NOT NULL DEFAULT 0, reply TEXT, usd TEXT
);
CREATE INDEX IF NOT EXISTS provider_lines_of ON provider_lines (token);
CREATE INDEX IF NOT EXISTS provider_lines_for ON provider_lines (row);
"""


PASSED_OVER = (
    "reply IS NOT NULL AND row IN (SELECT key FROM answers WHERE ok = 1) AND row NOT IN (SELECT key FROM under_way)"
)
"""Lines whose rows were answered without them: those that a row is answered with are settled as it is noted."""


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """One request: its key (the provider's `custom_id`), the row it is for, its body, what it may cost at most.

    `tries`: how often it was sent.
    """

    key: str
    row: str
    tier: str
    body: str
    most_usd: Decimal
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """One batch at a provider; `file` and `batch` are its ids there, None where nobody noted whether there is one."""

    token: str
    tier: str
    began: float
    file: str | None = None
    batch: str | None = None


class ProviderLedger:
    """The tables of a journal's file; one process at a time has it. What is written is on the disk (FULL)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._db.execute("PRAGMA synchronous=FULL")  # money was spent: a power failure loses no note of it either
        for statement in PROVIDER_SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute("DELETE FROM provider_lines WHERE token IS NULL AND reply IS NULL")  # never sent
        with _transaction(self._db):  # what was paid for a row that was then answered otherwise stays in the sum
            self._db.execute(f"INSERT INTO replaced SELECT row, usd FROM provider_lines WHERE {PASSED_OVER}")
            self._db.execute(f"DELETE FROM provider_lines WHERE {PASSED_OVER}")
        self._told: dict[str, list[str]] = {}
        self._forgotten: dict[str, str] = {}

    def reply(self, key: str) -> dict[str, Any] | None:
        """What a line was answered; None: nothing yet."""
        found = self._db.execute("SELECT reply FROM provider_lines WHERE key = ?", (key,)).fetchone()
        return None if found is None or found[0] is None else json.loads(found[0])

    def tell(self, line: ProviderLine, is_error: bool = False) -> None:
        """Remember that a row's request was answered with a line's reply, until the row is noted (`settle_told`)."""
        key = self._forgotten.get(line.key, line.key) if is_error else line.key
        self._told.setdefault(line.row, []).append(key)

    def untell(self, row: str) -> None:
        """A row's request came to nothing: what its replies cost is on no bill."""
        self._told.pop(row, None)

    def settle_told(self, row: str) -> None:
        """Forget the replies that a row was answered with: what they cost is on its bill."""
        keys = [(key,) for key in self._told.pop(row, ())]
        self._db.executemany("DELETE FROM provider_lines WHERE key = ? AND reply IS NOT NULL", keys)

    def is_sent(self, key: str) -> bool:
        """Whether a line is part of a batch that has not ended."""
        found = self._db.execute("SELECT token FROM provider_lines WHERE key = ? AND reply IS NULL", (key,)).fetchone()
        return found is not None and found[0] is not None

    def begin(self, tier: str, lines: Iterable[ProviderLine]) -> Submission:
        """Note a batch before anything of it is sent."""
        made = Submission(uuid.uuid4().hex, tier, time.time())
        with _transaction(self._db):
            self._db.execute(
                "INSERT INTO provider_batches (token, tier, began) VALUES (?, ?, ?)", (made.token, tier, made.began)
            )
            values = [
                (line.key, line.row, line.tier, line.body, str(line.most_usd), made.token, line.tries)
                for line in lines
            ]
            self._db.executemany(
                "INSERT OR REPLACE INTO provider_lines (key, row, tier, body, most_usd, token, tries) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        return made

    def note(self, token: str, *, file: str | None = None, batch: str | None = None) -> None:
        """Keep what a batch's file, or the batch itself, is called at the provider."""
        column, value = ("file", file) if batch is None else ("batch", batch)
        self._db.execute(f"UPDATE provider_batches SET {column} = ? WHERE token = ?", (value, token))

    def open(self) -> list[Submission]:
        """The batches that have not ended."""
        rows = self._db.execute("SELECT token, tier, began, file, batch FROM provider_batches WHERE status IS NULL")
        return [Submission(*row) for row in rows.fetchall()]

    def lines(self, token: str) -> list[ProviderLine]:
        """The lines of a batch that have no reply."""
        chosen = "SELECT key, row, tier, body, most_usd, tries FROM provider_lines WHERE token = ? AND reply IS NULL"
        rows = self._db.execute(chosen, (token,)).fetchall()
        return [ProviderLine(key, row, tier, body, Decimal(usd), tries) for key, row, tier, body, usd, tries in rows]

    def end(self, token: str, status: str, replies: Mapping[str, tuple[dict[str, Any], Decimal]]) -> None:
        """Keep a batch's replies with what each cost; its other lines are as if they had not been sent."""
        with _transaction(self._db):
            self._db.executemany(
                "UPDATE provider_lines SET reply = ?, usd = ? WHERE key = ? AND token = ?",
                [(json.dumps(reply), str(usd), key, token) for key, (reply, usd) in replies.items()],
            )
            self._db.execute("DELETE FROM provider_lines WHERE token = ? AND reply IS NULL", (token,))
            self._db.execute("UPDATE provider_batches SET status = ? WHERE token = ?", (status, token))

    def forget(self, key: str) -> None:
        """Have a line sent anew when it is asked for again: its reply was an error.

        One that was billed stays, under another key, until it is on its row's bill.
        """
        found = self._db.execute("SELECT usd FROM provider_lines WHERE key = ?", (key,)).fetchone()
        if found is None or not Decimal(found[0] or 0):
            self._db.execute("DELETE FROM provider_lines WHERE key = ?", (key,))
            return
        self._forgotten[key] = billed = f"{key}-{uuid.uuid4().hex}"
        self._db.execute("UPDATE provider_lines SET key = ?, token = NULL WHERE key = ?", (billed, key))

    def settle(self, row: str, tier: str) -> None:
        """Forget a row's replies of a tier: they are part of what is noted of it, with what they cost."""
        self._told.pop(row, None)
        self._db.execute("DELETE FROM provider_lines WHERE row = ? AND tier = ? AND reply IS NOT NULL", (row, tier))

    def paid_usd(self, row: str, tier: str) -> Decimal:
        """What was paid for a row's replies of a tier that are not settled yet."""
        chosen = "SELECT usd FROM provider_lines WHERE row = ? AND tier = ? AND usd IS NOT NULL"
        return sum((Decimal(found[0]) for found in self._db.execute(chosen, (row, tier))), Decimal(0))

    def sent_usd(self, tier: str | None = None) -> Decimal:
        """The most that lines may cost which were sent and have no reply, of one tier or of all."""
        chosen = "SELECT most_usd FROM provider_lines WHERE token IS NOT NULL AND reply IS NULL"
        rows = self._db.execute(f"{chosen} AND (tier = ? OR ? IS NULL)", (tier, tier))
        return sum((Decimal(row[0]) for row in rows), Decimal(0))

    def unaccounted_usd(self) -> Decimal:
        """What was paid for lines that are on no row's bill, in whichever run."""
        return paid_for_lines(self._db)


def lines_sent(db: sqlite3.Connection) -> dict[str, int]:
    """How many lines of which tier a journal's runs had sent, whose rows are not answered yet."""
    if not _has_lines(db):
        return {}
    chosen = (
        "SELECT tier, count(*) FROM provider_lines WHERE token IS NOT NULL "
        "AND row NOT IN (SELECT key FROM answers WHERE ok = 1) GROUP BY tier"
    )
    return {str(tier): int(count) for tier, count in db.execute(chosen)}


def paid_for_lines(db: sqlite3.Connection) -> Decimal:
    """What a journal's runs have paid for lines that are on no row's bill."""
    return _sum_of(db, "usd", "usd IS NOT NULL")


def most_for_lines(db: sqlite3.Connection) -> Decimal:
    """The most that lines may cost which a journal's runs have sent and of which no reply was read."""
    return _sum_of(db, "most_usd", "token IS NOT NULL AND reply IS NULL")


def unread_text(most: Decimal) -> str:
    """What a run says that does not read the lines which were sent, of the most that they may cost."""
    return (
        f"for lines that were sent and not read up to ${most:.6f} may be due: a budget leaves room for that, until a "
        "run with --provider-batches has read them, and the sum holds what they cost"
    )


def _sum_of(db: sqlite3.Connection, column: str, where: str) -> Decimal:
    if not _has_lines(db):
        return Decimal(0)
    rows = db.execute(f"SELECT {column} FROM provider_lines WHERE {where}")
    return sum((Decimal(row[0]) for row in rows), Decimal(0))


def _has_lines(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'provider_lines'").fetchone() is not None


class _transaction:  # noqa: N801 (a statement's word)
    """Everything or nothing; the connection commits by itself otherwise."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
