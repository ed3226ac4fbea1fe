"""From a labelled table to what a policy is judged on, and where to put the thresholds that need no certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import slices_of
from router_models.errors import DataError
from router_models.estimators.questions.terms import USUAL_QUESTIONS, AskedSettings
from router_models.estimators.signal_costs import not_had, signal_costs
from router_models.estimators.signals import TierKind, served_names
from router_models.metrics import bootstrap
from router_models.pricing.break_even import CallTotals, Tries
from router_models.pricing.call_costs import call_costs
from router_models.pricing.prices import Price
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.ladder.replay import Replay
from router_models.types import Answers, BoolArray, FloatArray
from router_models.versions.covering.covered_rows import covered_rows
from router_models.versions.covering.routed_by_intent import sent_first
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import as_served, shows_route

Ratio = tuple[float, float, float]
LEAST_FOR_RATIO = 20
"""Accepted answers from which on the ratio of two tiers' lengths is worth telling."""


@dataclass(frozen=True, slots=True)
class VersionScores:
    """What a version's models say of every row of a table, (n,) by tier, as they would say it when serving.

    `p_route`: P(the tier's answer will be acceptable), of tiers with a router. `p_ok`: P(its answer is acceptable).
    `faulty`: whether its answer breaks the shape that the request declares, of tiers whose table says so.
    """

    p_route: Mapping[str, FloatArray]
    p_ok: Mapping[str, FloatArray]
    faulty: Mapping[str, BoolArray] = field(default_factory=dict)


def score_table(version: RouterVersion, table: OutcomeTable) -> VersionScores:
    """Ask a version's models about every prompt and recorded answer; embeddings must be there where they read any."""
    unsaid = np.zeros(len(table), dtype=np.bool_)  # nobody is tried where the cheapest tier did not say what is asked
    for name in version.asked_first:
        unsaid |= ~np.isfinite(table.prompts.signals.get(name, np.full(len(table), np.nan)))
    p_route = {
        tier: np.where(unsaid, 0.0, stage.estimate_route(table.prompts))
        for tier, stage in version.stages.items()
        if stage.router is not None
    }
    first = next((p_route[tier] for tier in version.policy.tiers if tier in p_route), np.full(len(table), np.nan))
    p_ok, faulty = {}, {}
    for tier, stage in version.stages.items():
        asked = version.asked_of(tier)
        shown = answers_as_served(table, version.policy.tiers, tier, p_route.get(tier, first), asked=asked)
        p_ok[tier] = np.where(not_had(shown, asked), 0.0, stage.estimate_ok(shown))
        if tier != version.policy.top and "schema_fault" in shown.signals:  # a rule rejects these when serving
            faulty[tier] = np.asarray(shown.signals["schema_fault"] > 0, dtype=np.bool_)
            p_ok[tier] = np.where(faulty[tier], 0.0, p_ok[tier])
    return VersionScores(p_route, p_ok, faulty)


def answers_as_served(
    table: OutcomeTable,
    tiers: tuple[str, ...],
    tier: str,
    p_route: FloatArray | None,
    kind: TierKind | None = None,
    asked: Sequence[str] = (),
) -> Answers:
    """A tier's recorded answers, as its verifier would be shown them when serving.

    Parameters
    ----------
    table : OutcomeTable
        The outcomes.
    tiers : tuple of str
        The ladder that the tier belongs to.
    tier : str
        Whose answers.
    p_route : array of float, optional
        The router's calibrated estimate of every prompt, (n,): the tier's own, or at the top the first tier's.
    kind : TierKind, optional
        What kind of tier it is served as; None: one whose answers come with everything that an engine may return.
    asked : sequence of str
        The signals that are asked for about these answers.

    Raises
    ------
    DataError
        Where the table lacks one of those.
    """
    answers = table.answers_of(tier)
    if lacking := [name for name in asked if name not in answers.signals]:
        raise DataError(
            f"the outcomes hold no {' and no '.join(lacking)} of tier {tier!r}: collect them (`serve-graph collect "
            f"--signals {','.join(lacking)}`)"
        )
    if kind is not None:
        kept = served_names(answers.signals, kind, asked)
        answers = replace(answers, signals={name: answers.signals[name] for name in kept})
    return as_served(answers, p_route if shows_route(tiers, tier) else None, asked)


