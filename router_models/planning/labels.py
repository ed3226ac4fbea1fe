"""Compute how many labels a certificate needs, from the risks measured on the labels there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.planning.patterns import Pattern
from router_models.planning.recommendation import Demand
from router_models.planning.workload import Workload
from router_models.risk_control.labels import labels_needed
from router_models.risk_control.sequence import Labelled, counts_at, quantile_grid, smoothed_risk, spent_delta
from router_models.training.splits import SPLIT_SHARES

EPSILONS = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20)
MOST_LABELS = 200_000
CERT_SHARE = SPLIT_SHARES["cert"]
"""The part of all labels that `train` and `certify` keep for certification."""


@dataclass(frozen=True, slots=True)
class LabelsRow:
    """Hold the CERT labels (of all prompts, kept or not) for one ε, by the risks measured on every labelled prompt.

    Labels are counted at the level of a first look, which is what `certify` can spend. None = no number would do.

    Parameters
    ----------
    epsilon : float
        The error budget.
    reachable : float
        The largest share that could be kept at that risk.
    fewest : int, optional
        Labels that certify the threshold that needs the fewest.
    fewest_share : float
        The share kept at that threshold.
    useful : int, optional
        Labels that certify a threshold that keeps at least three quarters of what is reachable.
    useful_share : float
        The share kept at that threshold.
    """

    epsilon: float
    reachable: float
    fewest: int | None
    fewest_share: float
    useful: int | None
    useful_share: float


def labels_table(work: Workload, pattern: Pattern, epsilons: tuple[float, ...], delta: float) -> tuple[LabelsRow, ...]:
    """Compute how many CERT labels each error budget needs, and how much traffic it would keep.

    Parameters
    ----------
    work : Workload
        The workload.
    pattern : Pattern
        The way of routing.
    epsilons : tuple of float
        Error budgets, in (0, 1).
    delta : float
        1 - confidence.

    Returns
    -------
    tuple of LabelsRow
        One per error budget.
    """
    scores = pattern.after if pattern.after is not None else pattern.before
    assert scores is not None
    on = work.counted
    if pattern.route_at is not None and pattern.before is not None:
        on = on & (pattern.before >= pattern.route_at)
    data = Labelled(scores[on], work.seen.grades[:, 0][on] < 0.5)
    accepted, wrong = counts_at(quantile_grid(data.scores), data)
    risk, share = smoothed_risk(accepted, wrong), accepted / int(work.counted.sum())
    return tuple(_labels_row(epsilon, delta, risk, share) for epsilon in epsilons)


def label_money(demand: Demand, row: LabelsRow) -> float | None:
    """Return what the labels of a row cost, including those for training and tuning; None where not known."""
    if demand.usd_per_label is None or row.useful is None:
        return None
    return demand.usd_per_label * row.useful / CERT_SHARE


def _labels_row(epsilon: float, delta: float, risk: np.ndarray, share: np.ndarray) -> LabelsRow:
    within = risk <= epsilon
    reachable = float(share[within].max()) if within.any() else 0.0
    level = spent_delta(delta, 1)
    needed = [
        _whole(labels_needed(epsilon, float(r), level), float(s)) if r < 0.97 * epsilon and s > 0 else None
        for r, s in zip(risk, share, strict=True)
    ]
    fewest = _least(needed, share, 0.0)
    useful = _least(needed, share, 0.75 * reachable)
    return LabelsRow(epsilon, reachable, *fewest, *useful)


def _whole(labels: int | None, share: float) -> int | None:
    """Convert labels among kept answers to labels among all; None where that is more than anyone would collect."""
    total = None if labels is None else int(np.ceil(labels / share))
    return None if total is None or total > MOST_LABELS else total


def _least(needed: list[int | None], share: np.ndarray, at_least: float) -> tuple[int | None, float]:
    known = [
        (labels, float(s)) for labels, s in zip(needed, share, strict=True) if labels is not None and s >= at_least
    ]
    return min(known, default=(None, 0.0), key=lambda pair: pair[0])
