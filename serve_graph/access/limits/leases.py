"""Limits that several ingress replicas keep together: each leases a part, and spends it without asking anybody.

What a limit has left lies in the store. A replica that runs short takes a part of it (`settled`), says with it what it
has spent, and gives back what it does not need. What is left and all leases together are never more than the limit, so
that r a minute let through r, whatever the number of replicas. A lease ends after `LEASE_S` unless it is renewed; what
was in it counts as spent. Where the store is away, a replica goes on with its lease and, once that has ended, with an
equal part of the limit: one over the number of replicas that there may be. The arithmetic is in `limit_pool`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from serve_graph.access.limits.bucket import Bucket
from serve_graph.access.limits.limit_pool import MOST_UNITS, UNIT, LimitTerms

logger = logging.getLogger(__name__)
LEASE_S = 5.0
SETTLE_EVERY_S = 1.0
SETTLE_WITHIN_S = 0.5
PAUSE_S = 0.05
"""At least so long between two settlements of one replica, however many requests run short."""
FUTILE_S = 1.0
"""For so long at most the store is not asked again for what it did not have: then others have given back."""
AHEAD_S = 2.0
"""A lease is meant to last so long at the pace of the last seconds."""
AWAY_FOR_S = 1.0
"""For how long requests do not wait for a store that did not answer; it is asked again beside them."""


@dataclass(slots=True)
class Lease:
    """One replica's part of a limit. `total` is what it has ever spent, `known` what of that the store has been told.

    `used` are places that are taken, or dollars that requests in progress may cost; `lacking` what requests were
    refused for since the last settlement; `left` what the store had left then. `least` is the smallest of these
    requests, `futile` how many settlements in a row had nothing for any, `asks_from` when there may be something.
    """

    terms: LimitTerms
    replicas: int = 1
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    units: int = 0
    total: int = 0
    known: int = 0
    used: int = 0
    lacking: int = 0
    left: int = 0
    recent: float = 0.0
    asked_at: float = -math.inf
    until: float = -math.inf
    alone: Bucket | None = None
    least: int = 0
    futile: int = 0
    asks_from: float = -math.inf

    def wanted(self) -> int:
        """How much it wants to hold: what is used, was lacking, and will be spent in the next seconds.

        For the latter it takes no more than half of an equal part of what it knows to be left: others need some, too.
        """
        known = max(0, self.left + self.units - (self.total - self.known))
        ahead = min(int(AHEAD_S * self.recent), known // (2 * self.replicas))
        return min(self.terms.size, self.used + self.lacking + ahead)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, and nothing is to be told or asked for."""
        return self.units == 0 and self.total == self.known and self.wanted() == 0


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """What a replica tells the store of a lease: all that it has ever spent, and how much it wants to hold.

    `known`: what of the total the store has confirmed, which counts where it has forgotten the lease.
    """

    terms: LimitTerms
    holder: str
    total: int
    wanted: int
    known: int = 0


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """What the store replies: what the replica holds for `LEASE_S` from when it asked, and what is left for others."""

    units: int
    left: int


Settle = Callable[[Sequence[LeaseAsk]], Awaitable[Sequence[LeaseGrant]]]


