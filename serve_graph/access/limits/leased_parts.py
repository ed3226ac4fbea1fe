"""One ingress replica's parts of its keys' places and budgets, where several replicas keep them together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from serve_graph.access.budgets import Spending, starts
from serve_graph.access.limits.leases import Lease, Leases
from serve_graph.access.limits.limit_pool import MOST_UNITS, UNIT, LimitTerms
from serve_graph.config.access import KeyConfig


class LeasedParts:
    """Places in a key's `concurrency`, and dollars of its budgets, as leased."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self._held: dict[str, tuple[int, tuple[Lease, ...]]] = {}

    def enter(self, key: KeyConfig, taken: int) -> bool:
        """Whether one more place is there for a key, of which this replica has taken some; it is taken then."""
        if key.concurrency is None:
            return True
        lease = self._places(key)
        lease.used = taken * UNIT
        if self.leases.free(lease) < UNIT:
            self.leases.lack(lease, UNIT)
            return False
        lease.used += UNIT
        return True

    def leave(self, key: KeyConfig, taken: int) -> None:
        """Note how many places are taken now."""
        if key.concurrency is not None:
            lease = self._places(key)
            lease.used = taken * UNIT
            self.leases.give_back(lease)

    def hold(
        self, key: KeyConfig, request: str, usd: Decimal, now: datetime, spending: Spending
    ) -> tuple[str, float] | None:
        """Hold the most that a request may cost, in the month and in the day.

        Returns the budget that has no room for it, and after how many seconds there may be; None where it is held.
        """
        amount, leases = units_of(usd), []
        for what, terms in _budgets(key, now, spending):
            lease = self.leases.of(terms)
            if (free := self.leases.free(lease)) < amount:
                self.leases.lack(lease, amount - max(free, 0))
                return what, _until_tomorrow(now)
            leases.append(lease)
        for lease in leases:
            lease.used += amount
        if leases:
            self._held[request] = amount, tuple(leases)
        return None

    def charge(self, request: str, usd: Decimal) -> None:
        """Replace what was held of a request by what it cost."""
        amount, leases = self._held.pop(request, (0, ()))
        for lease in leases:
            lease.used -= amount
            self.leases.spend(lease, units_of(usd))

    def _places(self, key: KeyConfig) -> Lease:
        return self.leases.of(
            LimitTerms(f"places {key.name}", min(MOST_UNITS, (key.concurrency or 0) * UNIT), comes_back=True)
        )


def units_of(usd: Decimal) -> int:
    """Dollars in the units of leases, rounded up."""
    return min(MOST_UNITS, -int(-usd * UNIT // 1))


def _budgets(key: KeyConfig, now: datetime, spending: Spending) -> Iterator[tuple[str, LimitTerms]]:
    """Each budget of a key: what a refusal calls it, and its limit; every month and day has one of its own."""
    in_month, in_day = spending.spent(key.name, now)
    month, day = starts(now)
    for budget, what, period, spent in (
        (key.usd_per_month, "monthly", month[:7], in_month),
        (key.usd_per_day, "daily", day[:10], in_day),
    ):
        if budget is not None:
            name = f"{what} usd {period} {key.name}"
            yield f"{what} budget of ${budget}", LimitTerms(name, units_of(budget), spent=units_of(spent))


def _until_tomorrow(now: datetime) -> float:
    tomorrow = (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (tomorrow - now).total_seconds()
