"""The ways to use two tiers, each at the thresholds it would run at: what it costs, yields and may promise.

Thresholds are chosen on the workload's choosing rows; every figure is from the others. Certification is the anchored
sequence of `calibration.thresholds`, its δ shared among the patterns tried, so that the one picked keeps its promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from router_models.errors import NotCertifiedError
from router_models.planning.workload import Workload, rows_of
from router_models.risk_control.certificate import LabelSource
from router_models.risk_control.risk_and_drop import Paired, certify_both
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.evidence import cheapest_route_at
from router_models.types import BoolArray, FloatArray

NEVER = float("inf")
MARGIN = 0.75
"""The part of a budget that a threshold may use on the rows it was chosen on, so that it holds on others."""


@dataclass(frozen=True, slots=True)
class RiskBudget:
    """The quality a plan must keep: of accepted cheap answers at most `epsilon` wrong, with confidence 1 - `delta`.

    `max_drop`: how far the share right may fall below always-frontier's (None = not asked for).
    """

    epsilon: float
    delta: float
    max_drop: float | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """Dollars and seconds of one decision and of one verdict."""

    router_usd: float = 0.0
    verifier_usd: float = 0.0
    router_s: float = 0.0
    verifier_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way to use the tiers. All scores (n,) over the whole workload, ≥ passes.

    `before` decides whether the cheap tier is tried (None = always), at the fixed `route_at` or, where that is None
    and there is no `after`, at the threshold to be found. `after` decides whether its answer is kept (None = always).
    `calls` cheap calls are made per try.
    """

    name: str
    what: str
    before: FloatArray | None = None
    after: FloatArray | None = None
    route_at: float | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Operated:
    """A pattern with its thresholds. `why` says what is promised, or why nothing can be.

    `labels_missing` estimates the further CERT labels a promise needs, None where no number would do.
    """

    pattern: Pattern
    route_at: float | None
    accept_at: float | None
    certified: bool
    why: str
    labels_missing: int | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What becomes of each prompt: tried and kept on the cheap tier, dollars, grades, seconds (None = not known)."""

    tried: BoolArray
    kept: BoolArray
    usd: FloatArray
    right: FloatArray
    seconds: FloatArray | None


def patterns_of(work: Workload, budget: RiskBudget, samples: int | None) -> tuple[Pattern, ...]:
    """The patterns this workload lets one assess, simplest first."""
    seen = work.seen
    found = [
        Pattern("pre-route", f"a router ({work.router}) alone decides, before generation", before=seen.p_route_ok)
    ]
    if work.verifier is not None:
        wide, _ = cheapest_route_at(rows_of(seen, work.choosing), budget.epsilon)
        tries = f"tries {work.cheap} on every request and keeps what a verifier ({work.verifier}) accepts"
        found.append(Pattern("cascade", tries, after=seen.p_cheap_ok))
        layers = f"a router ({work.router}) sends clear cases to {work.frontier}, the cascade takes the rest"
        found.append(Pattern("layered", layers, before=seen.p_route_ok, after=seen.p_cheap_ok, route_at=wide))
    if work.agreement is not None and samples is not None:
        several = f"takes {samples} answers of {work.cheap} at once and keeps them where they agree"
        found.append(Pattern("ensemble sample", several, after=work.agreement, calls=samples))
    return tuple(found)


def operate(work: Workload, patterns: Sequence[Pattern], budget: RiskBudget, now: datetime) -> tuple[Operated, ...]:
    """Find every pattern's threshold: certified where labels allow it, else the one TUNE suggests, marked so."""
    level = budget.delta / max(len(patterns), 1)
    return tuple(_operate(work, pattern, budget, level, now) for pattern in patterns)


