"""Per-key accounting: enforce limits before a request, charge the key for every record written."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal

from router_models.types import DecisionRecord
from serve_graph.access.budgets import Spending
from serve_graph.access.escalations import EscalationWatch
from serve_graph.access.hang_ups import HangUps
from serve_graph.access.limits.bucket import Bucket, shown_duration
from serve_graph.access.limits.leased_parts import LeasedParts
from serve_graph.access.limits.leases import LeasedBucket, Leases
from serve_graph.access.refusals import RefusalDelays
from serve_graph.access.turns import InteractiveTraffic, Turns
from serve_graph.cascade.interfaces import RecordSink
from serve_graph.config.access import EscalationWatchConfig, KeyConfig
from serve_graph.errors import BudgetSpentError, RateLimitedError


class Accounts:
    """Rate limits, budgets, the escalation watch and the turns for long bodies of one ingress replica.

    `clock` returns monotonic seconds and `today` the current date and time; tests pass their own. With `leases`,
    limits, places and budgets are those of all ingress replicas together. `background_place` is held by requests that
    nobody waits for, of which there are as many as of lines of batches, where there are batches.
    """

    def __init__(
        self,
        watch: EscalationWatchConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
        turns: Turns | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.spending = Spending()
        self.watch = EscalationWatch(watch or EscalationWatchConfig())
        self.clock = clock
        self.today = today
        self.leases = leases
        self.parts = None if leases is None else LeasedParts(leases)
        self._buckets: dict[tuple[str, str, int], Bucket | LeasedBucket] = {}
        self._worst: dict[str, Mapping[str, Decimal]] = {}
        self._at_the_door: Counter[str] = Counter()
        self.refusals = RefusalDelays(clock)
        self.turns = turns or Turns()
        self.hang_ups = HangUps()
        self.traffic = InteractiveTraffic(clock)
        self.background_place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    def admit(self, key: KeyConfig, *, spends: bool = True) -> None:
        """Admit one request or raise BudgetSpentError or RateLimitedError, which say how long to wait.

        One that is answered by no tier (`spends` is False) is held to the limit on requests alone.
        """
        now = self.clock()
        if not spends:
            return self._take_request(key, now)
        if (spent := self.spending.exceeded(key, self.today())) is not None:
            raise BudgetSpentError(f"key {key.name!r} has used up its {spent[0]}", spent[1])
        if (wait_s := self.watch.refuses(key, now)) is not None:
            raise RateLimitedError(f"too many requests of key {key.name!r} had to be escalated", wait_s, "escalations")
        requests, tokens = self._bucket(key, "requests"), self._bucket(key, "tokens")
        for bucket, what in ((requests, "requests"), (tokens, "tokens")):
            if bucket is not None and (dry_s := bucket.wait_s(now)) > 0:
                raise RateLimitedError(f"key {key.name!r} is limited to {bucket.per_min:g} {what}/min", dry_s, what)
        if requests is not None:
            requests.take(now)
        return None

    def _take_request(self, key: KeyConfig, now: float) -> None:
        requests = self._bucket(key, "requests")
        if requests is None:
            return
        if (dry_s := requests.wait_s(now)) > 0:
            raise RateLimitedError(
                f"key {key.name!r} is limited to {requests.per_min:g} requests/min", dry_s, "requests"
            )
        requests.take(now)

    def enter(self, key: KeyConfig) -> None:
        """Count a request from its headers on: one whose body does not come takes a place, too.

        So does one that was abandoned lately, beyond a few a minute (`hang_ups`).
        Raises RateLimitedError for a key that has as many requests in progress as it may.
        """
        places = self._at_the_door[key.name] + self.hang_ups.kept(key.name, self.clock())
        if places >= (key.concurrency or math.inf) or (self.parts is not None and not self.parts.enter(key, places)):
            raise _too_many(key)
        self._at_the_door[key.name] += 1

    def leave(self, key: KeyConfig) -> None:
        """Count a request that has entered as answered."""
        self._at_the_door[key.name] -= 1
        if self.parts is not None:
            self.parts.leave(key, self._at_the_door[key.name])

    def reserve(self, key: KeyConfig, request: str, worst: Mapping[str, Decimal]) -> None:
        """Hold the most that an admitted request may cost, until its record is charged.

        `worst` is that by the tier that may be called, in dollars. Raises RateLimitedError for a key that has as many
        requests in progress as it may, BudgetSpentError for one whose budget has no room for this one.
        """
        if key.concurrency is not None and self.spending.in_progress(key.name) >= key.concurrency:
            raise _too_many(key)
        most = sum(worst.values(), Decimal(0))
        spent = self.spending.exceeded(key, self.today(), most)
        if spent is None and self.parts is not None:
            spent = self.parts.hold(key, request, most, self.today(), self.spending)
        if spent is not None:
            message = f"the {spent[0]} of key {key.name!r} has no room for a request that may cost ${most:.6f}"
            raise BudgetSpentError(f"{message}: ask for fewer max_tokens or choices", spent[1])
        self.spending.hold(key.name, request, most)
        self._worst[request] = worst

    def limit_headers(self, key: KeyConfig) -> list[tuple[bytes, bytes]]:
        """Return OpenAI's rate limit headers for the limits that a key has, as they are now."""
        now, headers = self.clock(), []
        for what in ("requests", "tokens"):
            bucket = self._bucket(key, what)
            if bucket is not None:
                shown = {
                    "limit": f"{bucket.per_min:g}",
                    "remaining": str(bucket.left(now)),
                    "reset": shown_duration(bucket.full_s(now)),
                }
                headers += [(f"x-ratelimit-{name}-{what}".encode(), value.encode()) for name, value in shown.items()]
        return headers

    def charge(self, record: DecisionRecord, key: KeyConfig | None) -> None:
        """Charge a finished request to its key: dollars, tokens and whether it was escalated.

        A call that its caller abandoned before the engine counted it is charged by estimate: what its API bills is
        not known, and budgets that such calls cost nothing would never be spent.
        """
        if record.key is None:
            return
        if _was_given_up(record):
            self.hang_ups.note(record.key, self.clock())
        now, worst = self.clock(), self._worst.pop(record.id, {})
        abandoned = _abandoned(record, worst)
        self.spending.release(record.key, record.id)
        self.spending.note(record.key, self.today(), record.cost_usd)
        self.spending.estimate(record.key, self.today(), abandoned)
        if self.parts is not None:
            self.parts.charge(record.id, record.cost_usd + abandoned)
        escalated = was_escalated(record)
        if escalated or record.verdict_reason is not None:
            self.watch.note(record.key, escalated, now)
        if key is not None and (bucket := self._bucket(key, "tokens")) is not None:
            bucket.take(now, sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in record.calls))

    async def renewed(self) -> bool:
        """Ask the store for parts of limits that ran short; whether there is reason to try again."""
        return self.leases is not None and await self.leases.renewed()

    def _bucket(self, key: KeyConfig, what: str) -> Bucket | LeasedBucket | None:
        """Return the key's bucket, created full on first use; a limit changed in the keys file gets a new bucket."""
        per_min = key.requests_per_min if what == "requests" else key.tokens_per_min
        if per_min is None:
            return None
        name = (key.name, what, per_min)
        if name not in self._buckets:
            leases, shown = self.leases, f"{what} {key.name}"
            bucket = Bucket(per_min, self.clock()) if leases is None else LeasedBucket(leases, shown, per_min)
            self._buckets[name] = bucket
        return self._buckets[name]


