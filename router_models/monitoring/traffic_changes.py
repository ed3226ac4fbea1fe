"""Compare two windows of served traffic without labels: what they show is reported, and never acted on.

Of n decisions each, every figure has a two-sample test: Kolmogorov-Smirnov for scores and distances, Fisher's exact
for shares, χ² for how tiers divide the traffic, permutations for embeddings; and the escalation rate one against its
ceiling. p-values are adjusted
by Benjamini and Yekutieli (2001), which allows any dependence between figures of the same requests. So the expected
share of false ones among the changes reported of one comparison is `false_share` at most; where nothing has changed,
one is reported with that probability at most. Comparisons with the same first window are not independent: nothing is
said of all of them together.

The tests take requests for independent, which turns of one conversation are not: one decision of each session, and one
of each prompt, counts (`first_of_units`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.monitoring.embedding_shift import embedding_shift

LEAST_VALUES = 50
"""Values in each window below which a figure is not compared."""
RARE = 10
"""Tiers that answered fewer requests than this in both windows together are counted as one."""


@dataclass(frozen=True, slots=True)
class ServedDecision:
    """What a decision shows without a label.

    Parameters
    ----------
    tier : str
        The tier that answered.
    router_score, answer_score : float, optional
        The calibrated estimates before and after generation, in [0, 1].
    distance : float, optional
        From the training data.
    escalated : bool, optional
        Whether a cheap answer was rejected; None: none was tried.
    refuses, hedges : bool, optional
        What the answer's opening says; None: not known.
    uncovered : bool, optional
        Whether the certificate does not cover the request; None: not known.
    units : tuple
        What it belongs to: its session, its prompt. Of decisions that share one, the first counts.
    """

    tier: str
    router_score: float | None = None
    answer_score: float | None = None
    distance: float | None = None
    escalated: bool | None = None
    refuses: bool | None = None
    hedges: bool | None = None
    uncovered: bool | None = None
    units: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficLimits:
    """What is reported: `false_share` is the expected share of false reports of one comparison, at most.

    `escalation_at_most`: the share of tried cheap answers that may be rejected; None: only changes count.
    """

    false_share: float = 0.01
    escalation_at_most: float | None = 0.30

    def __post_init__(self) -> None:
        for name, value in (("false_share", self.false_share), ("escalation_at_most", self.escalation_at_most)):
            if value is not None and not 0 < value < 1:
                raise DataError(f"{name} must lie between 0 and 1, got {value!r}")


@dataclass(frozen=True, slots=True)
class TrafficChange:
    """One figure of two windows, whether or not it changed.

    Parameters
    ----------
    figure : str
        `router_score`, `answer_score`, `distance` (means), `escalation`, `refusals`, `hedging`, `uncovered` (shares),
        `tiers` (the share of the tier that changed most, named in `tier`), `escalation_ceiling`, `embedding`.
    before, now : float
        The figure in both windows; of `escalation_ceiling` the ceiling and the rate; of `embedding` how far windows
        are apart where nothing has changed, and how far these are.
    n : int
        Values in the later window.
    p_value, adjusted : float
        Of the test, and after adjustment for all figures.
    is_reported : bool
        Whether `adjusted` is within the limit.
    tier : str, optional
        Of `tiers` alone.
    """

    figure: str
    before: float
    now: float
    n: int
    p_value: float
    adjusted: float
    is_reported: bool
    tier: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON: numbers, strings and booleans."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Tested:
    figure: str
    before: float
    now: float
    n: int
    p_value: float
    tier: str | None = None


def first_of_units(decisions: Iterable[ServedDecision]) -> list[ServedDecision]:
    """The first decision of each unit, in order."""
    seen: set[Hashable] = set()
    kept = []
    for decision in decisions:
        if seen.isdisjoint(decision.units):
            kept.append(decision)
        seen.update(decision.units)
    return kept


def compare_traffic(
    before: Sequence[ServedDecision],
    now: Sequence[ServedDecision],
    limits: TrafficLimits | None = None,
    *,
    embeddings: tuple[ArrayLike, ArrayLike] | None = None,
) -> list[TrafficChange]:
    """Compare every figure that both windows hold often enough, `LEAST_VALUES` times.

    Parameters
    ----------
    before, now : sequence of ServedDecision
        Two windows of decisions, without those in common.
    limits : TrafficLimits, optional
        What is reported; by default those of the class.
    embeddings : pair of arrays, optional
        Both windows' blocks of embeddings (`embedding_shift`), which is one more figure.

    Returns
    -------
    list of TrafficChange
        Every figure that was compared, in a fixed order.
    """
    from scipy.stats import false_discovery_control

    limits = limits or TrafficLimits()
    before, now = first_of_units(before), first_of_units(now)
    found: list[_Tested] = []
    for name in ("router_score", "answer_score", "distance"):
        found += _values(name, *(_known(window, name) for window in (before, now)))
    for figure, name in _SHARES:
        found += _shares(figure, *(_known(window, name) for window in (before, now)))
    found += _tiers([d.tier for d in before], [d.tier for d in now])
    if limits.escalation_at_most is not None:
        found += _ceiling(_known(now, "escalated"), limits.escalation_at_most)
    if embeddings is not None:
        shift = embedding_shift(*embeddings)
        counted = len(now)
        found.append(_Tested("embedding", shift.expected, shift.distance, counted, shift.p_value))
    if not found:
        return []
    adjusted = false_discovery_control([test.p_value for test in found], method="by")
    return [
        TrafficChange(
            test.figure,
            test.before,
            test.now,
            test.n,
            test.p_value,
            float(p),
            bool(p <= limits.false_share),
            test.tier,
        )
        for test, p in zip(found, adjusted, strict=True)
    ]


_SHARES = (("escalation", "escalated"), ("refusals", "refuses"), ("hedging", "hedges"), ("uncovered", "uncovered"))


def _known(window: Sequence[ServedDecision], name: str) -> list[float]:
    return [float(value) for d in window if (value := getattr(d, name)) is not None]


def _values(figure: str, before: list[float], now: list[float]) -> list[_Tested]:
    from scipy.stats import ks_2samp

    if min(len(before), len(now)) < LEAST_VALUES:
        return []
    p = float(ks_2samp(before, now).pvalue)
    return [_Tested(figure, float(np.mean(before)), float(np.mean(now)), len(now), p)]


def _shares(figure: str, before: list[float], now: list[float]) -> list[_Tested]:
    from scipy.stats import fisher_exact

    if min(len(before), len(now)) < LEAST_VALUES:
        return []
    counts = np.array([[int(sum(window)), len(window) - int(sum(window))] for window in (before, now)])
    p = float(fisher_exact(counts).pvalue)
    return [_Tested(figure, float(np.mean(before)), float(np.mean(now)), len(now), p)]


def _tiers(before: list[str], now: list[str]) -> list[_Tested]:
    from scipy.stats import chi2_contingency

    if min(len(before), len(now)) < LEAST_VALUES:
        return []
    both = Counter(before) + Counter(now)
    name: Callable[[str], str] = lambda tier: tier if both[tier] >= RARE else "others"  # noqa: E731
    counts = [Counter(map(name, window)) for window in (before, now)]
    tiers = sorted(set(counts[0]) | set(counts[1]))
    if len(tiers) < 2:
        return [_Tested("tiers", 1.0, 1.0, len(now), 1.0, tiers[0])]
    p = float(chi2_contingency([[count[tier] for tier in tiers] for count in counts]).pvalue)
    shares = {tier: (counts[0][tier] / len(before), counts[1][tier] / len(now)) for tier in tiers}
    moved = max(tiers, key=lambda tier: abs(shares[tier][1] - shares[tier][0]))
    return [_Tested("tiers", *shares[moved], len(now), p, moved)]


def _ceiling(now: list[float], most: float) -> list[_Tested]:
    from scipy.stats import binomtest

    if len(now) < LEAST_VALUES:
        return []
    p = float(binomtest(int(sum(now)), len(now), most, alternative="greater").pvalue)
    return [_Tested("escalation_ceiling", most, float(np.mean(now)), len(now), p)]
