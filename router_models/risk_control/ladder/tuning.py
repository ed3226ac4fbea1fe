"""Stage A: all thresholds of a ladder at once, from calibrated scores alone.

Minimises P(answered and wrong) + λ_c·E[cost] + λ_a·P(abstain) with the calibrated estimates as soft labels, so
unlabelled traffic will do; with `harm` P(a lower tier answered, wrong, and the last tier right) in the first place.
Given the routing thresholds the tiers' own thresholds separate, and sums over a grid of score bins give every
combination's loss: exact on the grid, milliseconds per (λ_c, λ_a). Sweeping both weights traces the Pareto front. As
good as the copula model of arXiv 2501.09345 at a hundredth of its time; early abstention as in 2502.09054.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.ladder.chain import chained
from router_models.risk_control.sequence import quantile_grid
from router_models.types import FloatArray

Escalation = Literal["top", "next"]
"""Where a rejected answer goes: to the last tier, or to the next one of a chain."""

PATH = 100
"""Configurations to be tested: as of one threshold, a finer path costs no confidence and ends nearer the last that
holds."""
MOST_EDGES, LEAST_EDGES, CELLS = 100, 20, 70_000
"""Thresholds of each score: as many as keep a ladder's cells, edges ** tiers, at so many. 100, 40, 20 of 2, 3, 4."""
COST_WEIGHTS = tuple(float(w) for w in np.geomspace(0.003, 3.0, 160))
ABSTAIN_STEPS = 8


@dataclass(frozen=True, slots=True)
class Configuration:
    """Thresholds with what soft labels predict of them: the risk, USD per prompt, P(abstain).

    The risk is that of the share `counted` of all prompts: P(wrong | answered), or P(harm | a lower tier answered).
    """

    thresholds: Thresholds
    risk: float
    cost_usd: float
    abstain: float
    counted: float = 1.0


@dataclass(frozen=True, slots=True)
class _TierSums:
    """One lower tier's sums over every combination of cuts (route cuts of tiers 0 … i, then its verifier cuts).

    A *cut* c separates the score bins below c from the rest. Each array holds the mean over all prompts of a quantity,
    counted where the prompt is routed here and its verifier bin lies below the last axis' cut.
    """

    count: FloatArray
    wrong: FloatArray
    cost: FloatArray
    top_cost: FloatArray


@dataclass(frozen=True, slots=True)
class Grid:
    """A ladder's score bins and everything summed over them that does not depend on the weights."""

    route: list[FloatArray]
    verify: list[FloatArray]
    route_bin: NDArray[np.int64]
    verify_bin: NDArray[np.int64]
    tiers: list[_TierSums]
    top_cost: FloatArray

    @classmethod
    def of(cls, data: CascadeEvidence, *, harm: bool = False) -> Grid:
        """Bin and sum; edges are the 1/m, 2/m, … quantiles of each score, m = `edges_of` the tiers."""
        m = edges_of(len(data.tiers))
        route = [quantile_grid(column, m)[1:] for column in data.p_route.T]
        verify = [quantile_grid(column, m)[1:] for column in data.p_ok.T[:-1]]
        bins = [np.searchsorted(t, c, side="right") for t, c in zip(route, data.p_route.T, strict=True)]
        marks = [np.searchsorted(t, c, side="right") for t, c in zip(verify, data.p_ok.T, strict=False)]
        grid = cls(route, verify, np.column_stack(bins), np.column_stack(marks), [], np.empty(0))
        top, lost = data.cost_usd[:, -1], soft_losses(data, harm=harm)
        sums = [
            _TierSums(
                grid.at_tier(i, np.ones(len(data))),
                grid.at_tier(i, lost[:, i]),
                grid.at_tier(i, data.cost_usd[:, i]),
                grid.at_tier(i, top),
            )
            for i in range(len(route))
        ]
        return replace(grid, tiers=sums, top_cost=grid.at_top(top))

    def at_tier(self, i: int, each: FloatArray) -> FloatArray:
        """Sums of a per-prompt quantity where tier i is tried, per route cuts 0 … i and verifier cut i."""
        columns = (*self.route_bin[:, : i + 1].T, self.verify_bin[:, i])
        return _to_cuts(_histogram(each, columns, [*self.route[: i + 1], self.verify[i]]), suffix=i)

    def at_top(self, each: FloatArray) -> FloatArray:
        """Sums of a per-prompt quantity where no lower tier is tried, per route cuts."""
        return _to_cuts(_histogram(each, tuple(self.route_bin.T), self.route), suffix=None)


def edges_of(tiers: int) -> int:
    """How many quantiles of each score a ladder of so many tiers is searched at."""
    return max(LEAST_EDGES, min(MOST_EDGES, int(CELLS ** (1 / tiers)) - 1))


