"""Stage A: all thresholds of a ladder at once, from calibrated scores alone.

Minimises P(answered and wrong) + λ_c·E[cost] + λ_a·P(abstain) with the calibrated estimates as soft labels, so
unlabelled traffic will do. Given the routing thresholds the tiers' own thresholds separate, and sums over a grid of
score bins give every combination's loss: exact on the grid, milliseconds per (λ_c, λ_a). Sweeping both weights traces
the Pareto front. As good as the copula model of arXiv 2501.09345 at a hundredth of its time; early abstention as in
2502.09054.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.calibration.ladder import Ladder, Thresholds, play
from router_models.calibration.sequence import quantile_grid
from router_models.types import FloatArray

GRID = 20
COST_WEIGHTS = tuple(float(w) for w in np.geomspace(0.003, 3.0, 32))
ABSTAIN_STEPS = 8


@dataclass(frozen=True, slots=True)
class Configuration:
    """Thresholds with what soft labels predict of them: P(wrong | answered), USD per prompt, P(abstain)."""

    thresholds: Thresholds
    risk: float
    cost_usd: float
    abstain: float


@dataclass(frozen=True, slots=True)
class _Bins:
    """Score bins of a ladder: ascending edges per column, and each prompt's bin (0 = below the lowest edge).

    A *cut* c separates the bins below c from the rest, 0 … number of bins.
    """

    route: list[FloatArray]
    verify: list[FloatArray]
    route_bin: NDArray[np.int64]
    verify_bin: NDArray[np.int64]

    @property
    def route_sizes(self) -> tuple[int, ...]:
        return tuple(len(edges) + 1 for edges in self.route)

    @property
    def verify_sizes(self) -> tuple[int, ...]:
        return tuple(len(edges) + 1 for edges in self.verify)


def pareto_path(data: Ladder, *, abstain_share: float = 0.0, size: int = GRID) -> tuple[Configuration, ...]:
    """At most `size` configurations, none beaten on predicted risk and cost by another, by descending risk.

    Cheapest and riskiest first, safest last; always-top is kept even where it is beaten. Configurations predicted to
    abstain more than `abstain_share` are left out; 0 means never abstain.
    """
    bins = _bins(data)
    unit = float(data.cost_usd[:, -1].mean())
    tried = [always_top(len(data.tiers))]
    for abstain_weight in _abstain_weights(data, abstain_share):
        tried += [tune(data, bins, cost_weight / unit, abstain_weight) for cost_weight in COST_WEIGHTS]
    found: dict[tuple[float, float], Configuration] = {}
    for thresholds in dict.fromkeys(tried):
        c = predict(data, thresholds)
        if c.abstain <= abstain_share and c.abstain < 1:
            # Of thresholds that do the same to every prompt the first is kept: it is the one that abstains least.
            found.setdefault((c.risk, c.cost_usd), c)
    safest = predict(data, tried[0])
    front = [c for c in found.values() if c.thresholds != tried[0] and not any(_beats(d, c) for d in found.values())]
    if len(front) >= size:
        front.sort(key=lambda c: c.risk)
        front = [front[i] for i in np.linspace(0, len(front) - 1, size - 1).round().astype(int)]
    return tuple(sorted([*front, safest], key=lambda c: (-c.risk, c.cost_usd)))


def predict(data: Ladder, thresholds: Thresholds) -> Configuration:
    """What the calibrated scores say that these thresholds would do."""
    played = play(data, thresholds)
    answered = ~played.abstained
    soft = data.p_ok[np.arange(len(data)), np.maximum(played.answered_by, 0)]
    risk = float((1 - soft[answered]).mean()) if answered.any() else 1.0
    return Configuration(thresholds, risk, float(played.cost_usd.mean()), float(played.abstained.mean()))


def tune(data: Ladder, bins: _Bins, cost_weight: float, abstain_weight: float) -> Thresholds:
    """The grid's minimiser of P(answered and wrong) + cost_weight·USD + abstain_weight·P(abstain)."""
    top = len(data.tiers) - 1
    p_top = data.p_ok[:, top]
    # At the top the best rule is pointwise: abstain where being wrong is likelier than abstaining is dear.
    top_abstain = 1 - abstain_weight if abstain_weight < 1 else -np.inf
    abstain_loss = min(abstain_weight, 1e6)
    at_top = cost_weight * data.cost_usd[:, top] + np.where(p_top < top_abstain, abstain_loss, 1 - p_top)
    total = _to_cuts(_histogram(at_top, bins.route_bin, bins.route_sizes), suffix=None)
    cuts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for i in range(top):
        columns = np.column_stack([bins.route_bin[:, : i + 1], bins.verify_bin[:, i]])
        sizes = (*bins.route_sizes[: i + 1], bins.verify_sizes[i])

        def per_cut(
            each: FloatArray, columns: NDArray[np.int64] = columns, sizes: tuple[int, ...] = sizes, i: int = i
        ) -> FloatArray:
            return _to_cuts(_histogram(each, columns, sizes), suffix=i)

        loss, accept, abstain = _best_cuts(
            abstain=per_cut(np.full(len(data), abstain_loss)),
            escalate=per_cut(at_top),
            accept=per_cut(1 - data.p_ok[:, i]),
        )
        tried = per_cut(cost_weight * data.cost_usd[:, i])[..., -1]
        total = total + (loss + tried).reshape(loss.shape + (1,) * (top - 1 - i))
        cuts.append((accept, abstain))
    best = np.unravel_index(int(np.argmin(total)), total.shape)
    route, accepts, abstains = [], [], []
    for i, (accept, abstain) in enumerate(cuts):
        where = best[: i + 1]
        route.append(_threshold(bins.route[i], int(best[i])))
        used = route[i] < np.inf
        accepts.append(_threshold(bins.verify[i], int(accept[where])) if used else np.inf)
        abstains.append(_threshold(bins.verify[i], int(abstain[where])) if used else -np.inf)
    return Thresholds(tuple(route), tuple(accepts), (*abstains, top_abstain))


