"""The rows that wait for a tier between two passes, in the journal: what they cost is paid once, whatever happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice

from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.cluster.batches.passes.pass_rows import PassRow, RowProgress

PAGE_ROWS = 500
ASKED = "key IN (SELECT key FROM temp.asked_now)"
INSERT = "INSERT OR REPLACE INTO under_way VALUES (?, ?, ?, ?, ?, ?)"


class RowsUnderWay:
    """Rows of a journal between two passes. `made_under`: the version and the graph that their stories hold of.

    `ledger`: the lines of providers' batches that answered rows; None: there are none.
    """

    def __init__(self, journal: Journal, made_under: str, ledger: ProviderLedger | None = None) -> None:
        self.journal = journal
        self.made_under = made_under
        self.ledger = ledger
        with journal.at_once() as db:
            db.execute("DROP TABLE IF EXISTS temp.asked_now")
            db.execute("CREATE TEMP TABLE asked_now (key TEXT PRIMARY KEY, noted INTEGER) WITHOUT ROWID")

    def forget_others(self) -> int:
        """Forget rows that another version or another graph has begun: nothing is promised of a mixture.

        What they cost was paid, and stays in the journal's sum.
        """
        with self.journal.at_once() as db:
            paid = "INSERT INTO replaced SELECT key, cost_usd FROM under_way WHERE made_under != ?"
            db.execute(paid, (self.made_under,))
            return db.execute("DELETE FROM under_way WHERE made_under != ?", (self.made_under,)).rowcount

    def ask(self, rows: Iterable[PassRow]) -> Iterator[PassRow]:
        """Have these rows answered in this run; yields those that have not begun, each once."""
        while page := list(islice(rows, PAGE_ROWS)):
            fresh = []
            with self.journal.at_once() as db:
                for row in page:
                    is_new = db.execute("INSERT OR IGNORE INTO temp.asked_now VALUES (?, 0)", (row.key,)).rowcount
                    if is_new and not self.has(row.key):
                        fresh.append(row)
            yield from fresh

    def keep(self, progress: Iterable[RowProgress], tier: str | None = None) -> None:
        """Note where rows stand, at their end or at their next tier, in one transaction.

        `tier`: which had answered them: what a batch of its provider cost is the rows' from now on.
        """
        with self.journal.at_once() as db:
            for row in progress:
                if self.ledger is not None and tier is not None:
                    self.ledger.settle(row.key, tier)
                db.execute("UPDATE temp.asked_now SET noted = 1 WHERE key = ?", (row.key,))
                if row.tier is None:
                    self.journal.note(row.key, row.ok, row.result)
                    db.execute("DELETE FROM under_way WHERE key = ?", (row.key,))
                elif row.body:
                    db.execute(INSERT, (row.key, row.tier, self.made_under, row.cost_usd, row.body, row.story))
                else:
                    db.execute(
                        "UPDATE under_way SET tier = ?, cost_usd = ?, story = ? WHERE key = ?",
                        (row.tier, row.cost_usd, row.story, row.key),
                    )

    def counts(self) -> dict[str, int]:
        """How many rows of this run wait for each tier."""
        chosen = f"SELECT tier, count(*) FROM under_way WHERE {ASKED} GROUP BY tier"
        return {str(tier): int(count) for tier, count in self.journal.reading(chosen)}

    def has(self, key: str) -> bool:
        """Whether a row waits for a tier."""
        return next(self.journal.reading("SELECT 1 FROM under_way WHERE key = ?", key), None) is not None

    def is_noted(self, key: str) -> bool:
        """Whether something became of a row in this run."""
        chosen = "SELECT 1 FROM temp.asked_now WHERE key = ? AND noted"
        return next(self.journal.reading(chosen, key), None) is not None

    def cost(self, key: str) -> Decimal:
        """What a row that waits has cost so far."""
        found = next(self.journal.reading("SELECT cost_usd FROM under_way WHERE key = ?", key), None)
        return Decimal(found[0]) if found else Decimal(0)

    def paid(self, key: str, tier: str | None) -> Decimal:
        """What was paid for what batches of a tier's provider said to a row that is not noted since."""
        return Decimal(0) if self.ledger is None or tier is None else self.ledger.paid_usd(key, tier)

    def spent(self) -> Decimal:
        """What the rows that wait have cost so far."""
        return sum((Decimal(row[0]) for row in self.journal.reading("SELECT cost_usd FROM under_way")), Decimal(0))

    def waiting(self, tier: str) -> Iterator[PassRow]:
        """The rows that wait for a tier, in the order of their keys; a page at a time, so that they may be noted."""
        chosen = f"SELECT key, body, story FROM under_way WHERE tier = ? AND key > ? AND {ASKED} ORDER BY key LIMIT ?"
        after = ""
        while page := list(self.journal.reading(chosen, tier, after, PAGE_ROWS)):
            after = page[-1][0]
            yield from (PassRow(*row) for row in page)
