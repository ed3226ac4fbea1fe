"""Measure what routing saved against always calling the last tier: net of all costs, and never without the quality.

What the last tier would have cost is billed where it answered and *estimated* where it did not: the same prompt tokens
at the last tier's price of that moment, and the answer tokens of the tier that answered, times the ratio of both
tiers' lengths among the answers that the version's certificate was made of. Where no ratio is known, a last tier's
answer is taken to be as long, and that is said: models differ in how much they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from router_models.errors import by_number
from router_models.pricing.prices import Price, PriceList
from router_models.types import Call, DecisionRecord

TokenRatios = Mapping[str, tuple[float, float, float]]
SHOWN = ("answer", "escalation", "fallback")


@dataclass(frozen=True, slots=True)
class Quality:
    """Hold a count of graded answers: of `n` graded ones, `right` were acceptable."""

    right: int
    n: int


@dataclass(frozen=True, slots=True)
class Savings:
    """Hold the dollars of a set of requests.

    Parameters
    ----------
    requests : int
        The number of requests.
    spent_usd : Decimal
        The sum of every line of every bill.
    overhead_usd : Decimal
        The part of it that paid for no returned answer.
    frontier_usd : Decimal
        What the last tier alone would have cost.
    estimated : int
        The number of requests for which that is an estimate.
    quality : Quality, optional
        None = none of these answers was graded.
    unmetered : int
        Calls that ended before their engine reported tokens, whose cost is in no sum.
    by_ratio : int
        The number of estimates that were made by a measured ratio of lengths.
    frontier_low_usd, frontier_high_usd : Decimal, optional
        `frontier_usd` at the ends of the ratios' 95 % intervals; None where none was measured.
    """

    requests: int
    spent_usd: Decimal
    overhead_usd: Decimal
    frontier_usd: Decimal
    estimated: int
    quality: Quality | None
    unmetered: int = 0
    by_ratio: int = 0
    frontier_low_usd: Decimal | None = None
    frontier_high_usd: Decimal | None = None

    @property
    def net_usd(self) -> Decimal:
        """Return what was saved; negative where routing cost more than it saved."""
        return self.frontier_usd - self.spent_usd

    def text(self) -> str:
        """Return the savings in one sentence, which always says what is known of the quality."""
        share = f" ({self.net_usd / self.frontier_usd:.1%})" if self.frontier_usd else ""
        quality = "quality not measured: none of these answers was graded"
        if self.quality is not None and self.quality.n:
            part = f"{self.quality.right} of {self.quality.n} graded {by_number(self.quality.n, 'answer')} acceptable"
            quality = f"{part} ({self.quality.right / self.quality.n:.1%})"
        short = (
            f"; {self.unmetered} {by_number(self.unmetered, 'call is', 'calls are')} only partly included: "
            "the tokens were not reported"
            if self.unmetered
            else ""
        )
        span = ""
        if self.by_ratio and self.frontier_low_usd is not None and self.frontier_high_usd is not None:
            low, high = self.frontier_low_usd - self.spent_usd, self.frontier_high_usd - self.spent_usd
            span = f", ${low:.6f} to ${high:.6f} by what is known of the lengths of both tiers' answers"
        if guessed := self.estimated - self.by_ratio:
            span += f", {guessed} of them as if the last tier's answer were as long"
        return (
            f"{self.requests} {by_number(self.requests, 'request')}: ${self.spent_usd:.6f} spent, "
            f"${self.overhead_usd:.6f} of it overhead; "
            f"always-frontier ${self.frontier_usd:.6f} (estimated for {self.estimated}); "
            f"net saving ${self.net_usd:.6f}{share}{span}; {quality}{short}"
        )


def savings(
    records: Iterable[DecisionRecord],
    frontier: str,
    prices: Mapping[str, Price | PriceList],
    quality: Quality | None = None,
    ratios: Mapping[str, TokenRatios] | None = None,
) -> Savings:
    """Add up decision records. Requests that failed are paid for, and would have cost the last tier nothing.

    Parameters
    ----------
    records : iterable of DecisionRecord
        The requests.
    frontier : str
        The last tier.
    prices : mapping of str to Price or PriceList
        Prices by tier.
    quality : Quality, optional
        Grades of these answers.
    ratios : mapping of str to mapping, optional
        By version and tier, how many completion tokens the last tier takes for each of the tier's, with the ends of an
        interval (`Certificate.token_ratios`).

    Returns
    -------
    Savings
    """
    requests = estimated = unmetered = by_ratio = 0
    spent = overhead = alone = low = high = Decimal(0)
    for record in records:
        requests += 1
        spent += sum((line.cost_usd for line in record.bill), Decimal(0))
        overhead += sum((line.cost_usd for line in record.bill if line.what not in SHOWN), Decimal(0))
        unmetered += sum(not line.metered for line in record.bill)
        ratio = None if ratios is None else ratios.get(record.version, {}).get(record.tier)
        value, least, most = (1.0, 1.0, 1.0) if ratio is None else ratio
        amount = would_have_cost(record, frontier, prices, value)
        if amount is not None:
            guessed = answering_call(record, frontier) is None
            alone += amount
            low += would_have_cost(record, frontier, prices, least) or Decimal(0)
            high += would_have_cost(record, frontier, prices, most) or Decimal(0)
            estimated += guessed
            by_ratio += guessed and ratio is not None
    ends = (low, high) if by_ratio else (None, None)
    return Savings(requests, spent, overhead, alone, estimated, quality, unmetered, by_ratio, *ends)


def would_have_cost(
    record: DecisionRecord, tier: str, prices: Mapping[str, Price | PriceList], length_ratio: float = 1.0
) -> Decimal | None:
    """Return what a tier alone cost, or by estimate would have cost, for a request.

    Parameters
    ----------
    record : DecisionRecord
        The request.
    tier : str
        The tier.
    prices : mapping of str to Price or PriceList
        Prices by tier.
    length_ratio : float
        Completion tokens of the tier for each of the answer that was given, where the tier gave none.

    Returns
    -------
    Decimal or None
        US dollars; None where the request was not answered.
    """
    billed = answering_call(record, tier)
    if billed is not None:
        return billed.cost_usd
    answer = answering_call(record, record.tier)
    if answer is None or not answer.metered:
        return None
    said = replace(answer.usage, completion_tokens=round(answer.usage.completion_tokens * length_ratio))
    return prices[tier].at(datetime.fromisoformat(record.created_at)).cost(said)


def answering_call(record: DecisionRecord, tier: str) -> Call | None:
    """Return the call whose answer was returned, where it is `tier`'s; None otherwise."""
    lines = (line for line in record.calls if line.tier == tier == record.tier and line.what in SHOWN)
    return next(lines, None) if record.status == 200 else None