def soft_losses(data: CascadeEvidence, *, harm: bool) -> FloatArray:
    """What showing each tier's answer is estimated to lose, (n, K): P(wrong), or P(wrong and the last tier right)."""
    wrong = 1 - data.p_ok
    if not harm:
        return wrong
    lost = wrong * data.p_ok[:, -1:]
    lost[:, -1] = 0.0
    return lost


def pareto_path(
    data: CascadeEvidence,
    *,
    abstain_share: float = 0.0,
    size: int = PATH,
    harm: bool = False,
    escalation: Escalation = "top",
) -> tuple[Configuration, ...]:
    """At most `size` configurations, none beaten on predicted risk and cost by another, by descending risk.

    Cheapest and riskiest first, safest last; always-top is kept even where it is beaten. Configurations predicted to
    abstain more than `abstain_share` are left out; 0 means never abstain. `escalation`: where rejected answers go.
    """
    grid = Grid.of(data, harm=harm)
    weights = [weight / float(data.cost_usd[:, -1].mean()) for weight in COST_WEIGHTS]
    tried = [always_top(len(data.tiers))]
    silences = _abstain_weights(data, abstain_share)
    if len(silences) > 1:
        weights = weights[::4]  # each price of an abstention has a front of its own
    for abstain_weight in silences:
        jumps = tune_all(data, grid, weights, abstain_weight, harm=harm)
        chained = escalation == "next"
        tried += _chains(data, grid, jumps, weights, abstain_weight, harm=harm) if chained else jumps
    found: dict[tuple[float, float], Configuration] = {}
    for thresholds in dict.fromkeys(tried):
        c = predict(data, thresholds, harm=harm)
        if c.abstain <= abstain_share and c.abstain < 1:
            # Of thresholds that do the same to every prompt the first is kept: it is the one that abstains least.
            found.setdefault((c.risk, c.cost_usd), c)
    safest = predict(data, tried[0], harm=harm)
    front = [c for c in _unbeaten(list(found.values())) if c.thresholds != tried[0]]
    if len(front) >= size:
        front = [front[i] for i in np.linspace(0, len(front) - 1, size - 1).round().astype(int)]
    return tuple(sorted([*front, safest], key=lambda c: (-c.risk, c.cost_usd)))


def _chains(
    data: CascadeEvidence,
    grid: Grid,
    starts: Sequence[Thresholds],
    cost_weights: Sequence[float],
    abstain_weight: float,
    *,
    harm: bool,
) -> list[Thresholds]:
    """Each start as a chain, improved; with what the last tier loses where it abstains on what `starts` do."""
    lost = soft_losses(data, harm=harm)
    silent = data.p_ok[:, -1] < starts[0].abstain_below[-1]
    lost[silent, -1] = abstain_weight
    edges = list(zip(grid.route, grid.verify, strict=True))
    bins = list(zip(grid.route_bin.T, grid.verify_bin.T, strict=True))
    return [
        chained(data, start, edges, bins, lost, weight) for start, weight in zip(starts, cost_weights, strict=True)
    ]


def predict(data: CascadeEvidence, thresholds: Thresholds, *, harm: bool = False) -> Configuration:
    """What the calibrated scores say that these thresholds would do."""
    replayed = replay_policy(data, thresholds)
    rows = replayed.accepted if harm else ~replayed.abstained
    lost = soft_losses(data, harm=harm)[np.arange(len(data)), np.maximum(replayed.answered_by, 0)]
    risk = float(lost[rows].mean()) if rows.any() else float(not harm)
    cost, silent = float(replayed.cost_usd.mean()), float(replayed.abstained.mean())
    return Configuration(thresholds, risk, cost, silent, float(rows.mean()))


def tune_all(
    data: CascadeEvidence,
    grid: Grid,
    cost_weights: Sequence[float],
    abstain_weight: float,
    *,
    harm: bool = False,
) -> list[Thresholds]:
    """For each cost weight the minimiser of P(answered and wrong) + cost_weight·USD + abstain_weight·P(abstain).

    An infinite `abstain_weight` forbids abstention. `harm` counts no answer of the last tier as wrong; `grid` has to
    be made with the same.
    """
    p_top = data.p_ok[:, -1]
    # At the top the best rule is pointwise: abstain where being wrong is likelier than abstaining is dear.
    top_abstain = 1 - abstain_weight if abstain_weight < 1 else -np.inf
    top_loss = np.where(p_top < top_abstain, abstain_weight, soft_losses(data, harm=harm)[:, -1])
    escalated = [grid.at_tier(i, top_loss) for i in range(len(grid.tiers))]
    straight = grid.at_top(top_loss)
    return [
        Thresholds(*_best(grid, escalated, straight, weight, abstain_weight, top_abstain)) for weight in cost_weights
    ]


