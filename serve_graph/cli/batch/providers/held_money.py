"""What a run may still spend: what was paid, and what is sent and may be paid at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass
class HeldMoney:
    """Money of a run. `stop` ends it, once, and says why; nothing is sent after that.

    A line is held at the most that it may cost from before it is sent until what it did cost is known.
    """

    limit: Decimal | None = None
    spent: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    stopped: str | None = None
    on_stop: Callable[[str], None] = field(default=lambda reason: None)

    def fits(self, most: Decimal) -> bool:
        """Whether something that may cost so much can be sent."""
        return self.stopped is None and (self.limit is None or self.spent + self.held + most <= self.limit)

    def hold(self, most: Decimal) -> None:
        self.held += most

    def pay(self, most: Decimal, usd: Decimal) -> None:
        """What was held is paid, with what it cost."""
        self.held -= most
        self.spent += usd

    def stop(self, reason: str) -> None:
        if self.stopped is None:
            self.stopped = reason
            self.on_stop(reason)

    def no_room(self) -> str:
        return f"the budget of ${self.limit} has no room for another row (${self.spent:.6f} spent)"