def play_out(work: Workload, operated: Operated, rows: BoolArray, extra: Extra) -> Outcomes:
    """What becomes of some of the workload's prompts under a pattern."""
    pattern, seen = operated.pattern, rows_of(work.seen, rows)
    n = len(seen)
    tried = np.ones(n, dtype=np.bool_) if pattern.before is None else pattern.before[rows] >= _at(operated.route_at)
    kept = tried if pattern.after is None else tried & (pattern.after[rows] >= _at(operated.accept_at))
    routed, judged = float(pattern.before is not None), float(pattern.after is not None)
    usd = np.where(tried, pattern.calls * seen.cheap_usd + judged * extra.verifier_usd, 0.0)
    usd = usd + np.where(kept, 0.0, seen.frontier_usd) + routed * extra.router_usd
    seconds = None
    if work.cheap_s is not None and work.frontier_s is not None:
        seconds = np.where(tried, work.cheap_s[rows] + judged * extra.verifier_s, 0.0)
        seconds = seconds + np.where(kept, 0.0, work.frontier_s[rows]) + routed * extra.router_s
    return Outcomes(tried, kept, usd, np.where(kept, seen.cheap_right, seen.frontier_right), seconds)


def provisional(
    scores: FloatArray, wrong: FloatArray, budget: float, lost: FloatArray | None = None, max_lost: float = NEVER
) -> float:
    """The lowest score at and above which at most `budget` are wrong; inf where there is none. Ties stay together.

    Where `lost` is given, its sum over the kept must not exceed `max_lost` either.
    """
    values, inverse, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    risk = np.cumsum(np.bincount(inverse, weights=wrong)) / np.cumsum(counts)
    within = risk <= budget
    if lost is not None:
        within &= np.cumsum(np.bincount(inverse, weights=lost)) <= max_lost
    fitting = np.flatnonzero(within)
    return float(-values[fitting[-1]]) if len(fitting) else NEVER


def _operate(work: Workload, pattern: Pattern, budget: RiskBudget, level: float, now: datetime) -> Operated:
    eligible = np.ones(len(work), dtype=np.bool_)
    if pattern.route_at is not None and pattern.before is not None:
        eligible = pattern.before >= pattern.route_at
    scores = pattern.after if pattern.after is not None else pattern.before
    assert scores is not None
    wrong = 1.0 - work.seen.cheap_right
    tune = work.choosing & eligible
    lost = work.seen.frontier_right - work.seen.cheap_right
    most = NEVER if budget.max_drop is None else MARGIN * budget.max_drop * int(work.choosing.sum())
    threshold = provisional(scores[tune], wrong[tune], MARGIN * budget.epsilon, lost[tune], most)
    certified, missing = False, None
    why = "on assumed figures: nothing is proved before outcomes are recorded"
    if work.labelled:
        try:
            threshold, why = _certify(work, np.where(eligible, scores, -NEVER), budget, level, now)
            certified = True
        except NotCertifiedError as error:
            why, missing = error.reason, error.labels_missing
    if pattern.after is None:
        return Operated(pattern, threshold, None, certified, why, missing)
    return Operated(pattern, pattern.route_at, threshold, certified, why, missing)


def _certify(work: Workload, scores: FloatArray, budget: RiskBudget, level: float, now: datetime) -> tuple[float, str]:
    """The proved threshold and its evidence in words; -inf scores are never kept. Raises NotCertifiedError."""
    tune, cert = (
        Paired(scores[rows], work.seen.cheap_right[rows], work.seen.frontier_right[rows])
        for rows in (work.choosing, ~work.choosing)
    )
    if budget.max_drop is not None:
        both = certify_both(tune, cert, epsilon=budget.epsilon, max_drop=budget.max_drop, level=level)
        return both.threshold, both.words
    certificate = certify_threshold(
        tune.labelled(),
        cert.labelled(),
        epsilon=budget.epsilon,
        delta=level,
        binds={},
        label_source=LabelSource.PROGRAMMATIC,
        made_at=now,
        expires_at=now + timedelta(days=1),
    )
    kept = f"{certificate.errors} of {certificate.accepted_n} answers kept in the certification sample were wrong"
    return certificate.threshold_for(), kept


def _at(threshold: float | None) -> float:
    return -NEVER if threshold is None else threshold
