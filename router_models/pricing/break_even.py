"""Whether trying a cheaper tier first pays: what was measured when a version was certified, at any prices.

A try that must be repeated on the last tier was paid for nothing. With p the share of tries that are repeated, c the
cost of a try with its overhead (router and verifier) and C that of a last tier's answer, tries save money while
c + p·C < C: p < 1 - c/C. C is the mean over the prompts whose answer is kept: what they spare, so that the comparison
of p with break-even is that of dollars spent with dollars spared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router_models.pricing.prices import MILLION, Price
from router_models.types import Usage


@dataclass(frozen=True, slots=True)
class CallTotals:
    """Hold the sums over some calls of one tier: how many, their tokens, and the seconds they held an engine."""

    calls: int
    prompt_tokens: float
    completion_tokens: float
    seconds: float = 0.0

    def usd(self, price: Price) -> float:
        """Return US dollars of all of them; a rate for long prompts counts by the mean length."""
        if self.calls == 0:
            return 0.0
        tokens = Usage(round(self.prompt_tokens), round(self.completion_tokens))
        amounts = price.rates(round(self.prompt_tokens / self.calls)).amounts(tokens)
        return float(sum(amounts.values()) / MILLION) + float(price.engine_usd_per_s) * self.seconds


@dataclass(frozen=True, slots=True)
class Tries:
    """Hold what became of the tries of a version on its certification labels.

    Parameters
    ----------
    rows : int
        The prompts.
    tried : int
        Those of which a tier below the last was asked first.
    repeated : int
        Those of them that the last tier had to answer then.
    last : str
        The last tier.
    spent : mapping of str to CallTotals
        The calls of the tiers below it.
    spared : CallTotals
        The last tier's calls for the prompts that were tried and not repeated, which were not made; for all that were
        tried, where every try was repeated.
    """

    rows: int
    tried: int
    repeated: int
    last: str
    spent: Mapping[str, CallTotals]
    spared: CallTotals

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able data; `from_json` gives equal tries back."""
        return {
            "rows": self.rows,
            "tried": self.tried,
            "repeated": self.repeated,
            "last": self.last,
            "spent": {tier: _numbers(totals) for tier, totals in self.spent.items()},
            "spared": _numbers(self.spared),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tries:
        """Read what `to_json` wrote; KeyError, TypeError or ValueError where it cannot."""
        return cls(
            int(data["rows"]),
            int(data["tried"]),
            int(data["repeated"]),
            str(data["last"]),
            {str(tier): _totals(numbers) for tier, numbers in data["spent"].items()},
            _totals(data["spared"]),
        )


@dataclass(frozen=True, slots=True)
class MeasuredBreakEven:
    """Hold the share of tries that are repeated beside the one up to which tries pay.

    Parameters
    ----------
    tries : Tries
        What was measured.
    share, low, high : float
        The share of tries that are repeated, with its 95 % interval (Clopper-Pearson).
    limit : float
        Break-even: tries cost money from this share on. Negative: a try costs more than the answer that it spares.
    try_usd, overhead_usd, last_usd : float
        Dollars of one try without and of its overhead, and of one answer of the last tier.
    """

    tries: Tries
    share: float
    low: float
    high: float
    limit: float
    try_usd: float
    overhead_usd: float
    last_usd: float

    @property
    def loses(self) -> bool:
        """Return whether tries cost more than they save, by what was measured."""
        return self.tries.tried > 0 and self.share >= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON-able data."""
        return {
            "tried": self.tries.tried,
            "repeated": self.tries.repeated,
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "break_even": self.limit,
            "pays": not self.loses,
            "try_usd": self.try_usd,
            "overhead_usd": self.overhead_usd,
            "last_usd": self.last_usd,
        }

    def text(self) -> str:
        """Return the measured share, its interval and break-even in a sentence."""
        last = self.tries.last
        if self.tries.tried == 0:
            return f"nothing is tried before {last}: there is no break-even"
        overhead = f" and its overhead ${1000 * self.overhead_usd:.4g}" if self.overhead_usd else ""
        costs = f"${1000 * self.try_usd:.4g}{overhead}, answers of {last} ${1000 * self.last_usd:.4g}"
        return (
            f"{self.share:.1%} of {self.tries.tried} tries had to be repeated on {last} "
            f"(95 % interval {self.low:.1%} to {self.high:.1%}); "
            f"break-even is {max(self.limit, 0.0):.1%}: per 1,000, tries cost {costs}"
        )


def measured_break_even(
    tries: Tries, prices: Mapping[str, Price], router_usd: float = 0.0, verifier_usd: float = 0.0
) -> MeasuredBreakEven:
    """Compare the share of tries that were repeated with break-even at given prices.

    Parameters
    ----------
    tries : Tries
        What was measured on the certification labels.
    prices : mapping of str to Price
        By tier.
    router_usd, verifier_usd : float
        US dollars of one decision, which every request needs, and of one verdict, which every try needs.

    Returns
    -------
    MeasuredBreakEven
    """
    if tries.tried == 0:
        return MeasuredBreakEven(tries, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    try_usd = sum(totals.usd(prices[tier]) for tier, totals in tries.spent.items()) / tries.tried
    overhead = router_usd * tries.rows / tries.tried + verifier_usd
    last_usd = tries.spared.usd(prices[tries.last]) / max(tries.spared.calls, 1)
    limit = 1.0 - (try_usd + overhead) / last_usd if last_usd > 0 else -1.0
    low, high = _clopper_pearson(tries.repeated, tries.tried)
    return MeasuredBreakEven(tries, tries.repeated / tries.tried, low, high, limit, try_usd, overhead, last_usd)


def _clopper_pearson(hits: int, n: int, level: float = 0.05) -> tuple[float, float]:
    from scipy.special import betaincinv

    low = float(betaincinv(hits, n - hits + 1, level / 2)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - level / 2)) if hits < n else 1.0
    return low, high


def _numbers(totals: CallTotals) -> list[float]:
    return [totals.calls, totals.prompt_tokens, totals.completion_tokens, totals.seconds]


def _totals(numbers: Any) -> CallTotals:
    calls, sent, made, seconds = numbers
    return CallTotals(int(calls), float(sent), float(made), float(seconds))
