"""Stage A of a chain: thresholds of which every tier's decide what the next one is asked.

What a tier rejects goes to the next tier that the router would try, so that the tiers' thresholds do not separate as
they do where everything goes to the top. Given those of all others one tier's two are found exactly: what becomes of a
prompt beyond the tier does not depend on them, and which prompts reach it neither. Sweeps over the tiers end where
none of them gains (coordinate descent), from what is best without a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from router_models.risk_control.evidence import CascadeEvidence, Thresholds
from router_models.types import BoolArray, FloatArray

SWEEPS = 4


def chained(
    data: CascadeEvidence,
    start: Thresholds,
    edges: Sequence[tuple[FloatArray, FloatArray]],
    bins: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    lost: FloatArray,
    cost_weight: float,
) -> Thresholds:
    """A chain whose P(answered and wrong) + cost_weight·USD no tier's own two thresholds can lower.

    Parameters
    ----------
    data : CascadeEvidence
        The prompts; calibrated estimates are the labels.
    start : Thresholds
        Where to begin; what the last tier abstains on stays, and no other tier abstains.
    edges, bins : sequence of tuple of array
        Of every tier below the top: the thresholds to choose from (routing, acceptance), and each prompt's place among
        them, (n,).
    lost : array of float
        (n, K): what showing each tier's answer loses.
    cost_weight : float
        What a dollar counts for.
    """
    top = len(data.tiers) - 1
    silent = (*(-np.inf,) * top, start.abstain_below[-1])
    found = replace(start, abstain_below=silent, chain=True)
    shapes = [(len(routes) + 1, len(accepts) + 1) for routes, accepts in edges]
    cells = [np.ravel_multi_index(both, shape) for both, shape in zip(bins, shapes, strict=True)]
    for _ in range(SWEEPS):
        before = found
        for i in reversed(range(top)):
            beyond, reached = _beyond(data, found, i, lost, cost_weight), _reached(data, found, i)
            spent = cost_weight * data.cost_usd[:, i]
            gained = lost[:, i] - beyond
            cuts = _best_cuts(bins[i][0], cells[i], shapes[i], reached * spent, reached * gained)
            route, accept = (_from_cut(values, cut) for values, cut in zip(edges[i], cuts, strict=True))
            found = replace(
                found,
                route_at=(*found.route_at[:i], route, *found.route_at[i + 1 :]),
                accept_at=(*found.accept_at[:i], accept, *found.accept_at[i + 1 :]),
            )
        if found == before:
            break
    return found


def _beyond(data: CascadeEvidence, thresholds: Thresholds, i: int, lost: FloatArray, cost_weight: float) -> FloatArray:
    """What each prompt loses and costs from the tier after i on, (n,)."""
    found = lost[:, -1] + cost_weight * data.cost_usd[:, -1]
    for j in reversed(range(i + 1, len(data.tiers) - 1)):
        answered = np.where(_accepts(data, thresholds, j), lost[:, j], found)
        tried = data.p_route[:, j] >= thresholds.route_at[j]
        found = np.where(tried, cost_weight * data.cost_usd[:, j] + answered, found)
    return np.asarray(found)


def _reached(data: CascadeEvidence, thresholds: Thresholds, i: int) -> BoolArray:
    """Which prompts no tier before i answers, (n,)."""
    found = np.ones(len(data), dtype=np.bool_)
    for j in range(i):
        found &= ~((data.p_route[:, j] >= thresholds.route_at[j]) & _accepts(data, thresholds, j))
    return found


def _accepts(data: CascadeEvidence, thresholds: Thresholds, j: int) -> BoolArray:
    passed = data.p_ok[:, j] >= thresholds.accept_at[j]
    return np.asarray(passed if data.faulty is None else passed & ~data.faulty[:, j], dtype=np.bool_)


def _best_cuts(
    routes: NDArray[np.int64],
    cells: NDArray[np.int64],
    shape: tuple[int, int],
    spent: FloatArray,
    gained: FloatArray,
) -> tuple[int, int]:
    """From which routing bin on to try, and from which acceptance bin on to accept, for the least sum.

    `routes` is each prompt's routing bin, `cells` its place among all pairs of bins.
    """
    gains = np.bincount(cells, weights=gained, minlength=shape[0] * shape[1]).astype(np.float64)
    calls = np.bincount(routes, weights=spent, minlength=shape[0]).astype(np.float64)
    sums = _from_each(_from_each(gains.reshape(shape), 0), 1) + _from_each(calls, 0)[:, None]
    route, accept = np.unravel_index(int(np.argmin(sums[::-1, ::-1])), sums.shape)  # the strictest of equals
    return sums.shape[0] - 1 - int(route), sums.shape[1] - 1 - int(accept)


def _from_each(cells: FloatArray, axis: int) -> FloatArray:
    """Sums over the bins from each on along an axis, and over none."""
    sums = np.zeros([size + (along == axis) for along, size in enumerate(cells.shape)])
    backwards = np.flip(sums, axis=axis)[(slice(None),) * axis + (slice(1, None),)]
    np.cumsum(np.flip(cells, axis=axis), axis=axis, out=backwards)
    return sums


def _from_cut(edges: FloatArray, cut: int) -> float:
    return -np.inf if cut == 0 else np.inf if cut > len(edges) else float(edges[cut - 1])
