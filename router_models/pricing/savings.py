"""What routing saved against always asking the last tier: net of everything it cost, and never without the quality.

What the last tier would have cost is billed where it answered and *estimated* where it did not: the same prompt tokens
and as many answer tokens as the tier that answered, at the last tier's price of that moment. Tokenizers and
verbosity differ, so the share that is estimated is part of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from router_models.pricing.prices import Price, PriceList
from router_models.types import Call, DecisionRecord

SHOWN = ("answer", "escalation", "fallback")


@dataclass(frozen=True, slots=True)
class Quality:
    """Of `n` graded answers, `right` were acceptable."""

    right: int
    n: int


@dataclass(frozen=True, slots=True)
class Savings:
    """Dollars of `requests` requests. `spent_usd` is every line of every bill, `overhead_usd` those that are no shown
    answer; `frontier_usd` is what the last tier alone would have cost, `estimated` requests of it by estimate.

    `quality` None means that nobody graded these answers. `unmetered` calls ended before their engine counted tokens:
    what those cost is in no sum.
    """

    requests: int
    spent_usd: Decimal
    overhead_usd: Decimal
    frontier_usd: Decimal
    estimated: int
    quality: Quality | None
    unmetered: int = 0

    @property
    def net_usd(self) -> Decimal:
        """What was saved; negative where routing cost more than it saved."""
        return self.frontier_usd - self.spent_usd

    def text(self) -> str:
        """One sentence; there is no way to print the savings without it saying what is known of the quality."""
        share = f" ({self.net_usd / self.frontier_usd:.1%})" if self.frontier_usd else ""
        quality = "quality unmeasured: nobody graded these answers"
        if self.quality is not None and self.quality.n:
            part = f"{self.quality.right} of {self.quality.n} graded answers acceptable"
            quality = f"{part} ({self.quality.right / self.quality.n:.1%})"
        short = (
            f"; {self.unmetered} call(s) are not in it whole: nobody counted their tokens" if self.unmetered else ""
        )
        return (
            f"{self.requests} requests: ${self.spent_usd:.6f} spent, ${self.overhead_usd:.6f} of it overhead; "
            f"always-frontier ${self.frontier_usd:.6f} (estimated for {self.estimated}); "
            f"net saving ${self.net_usd:.6f}{share}; {quality}{short}"
        )


def savings(
    records: Iterable[DecisionRecord],
    frontier: str,
    prices: Mapping[str, Price | PriceList],
    quality: Quality | None = None,
) -> Savings:
    """Add up records. Requests that failed are paid for, and would have cost the last tier nothing."""
    requests = estimated = unmetered = 0
    spent = overhead = alone = Decimal(0)
    for record in records:
        requests += 1
        spent += sum((line.cost_usd for line in record.bill), Decimal(0))
        overhead += sum((line.cost_usd for line in record.bill if line.what not in SHOWN), Decimal(0))
        unmetered += sum(not line.metered for line in record.bill)
        amount = would_have_cost(record, frontier, prices)
        if amount is not None:
            alone += amount
            estimated += answering_call(record, frontier) is None
    return Savings(requests, spent, overhead, alone, estimated, quality, unmetered)


def would_have_cost(record: DecisionRecord, tier: str, prices: Mapping[str, Price | PriceList]) -> Decimal | None:
    """What `tier` alone cost, or by estimate would have cost, for this request; None where nothing was answered."""
    billed = answering_call(record, tier)
    if billed is not None:
        return billed.cost_usd
    answer = answering_call(record, record.tier)
    if answer is None or not answer.metered:
        return None
    return prices[tier].at(datetime.fromisoformat(record.created_at)).cost(answer.usage)


def answering_call(record: DecisionRecord, tier: str) -> Call | None:
    """The line of the answer that was shown, where it is `tier`'s."""
    lines = (line for line in record.calls if line.tier == tier == record.tier and line.what in SHOWN)
    return next(lines, None) if record.status == 200 else None