def evidence_of(
    version: RouterVersion,
    table: OutcomeTable,
    prices: Mapping[str, Price],
    slicer: str | None = None,
    asking: AskedSettings = USUAL_QUESTIONS,
) -> CascadeEvidence:
    """Score every prompt and answer of a table with a version's models and price every call.

    What a version asks for before it judges a tier's answers is part of what a call of that tier costs.

    A certified version also says which prompts its certificate covers. A prompt that an intent of its catalogue sends
    to the cheapest tier is tried there at every threshold, and its verifier is shown the router's own estimate.

    Parameters
    ----------
    version : RouterVersion
        Its policy names the tiers; every tier below the last needs a router, every tier a verifier.
    table : OutcomeTable
        Outcomes with embeddings and token counts.
    prices : mapping of str to Price
        By tier.
    slicer : str, optional
        How the prompts are cut into slices; None: not at all.
    asking : AskedSettings
        How signals are asked for.

    Raises
    ------
    DataError
        For grades that are not 0 or 1 (a promise about being wrong needs right and wrong; of the last tier they may be
        missing), for token counts that are missing, and for a tier that lacks a router.
    """
    tiers = version.policy.tiers
    if lacking := [tier for tier in tiers[:-1] if version.stages[tier].router is None]:
        raise DataError(f"the version has no router for tier {lacking[0]!r}")
    scores, routed = score_table(version, table), sent_first(version, table.prompts)
    seen = CascadeEvidence.of(
        tiers,
        np.column_stack([np.where(routed & (tier == tiers[0]), 1.0, scores.p_route[tier]) for tier in tiers[:-1]]),
        np.column_stack([scores.p_ok[tier] for tier in tiers]),
        np.column_stack(
            [
                call_costs(table, tier, prices[tier])
                + signal_costs(table, tier, tiers[-1], version.asked_of(tier), prices, asking)
                for tier in tiers
            ]
        ),
        np.column_stack([table.grade(tier) for tier in tiers]),
        [len(text) for text in table.prompts.texts],
    )
    if any(broken.any() for broken in scores.faulty.values()):
        sound = np.zeros(len(table), dtype=np.bool_)
        seen = replace(seen, faulty=np.column_stack([scores.faulty.get(tier, sound) for tier in tiers[:-1]]))
    if version.certificate is not None:
        seen = replace(seen, covered=covered_rows(version.certificate.coverage, version, table))
    return seen if slicer is None else seen.cut(slices_of(slicer, table.prompts))


def thresholds_of(policy: Policy, tiers: tuple[str, ...]) -> Thresholds:
    """A policy's thresholds, and whether they are a chain's."""
    return Thresholds.from_points(policy.points, tiers, chain=policy.chain)


def replay_version(version: RouterVersion, seen: CascadeEvidence) -> Replay:
    """What a version's policy makes of every prompt, slices without a promise included.

    Parameters
    ----------
    version : RouterVersion
        The version; without a certificate its policy's own thresholds hold everywhere.
    seen : CascadeEvidence
        Evidence of its tiers, cut into slices by the version's slicer where it has one.
    """
    thresholds, certificate = thresholds_of(version.policy, seen.tiers), version.certificate
    if certificate is None or version.slicer is None or seen.slices is None:
        return replay_policy(seen, thresholds)
    if certificate.closes_slices:
        return replay_policy(seen, thresholds, covered=np.array([certificate.covers(name) for name in seen.slices]))
    own = np.array([certificate.threshold_for(name) for name in seen.slices])
    return replay_policy(seen, thresholds, accept_at=own)


def cheapest_route_at(seen: CascadeEvidence, epsilon: float, *, harm: bool = False) -> tuple[float, float]:
    """The routing threshold of two tiers that makes TUNE cheapest, with a provisional acceptance threshold.

    Provisional acceptance: the lowest verifier score above which TUNE's accepted answers err at most 3/4 ε, so that a
    certificate is likely to reach about as low; with `harm` only errors where the last tier is right count. Ties go to
    the higher routing threshold (fewer wasted tries).
    """
    wrong = seen.harm[:, 0].astype(np.float64) if harm else 1.0 - seen.grades[:, 0]
    accept_at = provisional_threshold(seen.p_ok[:, 0], wrong, epsilon)
    grid = np.unique(np.quantile(seen.p_route[:, 0], np.linspace(0.0, 0.95, 39)))
    costs = [float(replay_policy(seen, one_pair(route_at, accept_at)).cost_usd.mean()) for route_at in grid]
    best = len(grid) - 1 - int(np.argmin(costs[::-1]))
    return float(grid[best]), accept_at


