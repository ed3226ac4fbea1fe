"""Compute how many labels a certificate needs, from the risks measured on the labels there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router_models.planning.patterns import Pattern, RiskBudget
from router_models.planning.recommendation import Demand
from router_models.planning.workload import Workload
from router_models.risk_control.labels import labels_assured, labels_guess
from router_models.risk_control.sequence import ANCHORS, Labelled, counts_at, quantile_grid, smoothed_risk, spent_delta
from router_models.risk_control.streaming import labels_streamed
from router_models.training.splits import SPLIT_SHARES
from router_models.types import FloatArray

EPSILONS = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20)
MOST_LABELS = 200_000
CERT_SHARE = SPLIT_SHARES["cert"]
"""The part of all labels that `train` and `certify` keep for certification."""


@dataclass(frozen=True, slots=True)
class LabelsRow:
    """Hold the CERT labels (of all prompts, kept or not) for one ε, by the risks measured on every labelled prompt.

    Labels are counted at the level of a first look, which is what `certify` can spend. None = no number would do, or
    these labels are too few to say one.

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
    useful_errors, useful_kept : int
        What is known of the risk there: how many of these kept answers were wrong, at thresholds not chosen on them.
    """

    epsilon: float
    reachable: float
    fewest: int | None
    fewest_share: float
    useful: int | None
    useful_share: float
    useful_errors: int = 0
    useful_kept: int = 0


@dataclass(frozen=True, slots=True)
class LabelKinds:
    """Hold how many labels of each kind a promise needs, at the threshold of `LabelsRow.useful`.

    Parameters
    ----------
    tuning : int
        Labels of TRAIN and TUNE: a judge's or a program's may do.
    fixed, fixed_kept : int
        CERT labels of a test with a fixed number: of all prompts, and of kept answers among them.
    streamed, streamed_most : int, optional
        People's labels of kept answers, one by one until it is proved: in half of the cases, in nine of ten. None
        where too many are needed in more than one case of ten.
    """

    tuning: int
    fixed: int
    fixed_kept: int
    streamed: int | None
    streamed_most: int | None


def labels_table(
    work: Workload, pattern: Pattern, epsilons: tuple[float, ...], budget: RiskBudget
) -> tuple[LabelsRow, ...]:
    """Compute how many CERT labels each error budget needs, and how much traffic it would keep.

    Parameters
    ----------
    work : Workload
        The workload.
    pattern : Pattern
        The way of routing.
    epsilons : tuple of float
        Error budgets, in (0, 1).
    budget : RiskBudget
        Which wrong answers count, and δ.

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
    data = Labelled(scores[on], budget.counts_against(work.seen)[on] > 0.5)
    return tuple(labels_row(epsilon, budget.delta, data, int(work.counted.sum())) for epsilon in epsilons)


def label_kinds(row: LabelsRow, delta: float) -> LabelKinds | None:
    """Return how many labels of each kind a row's promise needs; None where no number would do."""
    if row.useful is None:
        return None
    known = labels_streamed(row.epsilon, row.useful_errors, row.useful_kept, spent_delta(delta, 1))
    half, most = (None, None) if known is None else known
    tuning = math.ceil(row.useful * (1 - CERT_SHARE) / CERT_SHARE)
    return LabelKinds(tuning, row.useful, math.ceil(row.useful * row.useful_share), half, most)


def label_money(demand: Demand, row: LabelsRow) -> float | None:
    """Return what the labels of a row cost, including those for training and tuning; None where not known."""
    if demand.usd_per_label is None or row.useful is None:
        return None
    return demand.usd_per_label * row.useful / CERT_SHARE


def labels_row(epsilon: float, delta: float, data: Labelled, prompts: int) -> LabelsRow:
    """Return the labels that one error budget needs.

    A threshold that is chosen and counted on the same labels is the luckiest one: it promises too much. Here each half
    of the labels chooses a threshold for the other half to be counted at, and the number of labels allows for what
    those counts leave open of the risk (`labels_assured`).

    Parameters
    ----------
    epsilon : float
        The error budget, in (0, 1).
    delta : float
        1 - confidence.
    data : Labelled
        Scores and labels of the answers that may be kept, in random order.
    prompts : int
        How many prompts they were taken from.

    Returns
    -------
    LabelsRow
    """
    grid = quantile_grid(data.scores, ANCHORS)
    accepted, wrong = counts_at(grid, data)
    within = smoothed_risk(accepted, wrong) <= epsilon
    reachable = float(accepted[within].max()) / prompts if within.any() else 0.0
    level = spent_delta(delta, 1)
    fewest, fewest_share, _, _ = _assured(epsilon, level, data, grid, prompts, 0.0)
    useful = _assured(epsilon, level, data, grid, prompts, 0.75 * reachable)
    return LabelsRow(epsilon, reachable, fewest, fewest_share, *useful)


def _assured(
    epsilon: float, level: float, data: Labelled, grid: FloatArray, prompts: int, at_least: float
) -> tuple[int | None, float, int, int]:
    """Labels of all prompts, the share kept, errors among how many kept, at thresholds that keep `at_least`.

    None where no number of labels would do.
    """
    half = np.arange(len(data)) % 2 == 0
    kept = errors = seen = 0
    for inside in (half, ~half):
        choosing, counting = (Labelled(data.scores[rows], data.wrong[rows]) for rows in (inside, ~inside))
        accepted, wrong = counts_at(grid, choosing)
        share = accepted * (len(data) / max(len(choosing), 1) / prompts)
        guess = labels_guess(epsilon, smoothed_risk(accepted, wrong), level) / np.maximum(share, 1e-12)
        guess = np.where((accepted > 0) & (share >= at_least), guess, np.inf)
        best = int(np.argmin(guess))
        if not np.isfinite(guess[best]):
            continue
        accepted, wrong = counts_at(grid, counting)
        kept, errors, seen = kept + int(accepted[best]), errors + int(wrong[best]), seen + len(counting)
    share_kept = kept / seen * len(data) / prompts if seen else 0.0
    needed = labels_assured(epsilon, errors, kept, level) if kept else None
    total = None if needed is None else int(np.ceil(needed / share_kept))
    return (None, 0.0, errors, kept) if total is None or total > MOST_LABELS else (total, share_kept, errors, kept)
