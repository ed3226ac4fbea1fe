"""What each key has spent today and this month (UTC): the store's sums plus what is not in the store yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from serve_graph.config.access import KeyConfig


class Spending:
    """Dollars spent by each key. Noted amounts count at once; `settle` replaces those that the store's sums include.

    An amount noted between the store's query and `settle` may be counted twice until the next `settle`: the budget is
    briefly too strict, never too lax. Estimates are in no store and stay, until this process ends or the month does.
    Requests in progress count with the most that they may cost (`hold`), those of other ingress replicas do not.
    Memory is two sums per key and day, and one per request in progress.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Sequence[Decimal]] = {}
        self._month = ""
        self._day = ""
        self._marked: dict[tuple[str, str], Decimal] = {}
        self._fresh: dict[tuple[str, str], Decimal] = {}
        self._estimated: dict[tuple[str, str], Decimal] = {}
        self._held: dict[str, dict[str, Decimal]] = {}

    def hold(self, key: str, request: str, usd: Decimal) -> None:
        """Count the most that a request in progress may cost, until `release`."""
        self._held.setdefault(key, {})[request] = usd

    def release(self, key: str, request: str) -> None:
        """Count a request as in progress no longer; without effect for one that is not."""
        if (held := self._held.get(key)) is not None:
            held.pop(request, None)
            if not held:
                del self._held[key]

    def in_progress(self, key: str) -> int:
        """Return the number of the key's requests that are in progress."""
        return len(self._held.get(key, ()))

    def note(self, key: str, at: datetime, usd: Decimal) -> None:
        """Count an amount that is not in the store yet."""
        _add(self._fresh, (key, starts(at)[1]), usd)

    def estimate(self, key: str, at: datetime, usd: Decimal) -> None:
        """Count an amount that will not be in the store: what may have been spent that nobody counted."""
        if usd:
            _add(self._estimated, (key, starts(at)[1]), usd)

    def mark(self) -> None:
        """Mark the amounts noted so far: the sums passed to the next `settle` will include them."""
        for key_and_day, usd in self._fresh.items():
            _add(self._marked, key_and_day, usd)
        self._fresh.clear()

    def settle(self, stored: Mapping[str, Sequence[Decimal]], now: datetime) -> None:
        """Take the store's sums (month, day) by key; drop the amounts noted before the last mark, now included."""
        self._stored = dict(stored)
        self._month, self._day = starts(now)
        self._marked.clear()
        self._estimated = {each: usd for each, usd in self._estimated.items() if each[1] >= self._month}

    def spent(self, key: str, now: datetime) -> tuple[Decimal, Decimal]:
        """Return the dollars spent this month and today."""
        month, day = starts(now)
        in_month, in_day = self._stored.get(key, (Decimal(0), Decimal(0)))
        total_month = in_month if self._month == month else Decimal(0)
        total_day = in_day if self._day == day else Decimal(0)
        for (name, at), usd in (*self._marked.items(), *self._fresh.items(), *self._estimated.items()):
            if name == key:
                total_month += usd if at >= month else 0
                total_day += usd if at >= day else 0
        return total_month, total_day

    def exceeded(self, key: KeyConfig, now: datetime, more: Decimal = Decimal(0)) -> tuple[str, float] | None:
        """Return the name of the exhausted budget and the seconds until it resets; None if there is budget left.

        `more`: the most that a further request may cost, for which the budget must have room beside those in progress.
        """
        if key.usd_per_month is None and key.usd_per_day is None:
            return None
        month, day = self.spent(key.name, now)
        ahead = more + sum(self._held.get(key.name, {}).values(), Decimal(0)) if more else Decimal(0)
        if key.usd_per_month is not None and _is_over(month, ahead, key.usd_per_month):
            next_month = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
            return f"monthly budget of ${key.usd_per_month}", _until(next_month, now)
        if key.usd_per_day is not None and _is_over(day, ahead, key.usd_per_day):
            return f"daily budget of ${key.usd_per_day}", _until(now + timedelta(days=1), now)
        return None


def _is_over(spent: Decimal, ahead: Decimal, budget: Decimal) -> bool:
    return spent >= budget or spent + ahead > budget


def starts(now: datetime) -> tuple[str, str]:
    """Return the start of the current month and day (UTC) in the format of record timestamps."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1).isoformat(timespec="milliseconds"), day.isoformat(timespec="milliseconds")


def _add(sums: dict[tuple[str, str], Decimal], key_and_day: tuple[str, str], usd: Decimal) -> None:
    sums[key_and_day] = sums.get(key_and_day, Decimal(0)) + usd


def _until(later: datetime, now: datetime) -> float:
    return (later.replace(hour=0, minute=0, second=0, microsecond=0) - now).total_seconds()
