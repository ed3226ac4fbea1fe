"""What routing saved over a window of time, estimated from a sample of its requests, with intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from scipy.special import betaincinv

from router_models.metrics.intervals import Interval, bootstrap_values
from router_models.pricing.savings import TokenRatios, savings
from router_models.types import DecisionRecord
from router_models.types.label_sources import by_judge
from serve_graph.cascade.billing import Prices
from serve_graph.records.feedback import Feedback

AT_LEVEL = 0.95
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class WindowSavings:
    """Dollars of a window's requests beside always asking the last tier.

    Parameters
    ----------
    spent_usd : Decimal
        What was spent, of all requests.
    frontier_usd, net_usd : float
        What the last tier alone would have cost, and the difference: negative where routing cost more.
    net : Interval, optional
        The difference with its 95 % interval; None where nothing is known of its error: no sample was drawn, and no
        lengths of both tiers' answers were measured.
    overhead_usd : float
        The part of what was spent that paid for no answer that was shown.
    sampled : int
        Requests that this rests on; `requests` of them there were.
    requests : int
        The requests of the window.
    by_ratio, as_long : int
        Sampled requests for which the last tier's answer was taken to be longer or shorter by a measured ratio, and
        for which it was taken to be as long.
    unmetered : int
        Sampled calls without usage data, whose tokens are in no sum.
    """

    spent_usd: Decimal
    frontier_usd: float
    net_usd: float
    net: Interval | None
    overhead_usd: float
    sampled: int
    requests: int
    by_ratio: int = 0
    as_long: int = 0
    unmetered: int = 0

    @property
    def share(self) -> float | None:
        """The part of always-last's cost that was saved."""
        return self.net_usd / self.frontier_usd if self.frontier_usd > 0 else None


@dataclass(frozen=True, slots=True)
class LabelledShare:
    """Labelled answers of one kind of labeller: the share that is right, with its 95 % interval (Jeffreys)."""

    who: str
    right: int
    n: int

    @property
    def share(self) -> Interval:
        """The share that is right."""
        tail, wrong = (1 - AT_LEVEL) / 2, self.n - self.right
        low = 0.0 if self.right == 0 else float(betaincinv(self.right + 0.5, wrong + 0.5, tail))
        high = 1.0 if wrong == 0 else float(betaincinv(self.right + 0.5, wrong + 0.5, 1 - tail))
        return Interval(self.right / self.n, low, high, AT_LEVEL)


def window_savings(
    sample: Sequence[DecisionRecord],
    requests: int,
    spent_usd: Decimal,
    last: str,
    prices: Prices,
    ratios: Mapping[str, TokenRatios] | None = None,
) -> WindowSavings | None:
    """Estimate what was saved; None without requests.

    The sample's mean, times the number of requests; its interval by a bootstrap over the sampled requests, at the ends
    of the ratios' own intervals. Where the sample is all of them, the ratios' ends alone are the interval.
    """
    if not sample:
        return None
    each = [savings([record], last, prices, ratios=ratios) for record in sample]
    net = np.array([float(one.net_usd) for one in each])
    low, high = (
        np.array([float((end if end is not None else one.frontier_usd) - one.spent_usd) for one, end in ends])
        for ends in (
            [(one, one.frontier_low_usd) for one in each],
            [(one, one.frontier_high_usd) for one in each],
        )
    )
    is_sample = len(sample) < requests
    by_ratio = sum(one.by_ratio for one in each)
    interval = None
    if is_sample:
        drawn = [_drawn_means(values) for values in (low, high)]
        tail = (1 - AT_LEVEL) / 2
        ends = float(np.quantile(drawn[0], tail)), float(np.quantile(drawn[1], 1 - tail))
        interval = Interval(net.mean() * requests, ends[0] * requests, ends[1] * requests, AT_LEVEL)
    elif by_ratio:
        interval = Interval(float(net.sum()), float(low.sum()), float(high.sum()), AT_LEVEL)
    net_usd = float(net.mean()) * requests
    return WindowSavings(
        spent_usd,
        float(spent_usd) + net_usd,
        net_usd,
        interval,
        sum(float(one.overhead_usd) for one in each) / len(each) * requests,
        len(sample),
        requests,
        by_ratio,
        sum(one.estimated - one.by_ratio for one in each),
        sum(one.unmetered for one in each),
    )


def _drawn_means(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return bootstrap_values(lambda weights: weights @ values / len(values), len(values), draws=1000)


def latency_percentiles(sample: Iterable[DecisionRecord]) -> dict[int, float]:
    """Return percentiles of the seconds that answered requests took; {} where none was answered."""
    seconds = [record.latency_s for record in sample if record.status == 200]
    return {} if not seconds else {p: float(np.percentile(seconds, p)) for p in PERCENTILES}


def labelled_shares(labels: Iterable[Feedback]) -> list[LabelledShare]:
    """Return what people and programs say of answers, and beside it each judge: a majority, a draw counts as right."""
    votes: dict[str, dict[str, int]] = {}
    for label in labels:
        who = label.source if by_judge(label.source) else "people and programs"
        of = votes.setdefault(who, {})
        of[label.decision] = of.get(label.decision, 0) + (1 if label.value else -1)
    shares = [LabelledShare(who, sum(v >= 0 for v in of.values()), len(of)) for who, of in votes.items()]
    return sorted(shares, key=lambda one: (by_judge(one.who), one.who))