def _too_many(key: KeyConfig) -> RateLimitedError:
    message = f"key {key.name!r} has {key.concurrency} request(s) in progress, as many as it may"
    return RateLimitedError(message, 1.0, "requests")


HUNG_UP = "client_closed_request"
TIMED_OUT = "timeout_error"
ABANDONED = frozenset({HUNG_UP, TIMED_OUT})
"""How requests end whose last call nobody waited for."""


def _was_given_up(record: DecisionRecord) -> bool:
    """Whether a request's caller hung up on it, or ended it by a deadline of its own: its calls are cancelled."""
    has_own_deadline = (record.evidence.get("wishes") or {}).get("deadline_s") is not None
    return record.error == HUNG_UP or (record.error == TIMED_OUT and has_own_deadline)


def _abandoned(record: DecisionRecord, worst: Mapping[str, Decimal]) -> Decimal:
    """Return what the abandoned calls of a request may cost beyond its bill, in dollars.

    Of a tier that is what its calls may have cost together, however many of them were abandoned: what was held.
    """
    ended = record.error in ABANDONED
    uncounted = [call for call in record.calls if not call.metered and (ended or call.what == "cancelled")]
    uncounted += [line for line in record.overhead if line.what == "cancelled" or (ended and line.what == "failed")]
    left = {call.tier: worst.get(call.tier, Decimal(0)) for call in uncounted}
    for line in (*record.calls, *record.overhead):
        if line.tier in left:
            left[line.tier] -= line.cost_usd
    return sum((max(usd, Decimal(0)) for usd in left.values()), Decimal(0))


def was_escalated(record: DecisionRecord) -> bool:
    """Whether a request paid for a cheap attempt and the last tier, including abstentions after the last tier."""
    if record.outcome == "abstained":
        return len({call.tier for call in record.calls}) > 1
    return record.outcome == "escalated"


class AccountingSink:
    """A RecordSink that charges each record to its key and passes it on to another sink."""

    def __init__(self, sink: RecordSink, accounts: Accounts, find: Callable[[str], KeyConfig | None]) -> None:
        self.sink = sink
        self.accounts = accounts
        self.find = find

    def write(self, record: DecisionRecord) -> None:
        """Write the record first, so that an error in accounting cannot lose it, then charge it in any case."""
        try:
            self.sink.write(record)
        finally:
            self.accounts.charge(record, None if record.key is None else self.find(record.key))
