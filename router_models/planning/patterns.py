"""The ways to use two tiers, each at the thresholds it would run at: what it costs, yields and can certify.

Thresholds are chosen on the workload's choosing rows; every figure is from the others. Certification is the anchored
sequence of `risk_control.thresholds`, its δ shared among the patterns tried, so that the selected one keeps its level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from router_models.errors import NotCertifiedError, by_number
from router_models.planning.workload import Workload
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, HARM_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.one_threshold.risk_and_drop import Paired, certify_both
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.evidence import cheapest_route_at
from router_models.types import BoolArray, FloatArray
from router_models.types.label_sources import LabelSource

NEVER = float("inf")
MARGIN = 0.75
"""The part of a budget that a threshold may use on the rows it was chosen on, so that it holds on others."""


@dataclass(frozen=True, slots=True)
class RiskBudget:
    """Hold the quality that a plan must keep.

    Parameters
    ----------
    epsilon : float
        The share of accepted cheap answers that may be wrong (`harm`: where the better tier's is right), in (0, 1).
    delta : float
        1 - confidence, in (0, 1).
    max_drop : float, optional
        How far the share right may fall below always-frontier's; None = no limit.
    harm : bool
        Whether the wrong answers that count are those where the better tier's is right; else every wrong one.
    """

    epsilon: float
    delta: float
    max_drop: float | None = None
    harm: bool = True

    @property
    def what(self) -> str:
        """Return the name of the risk that is bounded."""
        return HARM_RISK if self.harm else ACCEPTED_RISK

    def counts_against(self, seen: CascadeEvidence) -> FloatArray:
        """Return which cheap answers count against the budget, (n,): 1 or 0."""
        return seen.harm[:, 0].astype(np.float64) if self.harm else 1.0 - seen.grades[:, 0]

    def words(self, frontier: str) -> str:
        """Return what is said of the answers that count against the budget."""
        return f"wrong where {frontier}'s is right" if self.harm else "wrong"


@dataclass(frozen=True, slots=True)
class Extra:
    """Hold US dollars and seconds of one routing decision and of one verdict."""

    router_usd: float = 0.0
    verifier_usd: float = 0.0
    router_s: float = 0.0
    verifier_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """Hold one way to use the tiers. Scores (n,) cover the whole workload; ≥ passes.

    Parameters
    ----------
    name, what : str
        Its name, and what it does in words.
    before : array of float, (n,), optional
        Decides whether the cheap tier is tried; None = always.
    after : array of float, (n,), optional
        Decides whether its answer is kept; None = always.
    route_at : float, optional
        The fixed threshold of `before`; None = to be found, where there is no `after`.
    calls : int
        Cheap calls per try.
    needs : str
        What the served graph would need for it, in a sentence: then it is shown and never recommended; or empty.
    """

    name: str
    what: str
    before: FloatArray | None = None
    after: FloatArray | None = None
    route_at: float | None = None
    calls: int = 1
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Operated:
    """Hold a pattern with its thresholds.

    Parameters
    ----------
    pattern : Pattern
        The pattern.
    route_at, accept_at : float, optional
        The thresholds before and after generation.
    certified : bool
        Whether the thresholds are certified.
    why : str
        What is certified, or why nothing can be.
    labels_missing : int, optional
        An estimate of the further CERT labels that are needed; None where no number would do.
    """

    pattern: Pattern
    route_at: float | None
    accept_at: float | None
    certified: bool
    why: str
    labels_missing: int | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Hold what becomes of each prompt under a pattern.

    Parameters
    ----------
    tried, kept : array of bool, (n,)
        Whether the cheap tier is tried, and its answer kept.
    usd : array of float, (n,)
        US dollars.
    right : array of float, (n,)
        Grades.
    seconds : array of float, (n,), optional
        Latency; None = not known.
    """

    tried: BoolArray
    kept: BoolArray
    usd: FloatArray
    right: FloatArray
    seconds: FloatArray | None


def patterns_of(work: Workload, budget: RiskBudget, samples: int | None) -> tuple[Pattern, ...]:
    """Return the patterns that this workload has the scores for, simplest first."""
    seen = work.seen
    found = [
        Pattern("pre-route", f"a router ({work.router}) alone decides, before generation", before=seen.p_route[:, 0])
    ]
    if work.verifier is not None:
        wide, _ = cheapest_route_at(seen.take(work.choosing), budget.epsilon, harm=budget.harm)
        tries = f"tries {work.cheap} on every request and keeps what a verifier ({work.verifier}) accepts"
        found.append(Pattern("cascade", tries, after=seen.p_ok[:, 0]))
        layers = f"a router ({work.router}) sends clear cases to {work.frontier}, the cascade takes the rest"
        found.append(Pattern("layered", layers, before=seen.p_route[:, 0], after=seen.p_ok[:, 0], route_at=wide))
    if work.agreement is not None and samples is not None:
        several = f"takes {samples} answers of {work.cheap} at once and keeps them where they agree"
        needs = work.not_served.get("agreement", "")
        found.append(Pattern("ensemble sample", several, after=work.agreement, calls=samples, needs=needs))
    return tuple(found)


def operate(work: Workload, patterns: Sequence[Pattern], budget: RiskBudget, now: datetime) -> tuple[Operated, ...]:
    """Find every pattern's threshold.

    Parameters
    ----------
    work : Workload
        The workload.
    patterns : sequence of Pattern
        The patterns; δ is shared among those that can be chosen.
    budget : RiskBudget
        The quality to keep.
    now : datetime
        The time at which certificates are dated.

    Returns
    -------
    tuple of Operated
        Certified where labels suffice, else at the threshold that the choosing rows suggest.
    """
    level = budget.delta / max(sum(not pattern.needs for pattern in patterns), 1)
    return tuple(_operate(work, pattern, budget, level, now) for pattern in patterns)


def play_out(work: Workload, operated: Operated, rows: BoolArray, extra: Extra) -> Outcomes:
    """Compute what becomes of some of the workload's prompts under a pattern.

    Parameters
    ----------
    work : Workload
        The workload.
    operated : Operated
        The pattern with its thresholds.
    rows : array of bool
        Which prompts.
    extra : Extra
        The cost of decisions and verdicts.

    Returns
    -------
    Outcomes
    """
    pattern, seen = operated.pattern, work.seen.take(rows)
    n = len(seen)
    tried = np.ones(n, dtype=np.bool_) if pattern.before is None else pattern.before[rows] >= _at(operated.route_at)
    tried = tried & seen.rows_counted
    kept = tried if pattern.after is None else tried & (pattern.after[rows] >= _at(operated.accept_at))
    routed, judged = float(pattern.before is not None), float(pattern.after is not None)
    usd = np.where(tried, pattern.calls * seen.cost_usd[:, 0] + judged * extra.verifier_usd, 0.0)
    usd = usd + np.where(kept, 0.0, seen.cost_usd[:, -1]) + routed * extra.router_usd
    seconds = None
    if work.cheap_s is not None and work.frontier_s is not None:
        seconds = np.where(tried, work.cheap_s[rows] + judged * extra.verifier_s, 0.0)
        seconds = seconds + np.where(kept, 0.0, work.frontier_s[rows]) + routed * extra.router_s
    return Outcomes(tried, kept, usd, np.where(kept, seen.grades[:, 0], seen.grades[:, -1]), seconds)


def provisional(
    scores: FloatArray, wrong: FloatArray, budget: float, lost: FloatArray | None = None, max_lost: float = NEVER
) -> float:
    """Return the lowest score from which on at most the share `budget` is wrong, inf for none; ties stay together.

    Where `lost` is given, its sum over the kept does not exceed `max_lost` either.
    """
    values, inverse, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    risk = np.cumsum(np.bincount(inverse, weights=wrong)) / np.cumsum(counts)
    within = risk <= budget
    if lost is not None:
        within &= np.cumsum(np.bincount(inverse, weights=lost)) <= max_lost
    fitting = np.flatnonzero(within)
    return float(-values[fitting[-1]]) if len(fitting) else NEVER


def _operate(work: Workload, pattern: Pattern, budget: RiskBudget, level: float, now: datetime) -> Operated:
    eligible = work.seen.rows_counted
    if pattern.route_at is not None and pattern.before is not None:
        eligible = eligible & (pattern.before >= pattern.route_at)
    scores = pattern.after if pattern.after is not None else pattern.before
    assert scores is not None
    wrong = budget.counts_against(work.seen)
    tune = work.choosing & eligible
    lost = work.seen.grades[:, -1] - work.seen.grades[:, 0]
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
    """Return the certified threshold and its evidence in words, or raise NotCertifiedError; -inf is never kept."""
    tune, cert = (
        Paired(scores[rows], work.seen.grades[:, 0][rows], work.seen.grades[:, -1][rows], harm=budget.harm)
        for rows in (work.choosing & work.counted, ~work.choosing & work.counted)
    )
    if budget.max_drop is not None:
        both = certify_both(tune, cert, epsilon=budget.epsilon, max_drop=budget.max_drop, level=level)
        return both.threshold, f"{_kept(both.errors, both.accepted, budget, work)}, drop proved as well"
    terms = CertificateTerms(budget.epsilon, level, LabelSource.PROGRAMMATIC, now, now + timedelta(days=1))
    certificate = certify_threshold(tune.labelled(), cert.labelled(), terms, what=budget.what)
    return certificate.threshold_for(), _kept(certificate.errors, certificate.accepted_n, budget, work)


def _kept(errors: int, accepted: int, budget: RiskBudget, work: Workload) -> str:
    bad = budget.words(work.frontier)
    return f"{errors} of {accepted} answers kept in the certification sample {by_number(errors, 'was', 'were')} {bad}"


def _at(threshold: float | None) -> float:
    return -NEVER if threshold is None else threshold