def _best(
    grid: Grid,
    escalated: list[FloatArray],
    straight: FloatArray,
    cost_weight: float,
    abstain_weight: float,
    top_abstain: float,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    total = straight + cost_weight * grid.top_cost
    cuts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for sums, top_loss in zip(grid.tiers, escalated, strict=True):
        escalate = top_loss + cost_weight * sums.top_cost
        abstain = None if np.isinf(abstain_weight) else abstain_weight * sums.count
        loss, accept, silent = _best_cuts(abstain, escalate, sums.wrong)
        loss = loss + cost_weight * sums.cost[..., -1]
        total = total + loss.reshape(loss.shape + (1,) * (total.ndim - loss.ndim))
        cuts.append((accept, silent))
    best = np.unravel_index(int(np.argmin(total)), total.shape)
    route, accepts, abstains = [], [], []
    for i, (accept, silent) in enumerate(cuts):
        where = best[: i + 1]
        route.append(_threshold(grid.route[i], int(best[i])))
        used = route[i] < np.inf
        accepts.append(_threshold(grid.verify[i], int(accept[where])) if used else np.inf)
        abstains.append(_threshold(grid.verify[i], int(silent[where])) if used else -np.inf)
    return tuple(route), tuple(accepts), (*abstains, top_abstain)


def _best_cuts(
    abstain: FloatArray | None, escalate: FloatArray, accept: FloatArray
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """The least loss over abstain cut s ≤ accept cut t along the last axis, and the two cuts t and s.

    Inputs are running sums over cuts: what it costs to treat every bin below the cut that way (None: not allowed). The
    loss of (s, t) is abstain[s] + (escalate[t] - escalate[s]) + (accept[-1] - accept[t]).
    """
    loss = escalate - accept + accept[..., -1:]
    if abstain is None:
        t = np.argmin(loss, axis=-1)
        return np.take_along_axis(loss, t[..., None], axis=-1)[..., 0], t, np.zeros_like(t)
    lower = abstain - escalate
    running = np.minimum.accumulate(lower, axis=-1)
    loss = loss + running
    t = np.argmin(loss, axis=-1)
    target = np.take_along_axis(running, t[..., None], axis=-1)
    s = np.argmax(lower <= target, axis=-1)  # the first to reach the minimum: the least abstention
    return np.take_along_axis(loss, t[..., None], axis=-1)[..., 0], t, s


def _histogram(each: FloatArray, columns: Sequence[NDArray[np.int64]], edges: Sequence[FloatArray]) -> FloatArray:
    """Means over all prompts of `each`, split over the cells of the binned columns."""
    sizes = tuple(len(e) + 1 for e in edges)
    flat = np.ravel_multi_index(tuple(columns), sizes)
    sums = np.bincount(flat, weights=each, minlength=int(np.prod(sizes)))
    return np.asarray(sums.reshape(sizes) / len(each), dtype=np.float64)


def _to_cuts(cells: FloatArray, *, suffix: int | None) -> FloatArray:
    """Sums over bins → sums below each cut, along every axis; at or above it along axis `suffix`.

    Both run outwards from an exact zero, so that a sum over empty bins is zero and not a rounding error.
    """
    for axis in range(cells.ndim):
        zero = np.zeros_like(np.take(cells, [0], axis=axis))
        if axis == suffix:
            above = np.flip(np.cumsum(np.flip(cells, axis=axis), axis=axis), axis=axis)
            cells = np.concatenate([above, zero], axis=axis)
        else:
            cells = np.concatenate([zero, np.cumsum(cells, axis=axis)], axis=axis)
    return cells


def _threshold(edges: FloatArray, cut: int) -> float:
    """The score that separates the bins below a cut from the others: -inf (none below) … +inf (all below)."""
    return -np.inf if cut == 0 else np.inf if cut > len(edges) else float(edges[cut - 1])


def always_top(tiers: int) -> Thresholds:
    """Nothing is routed below the top tier and nothing abstained on: what is served without a certificate."""
    below = (np.inf,) * (tiers - 1)
    return Thresholds(below, below, (-np.inf,) * tiers)


def _abstain_weights(data: CascadeEvidence, abstain_share: float) -> tuple[float, ...]:
    """Prices of an abstention: first infinite (never), then those at which the top tier alone abstains on 0 … 2a."""
    if abstain_share == 0:
        return (np.inf,)
    shares = np.linspace(0, min(2 * abstain_share, 0.9), ABSTAIN_STEPS + 1)[1:]
    worst = np.unique(np.quantile(data.p_ok[:, -1], shares, method="higher"))
    return (np.inf, *(float(1 - p) for p in worst))


def _unbeaten(found: Sequence[Configuration]) -> list[Configuration]:
    """Those, by ascending risk, that no other is as good as in risk and in cost; no two are equal in both."""
    front: list[Configuration] = []
    for c in sorted(found, key=lambda c: (c.risk, c.cost_usd)):
        if not front or c.cost_usd < front[-1].cost_usd:
            front.append(c)
    return front
