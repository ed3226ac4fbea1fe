"""Compute what a policy does with each prompt of a workload: which tiers it calls, in which order, and who answers.

Decisions depend on the prompt and its answers, never on the load, so that they are made once per prompt, before any
replay. The rules are the served ones: `Policy.decide` and `Policy.judge`; an escalation goes to the last tier, or in a
chain to the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import slices_of
from router_models.errors import DataError
from router_models.training.evidence import score_table
from router_models.types import Action, BoolArray, FloatArray
from router_models.versions.covering.covered_rows import covered_rows
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True, slots=True)
class Step:
    """Hold calls made at the same time, one per entry of `tiers`; `judged` = a verifier scores the result."""

    tiers: tuple[str, ...]
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Itinerary:
    """Hold one prompt's path: its steps, the tier whose answer is returned (None = abstained), and the outcome."""

    steps: tuple[Step, ...]
    answered_by: str | None
    action: Action
    routed: bool = False


def policy_itineraries(
    policy: Policy,
    p_route: Mapping[str, FloatArray],
    p_answer: Mapping[str, FloatArray],
    accept_at: FloatArray | None = None,
    covered: BoolArray | None = None,
) -> tuple[Itinerary, ...]:
    """Apply a policy to n prompts.

    Pre-routing is a policy whose `accept_at` is -inf, a pure cascade one whose `route_at` is -inf.

    Parameters
    ----------
    policy : Policy
        The policy.
    p_route : mapping of str to array of float, (n,)
        Estimates before generation; a tier below the top without one is never tried.
    p_answer : mapping of str to array of float, (n,)
        Estimates after generation, for every tier whose answers are judged.
    accept_at : array of float, (n,), optional
        Replaces the policy's threshold, where a prompt's slice has its own; +inf = not certified.
    covered : array of bool, (n,), optional
        Where False, the certificate does not cover the prompt: the top tier answers at once, unjudged.

    Returns
    -------
    tuple of Itinerary
        n itineraries.

    Raises
    ------
    DataError
        Where scores of a judged tier are missing, NaN, or differ in length.
    """
    n = _length([*p_route.values(), *p_answer.values()])
    for tier in _judged(policy):
        if tier not in p_answer:
            raise DataError(f"the policy judges answers of {tier!r}, but there are no scores of them")
    return tuple(
        _one(policy, p_route, p_answer, None if accept_at is None else accept_at[i], i)
        if covered is None or covered[i]
        else Itinerary((Step((policy.top,)),), policy.top, Action.ROUTED, bool(p_route))
        for i in range(n)
    )


def version_itineraries(version: RouterVersion, table: OutcomeTable) -> tuple[Itinerary, ...]:
    """Apply a router version to recorded outcomes of its tiers, scored in batch as it would score them when served.

    Parameters
    ----------
    version : RouterVersion
        The version.
    table : OutcomeTable
        n prompts; with embeddings where the version's models read them.

    Returns
    -------
    tuple of Itinerary
        n itineraries.

    Raises
    ------
    DataError
        For a tier that the table does not have.
    """
    scores = score_table(version, table)
    own, covered, proof = None, None, version.certificate
    if proof is not None:
        covered = covered_rows(proof.coverage, version, table)
    if version.slicer is not None and proof is not None:
        names = slices_of(version.slicer, table.prompts)
        if proof.closes_slices:
            covered = covered & np.array([proof.covers(name) for name in names])
        else:
            own = np.array([proof.threshold_for(name) for name in names])
    return policy_itineraries(version.policy, scores.p_route, scores.p_ok, own, covered)


def ensemble_itineraries(
    samples: Sequence[str], agreement: FloatArray, accept_at: float, escalate_to: str
) -> tuple[Itinerary, ...]:
    """Call several tiers (or one tier several times) at once; keep the first's answer where they agree, else escalate.

    Parameters
    ----------
    samples : sequence of str
        The tiers to call; at least two.
    agreement : array of float, (n,)
        The share of samples that agree with the first, or any score of their agreement.
    accept_at : float
        The agreement from which on the answer is kept.
    escalate_to : str
        The tier that answers otherwise.

    Returns
    -------
    tuple of Itinerary
        n itineraries.
    """
    if len(samples) < 2:
        raise DataError(f"an ensemble needs at least two samples, found {len(samples)}")
    if np.isnan(agreement).any():
        raise DataError(f"{int(np.isnan(agreement).sum())} of {len(agreement)} agreement scores are NaN")
    first = Step(tuple(samples), judged=True)
    kept = Itinerary((first,), samples[0], Action.ACCEPTED)
    sent_on = Itinerary((first, Step((escalate_to,))), escalate_to, Action.ESCALATED)
    return tuple(kept if score >= accept_at else sent_on for score in agreement)


def always_itineraries(tier: str, n: int) -> tuple[Itinerary, ...]:
    """Return n itineraries that go straight to one tier."""
    return (Itinerary((Step((tier,)),), tier, Action.ROUTED),) * n


def mixed_itineraries(to_frontier: BoolArray, cheap: str, frontier: str) -> tuple[Itinerary, ...]:
    """Send each prompt to one of two tiers by a mask: what random and length routing are replayed with."""
    ways = {tier: Itinerary((Step((tier,)),), tier, Action.ROUTED, routed=True) for tier in (cheap, frontier)}
    return tuple(ways[frontier if up else cheap] for up in to_frontier)


def _one(
    policy: Policy,
    p_route: Mapping[str, FloatArray],
    p_answer: Mapping[str, FloatArray],
    accept_at: float | None,
    i: int,
) -> Itinerary:
    routed = bool(p_route)
    decision = policy.decide({name: float(scores[i]) for name, scores in p_route.items()})
    if decision.tier == policy.top:
        return _at_top(policy, p_answer, i, (), Action.ROUTED, routed)
    steps: tuple[Step, ...] = ()
    for tier in (decision.tier, *(name for name, _ in decision.then)):
        if policy.points[tier].accept_at == -np.inf and policy.points[tier].abstain_below is None:
            answered = (*steps, Step((tier,)))  # pre-routed: the answer is not judged
            return Itinerary(answered, tier, Action.ACCEPTED, routed)
        steps = (*steps, Step((tier,), judged=True))
        verdict = policy.judge(tier, float(p_answer[tier][i]), accept_at)
        if verdict.action is not Action.ESCALATED:
            return Itinerary(steps, None if verdict.action is Action.ABSTAINED else tier, verdict.action, routed)
    return _at_top(policy, p_answer, i, steps, Action.ESCALATED, routed)


def _at_top(
    policy: Policy, p_answer: Mapping[str, FloatArray], i: int, before: tuple[Step, ...], action: Action, routed: bool
) -> Itinerary:
    top = policy.top
    if policy.judges_top and policy.judge(top, float(p_answer[top][i])).action is Action.ABSTAINED:
        return Itinerary((*before, Step((top,), judged=True)), None, Action.ABSTAINED, routed)
    return Itinerary((*before, Step((top,), judged=policy.judges_top)), top, action, routed)


def _judged(policy: Policy) -> list[str]:
    below = [t for t in policy.tiers[:-1] if t in policy.points and policy.points[t].accept_at > -np.inf]
    return below + ([policy.top] if policy.judges_top else [])


def _length(columns: Sequence[FloatArray]) -> int:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise DataError(f"scores must be equally long and at least one column, found lengths {sorted(lengths)}")
    if any(np.isnan(column).any() for column in columns):
        raise DataError("a score is NaN: drop those prompts or send them to the last tier before replaying")
    return lengths.pop()