def token_ratios(table: OutcomeTable, version: RouterVersion, seen: CascadeEvidence) -> dict[str, Ratio]:
    """How many completion tokens the last tier takes for each of a lower tier's whose answer is accepted.

    Parameters
    ----------
    table : OutcomeTable
        CERT: independent rows.
    version : RouterVersion
        Its policy says whose answers are accepted.
    seen : CascadeEvidence
        Evidence of the same rows.

    Returns
    -------
    dict of str to tuple of float
        The ratio of the sums and its 95 % bootstrap interval, by tier; tiers with fewer than `LEAST_FOR_RATIO`
        accepted answers of known length are left out.
    """
    replayed, tiers, found = replay_version(version, seen), seen.tiers, {}
    if tiers[-1] not in table.completion_tokens:
        return {}
    for i, tier in enumerate(tiers[:-1]):
        rows = replayed.answered_by == i
        if tier not in table.completion_tokens:
            continue
        own, top = table.completion_tokens[tier][rows], table.completion_tokens[tiers[-1]][rows]
        known = np.isfinite(own) & np.isfinite(top)
        own, top = own[known], top[known]
        if len(own) < LEAST_FOR_RATIO or own.min() <= 0:
            continue

        def ratio(weights: FloatArray, own: FloatArray = own, top: FloatArray = top) -> FloatArray:
            return np.asarray(weights @ top / (weights @ own), dtype=np.float64)

        seen_ratio = bootstrap(ratio, len(own))
        found[tier] = (seen_ratio.value, seen_ratio.low, seen_ratio.high)
    return found


def tries_of(table: OutcomeTable, version: RouterVersion, seen: CascadeEvidence) -> Tries:
    """What becomes of a version's tries on CERT: how many, how many of them are repeated, and all their tokens.

    Parameters
    ----------
    table : OutcomeTable
        CERT: independent rows, with token counts.
    version : RouterVersion
        Its policy says what is tried and accepted.
    seen : CascadeEvidence
        Evidence of the same rows.
    """
    replayed, tiers = replay_version(version, seen), seen.tiers
    tried = replayed.tried < replayed.top
    kept = tried & ~replayed.escalated

    def totals(tier: str, rows: BoolArray) -> CallTotals:
        seconds = table.latency_s.get(tier)
        return CallTotals(
            int(rows.sum()),
            float(table.prompt_tokens[tier][rows].sum()),
            float(table.completion_tokens[tier][rows].sum()),
            0.0 if seconds is None else float(np.nansum(seconds[rows])),
        )

    return Tries(
        rows=len(seen),
        tried=int(tried.sum()),
        repeated=int((tried & replayed.escalated).sum()),
        last=tiers[-1],
        spent={tier: totals(tier, replayed.called[:, i]) for i, tier in enumerate(tiers[:-1])},
        spared=totals(tiers[-1], kept if kept.any() else tried),
    )


def one_pair(route_at: float, accept_at: float) -> Thresholds:
    """The thresholds of two tiers that never abstain."""
    return Thresholds((route_at,), (accept_at,), (-np.inf, -np.inf))


def route_at_for_share(p_route_ok: FloatArray, share: float) -> float:
    """RouteLLM's knob: the routing threshold that sends about `share` of prompts like these to the last tier.

    A share of traffic, not a promise about quality. Ties go to the cheap tier together, so the share is met at most.
    """
    if not 0 <= share <= 1:
        raise DataError(f"a share lies in [0, 1], got {share}")
    ordered = np.sort(p_route_ok)
    k = int(np.floor(share * len(ordered) + 1e-9))
    return float("inf") if k >= len(ordered) else float(ordered[k])


def provisional_threshold(p_ok: FloatArray, wrong: FloatArray, epsilon: float) -> float:
    """The lowest score from which on at most 3/4 ε of these answers are wrong; the highest, where that is never so."""
    order = np.argsort(-p_ok, kind="stable")
    wrong_share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    within = np.flatnonzero(wrong_share <= 0.75 * epsilon)
    return float(p_ok[order][within[-1]]) if len(within) else float(p_ok.max())
