"""Paired evidence: the policy is no worse than always-frontier by more than a margin.

Both answer the same prompts; D = right(policy) - right(frontier) in [-1, 1] and is 0 wherever the policy gave the
frontier's answer. Bets against "E[D] ≤ -margin" on X = (D+1)/2, μ0 = (1-margin)/2: K_t = mean_j Π(1 + λ_j(X_i - μ0)),
λ_j = g_j/μ0 (Waudby-Smith and Ramdas 2023, arXiv 2010.09686). P(K ever reaches 1/δ) ≤ δ if the claim is false. No
distribution is assumed; a binomial test would not fit three values.

"Ever" speaks of independent pairs one after the other. A file sorted by category is not that: its first rows may earn
what the rest loses. A finished sample is therefore bet on in an order of its own, drawn by chance from its values
(`shuffled`), whatever the order in which it was given.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.metrics import bootstrap
from router_models.risk_control.certificates.promise import Compared, Promise, Span
from router_models.risk_control.certificates.risks import check_budget
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.ladder.replay import Replay
from router_models.types import FloatArray

BETS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """What n pairs show: the mean drop in quality against always-frontier, and the least bound on it they prove.

    `upper_drop` is the smallest margin certified at confidence 1 - δ from all n pairs (1 where none is); `e_value` is
    K_n against `margin`, `certified` whether K reached 1/δ at any time in the random order of `shuffled`.
    """

    n: int
    drop: float
    upper_drop: float
    margin: float
    delta: float
    e_value: float
    certified: bool

    def promise(self) -> Promise:
        """As a line of a certificate; its threshold says only whether it holds (-inf) or not (+inf)."""
        return Promise(
            "quality drop against always-frontier",
            self.margin,
            self.delta,
            self.n,
            0,
            self.upper_drop,
            -math.inf if self.certified else math.inf,
        )


def not_worse(policy_right: ArrayLike, frontier_right: ArrayLike, *, margin: float, delta: float) -> PairedComparison:
    """Test "the policy's quality is lower than always-frontier's by `margin` or more" on paired grades in [0, 1].

    The order of the pairs does not matter. Raises DataError for unequal lengths, no pairs, NaN, or grades outside
    [0, 1].
    """
    check_budget(margin, delta)
    a, b = np.asarray(policy_right, dtype=np.float64), np.asarray(frontier_right, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise DataError(f"need pairs of grades, got shapes {a.shape} and {b.shape}")
    for g in (a, b):
        if not np.isfinite(g).all() or g.min() < 0 or g.max() > 1:
            raise DataError("grades must lie in [0, 1] without NaN")
    difference = shuffled(a - b)
    path = log_wealth(difference, margin)
    goal = -math.log(delta)
    return PairedComparison(
        n=len(a),
        drop=float(-difference.mean()),
        upper_drop=_upper_drop(difference, goal),
        margin=margin,
        delta=delta,
        e_value=math.exp(min(float(path[-1]), 700.0)),
        certified=bool(path.max() >= goal),
    )


def compare_with_last(
    seen: CascadeEvidence,
    replayed: Replay,
    *,
    router_usd: float = 0.0,
    verifier_usd: float = 0.0,
    judges_last: bool = False,
    judges_tries: bool = True,
    seed: int = 0,
) -> Compared:
    """What a policy keeps, loses and saves beside always asking the last tier; 95 % intervals by paired bootstrap.

    Parameters
    ----------
    seen : CascadeEvidence
        Labelled prompts, one row of each group.
    replayed : Replay
        What became of them.
    router_usd, verifier_usd : float
        What one routing decision, and one verdict, cost.
    judges_last : bool
        Whether the last tier's answers get a verdict too.
    judges_tries : bool
        Whether the answers of cheaper tiers get one.
    seed : int
        Seeds the resamples.
    """
    right = seen.grades >= 0.5
    kept, wrong, harmed = replayed.accepted, replayed.wrong(right), replayed.harmed(right)
    difference = replayed.right(right).astype(np.float64) - right[:, -1]
    tries, at_last = replayed.called[:, : replayed.top].sum(axis=1), replayed.called[:, replayed.top]
    judged = judges_tries * tries + judges_last * at_last
    paid, alone = replayed.cost_usd + router_usd + verifier_usd * judged, seen.cost_usd[:, -1]

    def moved(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ difference / weights.sum(axis=1), dtype=np.float64)

    def saved(weights: FloatArray) -> FloatArray:
        return np.asarray(1 - weights @ paid / (weights @ alone), dtype=np.float64)

    spans: list[Span] = []
    for figure in (moved, saved):
        found = bootstrap(figure, len(seen), seed=seed)
        spans.append((found.value, found.low, found.high))
    return Compared(
        n=len(seen),
        kept=int(kept.sum()),
        wrong=int((kept & wrong).sum()),
        harmed=int(harmed.sum()),
        gained=int((kept & ~wrong & ~right[:, -1]).sum()),
        ungraded=0 if seen.ungraded is None else int(seen.ungraded.sum()),
        right_difference=spans[0],
        cost_saved=spans[1],
    )


def shuffled(values: ArrayLike) -> FloatArray:
    """The same values in a random order that depends on nothing but them: sorted, then permuted by their hash."""
    ordered = np.sort(np.asarray(values, dtype=np.float64)) + 0.0  # no negative zero: equal values, equal bytes
    seed = int.from_bytes(hashlib.sha256(ordered.tobytes()).digest()[:8], "big")
    return np.asarray(np.random.default_rng(seed).permutation(ordered), dtype=np.float64)


def log_wealth(difference: ArrayLike, margin: float) -> FloatArray:
    """ln K_t after each pair in the order given, (n,): a maximum over it needs a random order (`shuffled`)."""
    return _mean_of_bets(_log_bets(difference, margin))


def log_peak(difference: ArrayLike, margin: float) -> float:
    """The greatest ln K_t over all t, of one pair or more: `log_wealth(…).max()`, sooner."""
    paths = _log_bets(difference, margin)
    best = paths.max(axis=0)  # K is at most its best bet, and at least an eighth of it
    return float(_mean_of_bets(paths[:, best >= best.max() - math.log(len(BETS)) - 1e-9]).max())


def _log_bets(difference: ArrayLike, margin: float) -> FloatArray:
    """What each bet has earned after each pair, (bets, n), as a logarithm."""
    d = np.asarray(difference, dtype=np.float64)
    mu0 = (1 - margin) / 2
    bets = np.array(BETS)[:, None] / mu0
    return np.cumsum(np.log1p(bets * ((d + 1) / 2 - mu0)), axis=1)


def _mean_of_bets(paths: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp.reduce(paths, axis=0) - math.log(len(BETS)), dtype=np.float64)


def _upper_drop(difference: FloatArray, goal: float) -> float:
    """The margin at which K_n just reaches 1/δ; K_n grows with the margin, so there is one crossing."""
    from scipy.optimize import brentq  # offline alone, and slow to import

    def short(margin: float) -> float:
        return float(_mean_of_bets(_log_bets(difference, margin)[:, -1:])[0]) - goal

    low, high = -1 + 1e-9, 1 - 1e-9
    if short(high) < 0:
        return 1.0
    return -1.0 if short(low) >= 0 else float(brentq(short, low, high, xtol=1e-6))
