"""What a pass may begin: as long as the dearest answer so far fits the money, and only so much before it is noted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


class PurseLike(Protocol):
    """A purse, here or in another process."""

    def begin(self, rows: int) -> int:
        """How many of so many rows may begin now; waits where that depends on rows under way."""

    def ended(self, rows: int, spent: Decimal, dearest: Decimal) -> None:
        """So many rows that had begun are over, and noted; dollars spent so far, and the dearest row of this pass."""


@dataclass(slots=True)
class Purse:
    """`budget`: dollars, None = as many as it takes; `spent`: of them so far. Before the first answer one row begins.

    `most`: rows that may be under way, None = any number; a piece that has more begins alone. Those are what is paid
    twice where everything is killed. What is under way ends.
    """

    budget: Decimal | None
    spent: Decimal = Decimal(0)
    most: int | None = None
    dearest: Decimal | None = None
    under_way: int = 0

    def granted(self, rows: int) -> int | None:
        """How many of so many rows may begin; None: that is known once some of those under way have ended."""
        may = self._affordable(rows)
        if self.most is not None and self.under_way and self.under_way + min(rows, may) > self.most:
            return None
        free = min(rows, may - self.under_way)
        if free < rows and self.under_way > 0:
            return None
        self.under_way += max(0, free)
        return max(0, free)

    def _affordable(self, rows: int) -> int:
        if self.budget is None or self.dearest == 0:
            return rows + self.under_way
        if self.dearest is None:
            return 1 if self.spent < self.budget else 0
        return int((self.budget - self.spent) / self.dearest)

    def begin(self, rows: int) -> int:
        """As `granted`, where nothing is under way: in one process one piece is over before the next begins."""
        self.under_way = 0
        found = self.granted(rows)
        assert found is not None, "nothing is under way"
        return found

    def ended(self, rows: int, spent: Decimal, dearest: Decimal) -> None:
        self.under_way = max(0, self.under_way - rows)
        self.spent, self.dearest = spent, dearest