def _best_cuts(
    *, abstain: FloatArray, escalate: FloatArray, accept: FloatArray
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """The least loss over abstain cut s ≤ accept cut t along the last axis, and the two cuts.

    Inputs are running sums over cuts: what it costs to treat every bin below the cut that way. The loss of (s, t) is
    abstain[s] + (escalate[t] - escalate[s]) + (accept[-1] - accept[t]).
    """
    lower = abstain - escalate
    upper = escalate - accept + accept[..., -1:]
    running = np.minimum.accumulate(lower, axis=-1)
    loss = upper + running
    t = np.argmin(loss, axis=-1)
    # the first cut s ≤ t that reaches the running minimum at t
    target = np.take_along_axis(running, t[..., None], axis=-1)
    s = np.argmax(lower <= target, axis=-1)
    return np.take_along_axis(loss, t[..., None], axis=-1)[..., 0], t.astype(np.int64), s.astype(np.int64)


def _histogram(each: FloatArray, columns: NDArray[np.int64], sizes: tuple[int, ...]) -> FloatArray:
    """Sums of `each` per cell of the bins in `columns`, as a mean's share (divided by n)."""
    flat = np.ravel_multi_index(tuple(columns.T), sizes)
    sums = np.bincount(flat, weights=each, minlength=int(np.prod(sizes)))
    return np.asarray(sums.reshape(sizes) / len(each), dtype=np.float64)


def _to_cuts(cells: FloatArray, *, suffix: int | None) -> FloatArray:
    """Sums over bins → sums below each cut, along every axis; at or above it along axis `suffix`."""
    for axis in range(cells.ndim):
        zero = np.zeros_like(np.take(cells, [0], axis=axis))
        below = np.concatenate([zero, np.cumsum(cells, axis=axis)], axis=axis)
        cells = np.take(below, [-1], axis=axis) - below if axis == suffix else below
    return cells


def _bins(data: Ladder) -> _Bins:
    route = [quantile_grid(column, GRID)[1:] for column in data.p_route.T]
    verify = [quantile_grid(column, GRID)[1:] for column in data.p_ok.T[:-1]]
    return _Bins(
        route,
        verify,
        np.column_stack([np.searchsorted(t, c, side="right") for t, c in zip(route, data.p_route.T, strict=True)]),
        np.column_stack([np.searchsorted(t, c, side="right") for t, c in zip(verify, data.p_ok.T, strict=False)]),
    )


def _threshold(edges: FloatArray, cut: int) -> float:
    """The score that separates the bins below a cut from the others: -inf (none below) … +inf (all below)."""
    return -np.inf if cut == 0 else np.inf if cut > len(edges) else float(edges[cut - 1])


def always_top(tiers: int) -> Thresholds:
    """Nothing is routed below the top tier and nothing abstained on: what is served without a certificate."""
    below = (np.inf,) * (tiers - 1)
    return Thresholds(below, below, (-np.inf,) * tiers)


def _abstain_weights(data: Ladder, abstain_share: float) -> tuple[float, ...]:
    """Prices of an abstention: first infinite (never), then those at which the top tier alone abstains on 0 … 2a."""
    if abstain_share == 0:
        return (np.inf,)
    shares = np.linspace(0, min(2 * abstain_share, 0.9), ABSTAIN_STEPS + 1)[1:]
    worst = np.unique(np.quantile(data.p_ok[:, -1], shares, method="higher"))
    return (np.inf, *(float(1 - p) for p in worst))


def _beats(a: Configuration, b: Configuration) -> bool:
    """Whether a is no worse than b in risk and cost, and better in one."""
    return a.risk <= b.risk and a.cost_usd <= b.cost_usd and (a.risk, a.cost_usd) != (b.risk, b.cost_usd)
