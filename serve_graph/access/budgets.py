"""What each key has spent today and this month (UTC): the store's sums, and what is not in the store yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from serve_graph.config.access import KeyConfig


class Spending:
    """Money by key. Amounts noted here count at once; `settle` replaces those that the store's sums include by now.

    An amount noted between the store's reading and `settle` may count twice until the next one: too strict for a
    moment, never too lax. Requests under way are not counted, so a budget is overshot by what they cost at most.
    Memory is one sum for each key and day, however many requests there are.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Sequence[Decimal]] = {}
        self._month = ""
        self._day = ""
        self._marked: dict[tuple[str, str], Decimal] = {}
        self._fresh: dict[tuple[str, str], Decimal] = {}

    def note(self, key: str, at: datetime, usd: Decimal) -> None:
        """Count an amount that is not in the store yet."""
        _add(self._fresh, (key, starts(at)[1]), usd)

    def mark(self) -> None:
        """From here on: what is noted by now will be in the sums that `settle` brings."""
        for whose, usd in self._fresh.items():
            _add(self._marked, whose, usd)
        self._fresh.clear()

    def settle(self, stored: Mapping[str, Sequence[Decimal]], now: datetime) -> None:
        """Take the store's sums (month, day) by key, and forget what was noted before the last mark: they hold it."""
        self._stored = dict(stored)
        self._month, self._day = starts(now)
        self._marked.clear()

    def spent(self, key: str, now: datetime) -> tuple[Decimal, Decimal]:
        """This month's and this day's dollars."""
        month, day = starts(now)
        in_month, in_day = self._stored.get(key, (Decimal(0), Decimal(0)))
        total_month = in_month if self._month == month else Decimal(0)
        total_day = in_day if self._day == day else Decimal(0)
        for (who, at), usd in (*self._marked.items(), *self._fresh.items()):
            if who == key:
                total_month += usd if at >= month else 0
                total_day += usd if at >= day else 0
        return total_month, total_day

    def exceeded(self, key: KeyConfig, now: datetime) -> tuple[str, float] | None:
        """Which budget is used up, in words, and the seconds until it begins anew; None where none is."""
        if key.usd_per_month is None and key.usd_per_day is None:
            return None
        month, day = self.spent(key.name, now)
        if key.usd_per_month is not None and month >= key.usd_per_month:
            next_month = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
            return f"monthly budget of ${key.usd_per_month}", _until(next_month, now)
        if key.usd_per_day is not None and day >= key.usd_per_day:
            return f"daily budget of ${key.usd_per_day}", _until(now + timedelta(days=1), now)
        return None


def starts(now: datetime) -> tuple[str, str]:
    """When the current month and day began (UTC), as records write moments."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1).isoformat(timespec="milliseconds"), day.isoformat(timespec="milliseconds")


def _add(sums: dict[tuple[str, str], Decimal], whose: tuple[str, str], usd: Decimal) -> None:
    sums[whose] = sums.get(whose, Decimal(0)) + usd


def _until(later: datetime, now: datetime) -> float:
    return (later.replace(hour=0, minute=0, second=0, microsecond=0) - now).total_seconds()