class Leases:
    """The leases of one ingress replica, by the names of their limits.

    Parameters
    ----------
    settle : callable
        Settles leases in the store, all at once.
    replicas : int
        How many ingress replicas there may be.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, settle: Settle, replicas: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.settle = settle
        self.replicas = replicas
        self.clock = clock
        self.is_short = False
        self.away_until = -math.inf
        self._leases: dict[str, Lease] = {}
        self._settling = asyncio.Lock()  # replies in the order of the store's own transactions
        self._now: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def of(self, terms: LimitTerms) -> Lease:
        """The lease of a limit, which may have another size by now."""
        lease = self._leases.get(terms.name)
        if lease is None:
            left = max(0, terms.size - terms.spent) if terms.is_budget else 0
            lease = self._leases[terms.name] = Lease(terms, self.replicas, left=left)
        lease.terms = terms
        return lease

    def free(self, lease: Lease) -> int:
        """What of a lease may be spent now, without asking."""
        now = self.clock()
        if now < lease.until:
            return lease.units - (lease.total - lease.known) - lease.used
        if now >= self.away_until:
            return 0
        return self._part(lease, now)

    def spend(self, lease: Lease, units: int) -> None:
        """Count what was spent: more than is free becomes a debt."""
        lease.total += units
        if lease.alone is not None:
            lease.alone.take(self.clock(), units / UNIT)

    def lack(self, lease: Lease, units: int) -> None:
        """Note that a request was refused for want of so much: `renewed` asks for it, if the store may have it."""
        lease.least = min(units, lease.least or units)
        if self.clock() < lease.asks_from:
            lease.lacking = max(lease.lacking, min(units, lease.terms.size))  # the next settlement asks for one
            return
        lease.lacking = min(lease.lacking + units, lease.terms.size)
        self.is_short = True

    def give_back(self, lease: Lease) -> None:
        """Tell the store soon that places are free again, where many are: another replica may be refusing for them."""
        if self.free(lease) > lease.used // 4 and self._next is None and self.clock() >= self.away_until:
            self._next = asyncio.ensure_future(self._after(self._now))

    async def renewed(self) -> bool:
        """Ask the store for what is lacking, once for all requests that wait; whether there is reason to try again."""
        if not self.is_short:
            return False
        if self.clock() >= self.away_until:
            if self._next is None:
                self._next = asyncio.ensure_future(self._after(self._now))
            await asyncio.shield(self._next)
        return True

    async def run(self) -> None:
        """Renew leases every second, for ever; give everything back when cancelled."""
        try:
            while True:
                await asyncio.sleep(SETTLE_EVERY_S)
                await self._settle()
        except asyncio.CancelledError:
            for lease in self._leases.values():
                lease.lacking = 0
            await self._settle(gives_back=True)
            raise

    async def _after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
            await asyncio.sleep(PAUSE_S)
        self._now, self._next = self._next, None
        await self._settle()

    async def _settle(self, *, gives_back: bool = False) -> None:
        async with self._settling:
            await self._settle_alone(gives_back=gives_back)

    async def _settle_alone(self, *, gives_back: bool) -> None:
        now, asked = self.clock(), list[tuple[Lease, LeaseAsk]]()
        for name, lease in list(self._leases.items()):
            if lease.is_idle:
                del self._leases[name]
            else:
                asked.append((lease, self._ask(lease, now, gives_back)))
        self.is_short = False
        if not asked:
            return
        try:
            grants = await asyncio.wait_for(self.settle([ask for _, ask in asked]), SETTLE_WITHIN_S)
        except Exception as error:  # noqa: BLE001 (whatever a driver raises: the leases at hand go on)
            if now >= self.away_until:
                logger.warning("limits are kept by this replica's part alone: %s", type(error).__name__)
            self.away_until = self.clock() + AWAY_FOR_S + SETTLE_EVERY_S
            return
        self.away_until = -math.inf
        for (lease, ask), grant in zip(asked, grants, strict=True):
            lease.units, lease.known, lease.left = grant.units, ask.total, grant.left
            lease.until, lease.alone = now + LEASE_S, None
            self._note_futile(lease)

    def _note_futile(self, lease: Lease) -> None:
        """Note from when on the store is to be asked again for requests that it had nothing for.

        A rate says when it will have gained enough. Places and dollars come back at any time: the first times it is
        asked at once, then less and less often.
        """
        now, least = self.clock(), lease.least
        lease.least, missing = 0, least - self.free(lease)
        if least == 0 or missing <= 0:
            lease.futile, lease.asks_from = 0, -math.inf
            return
        lease.futile += 1
        if lease.terms.per_s:
            waits_s = (missing - lease.left) / lease.terms.per_s
        else:
            waits_s = PAUSE_S * 2.0 ** (lease.futile - 3) if lease.futile > 3 else 0.0
        lease.asks_from = now + min(max(waits_s, 0.0), FUTILE_S)

    def _ask(self, lease: Lease, now: float, gives_back: bool) -> LeaseAsk:
        """What to tell of a lease. What is given back is not spent from now on, whether or not the reply comes."""
        passed = now - lease.asked_at
        fresh = lease.total - lease.known
        lease.recent = fresh + lease.recent * (0.0 if passed > 30.0 else 2.0**-passed)
        if lease.recent < 1.0 or lease.terms.comes_back:
            lease.recent = 0.0
        wanted = 0 if gives_back else lease.wanted()
        lease.asked_at, lease.lacking = now, 0
        lease.units = min(lease.units, fresh + wanted)
        return LeaseAsk(lease.terms, lease.holder, lease.total, wanted, lease.known)

    def _part(self, lease: Lease, now: float) -> int:
        """What an equal part of a limit has left, while the store is away and the lease has ended."""
        terms = lease.terms
        if terms.comes_back:
            return max(UNIT, terms.size // self.replicas) - lease.used
        if terms.is_budget:
            return lease.left // self.replicas - (lease.total - lease.known) - lease.used
        if lease.alone is None:
            lease.alone = Bucket(terms.size / UNIT / self.replicas, now)
            lease.alone.take(now, max(0.0, terms.size / UNIT / self.replicas - 1.0))
        return math.floor(UNIT * lease.alone.level(now))


class LeasedBucket:
    """As `Bucket`, of which the replica has a lease."""

    def __init__(self, leases: Leases, name: str, per_min: float) -> None:
        self.per_min = per_min
        self.leases = leases
        self.terms = LimitTerms(
            name, min(MOST_UNITS, round(per_min * UNIT)), min(MOST_UNITS, round(per_min * UNIT / 60))
        )

    def wait_s(self, now: float, needed: float = 1.0) -> float:
        """Return the seconds until `needed` units are available; 0 if they are now."""
        lease, wanted = self.leases.of(self.terms), round(min(needed, self.per_min) * UNIT)
        free = self.leases.free(lease)
        if free >= wanted:
            return 0.0
        self.leases.lack(lease, wanted - free)
        return max(0.05, (wanted - free - lease.left) / self.terms.per_s)

    def left(self, now: float) -> int:
        """Return the whole units that are available now, in the store as well, as it said last."""
        return max(0, self._all() // UNIT)

    def full_s(self, now: float) -> float:
        """Return the seconds until the limit is full again, as far as is known here."""
        return max(0.0, (self.terms.size - self._all()) / self.terms.per_s)

    def take(self, now: float, units: float = 1.0) -> None:
        """Take units; more than there are become a debt."""
        self.leases.spend(self.leases.of(self.terms), round(units * UNIT))

    def _all(self) -> int:
        lease = self.leases.of(self.terms)
        return self.leases.free(lease) + max(0, lease.left)
