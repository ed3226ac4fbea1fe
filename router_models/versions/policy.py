"""Scores → decisions. Pure: no model, no clock, no chance; every comparison is ≥.

A policy is a ladder of tiers, cheapest first, and an OperatingPoint for each. The last tier is never escalated from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from router_models.errors import DataError
from router_models.types import Action, Decision, OperatingPoint, PrefixPoint, Verdict
from router_models.types.coverage import Uncovered

FAR = 1.0
"""The distance from which on a decision is said to be about a prompt unlike the training data."""


@dataclass(frozen=True, slots=True)
class OverloadPoint:
    """From which score on a rejected answer may be served while the last tier is full; `epsilon` bounds its risk."""

    serve_at: float
    epsilon: float

    @property
    def promised(self) -> float:
        """The share of answers served on overload that is certified to be right."""
        return 1.0 - self.epsilon


@dataclass(frozen=True, slots=True)
class Policy:
    """The ladder and its thresholds. A tier without a point is never tried by the router, only by force.

    Parameters
    ----------
    tiers : tuple of str
        Cheapest first; the last one answers when nothing cheaper may.
    points : mapping of tier to OperatingPoint
        When a tier is tried, and when its answer is accepted.
    prefixes : mapping of tier to PrefixPoint
        The tiers whose answers may be accepted by their first tokens alone.
    overload_points : mapping of tier to OverloadPoint
        The tiers of which rejected answers may be served while the last tier is full.
    chain : bool
        Whether a rejected answer goes to the next tier that the router would try, and is judged again; else to the
        last tier.

    Attributes
    ----------
    top : str
        The last tier: what answers when nothing cheaper may.
    judges_top : bool
        Whether the last tier's answers are judged at all (only in order to abstain).

    Raises
    ------
    DataError
        For no tier at all, and for points of a tier that is not in the ladder.
    """

    tiers: tuple[str, ...]
    points: Mapping[str, OperatingPoint]
    prefixes: Mapping[str, PrefixPoint] = field(default_factory=dict)
    overload_points: Mapping[str, OverloadPoint] = field(default_factory=dict)
    chain: bool = False
    top: str = field(init=False, repr=False, compare=False)
    judges_top: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.tiers:
            raise DataError("a policy needs at least one tier")
        if unknown := set(self.points) - set(self.tiers):
            raise DataError(f"operating points for unknown tier(s) {sorted(unknown)}; the ladder is {self.tiers}")
        if unknown := set(self.prefixes) - set(self.points):
            raise DataError(f"prefix points for tier(s) {sorted(unknown)} that have no operating point")
        if unknown := set(self.overload_points) - set(self.points):
            raise DataError(f"overload points for tier(s) {sorted(unknown)} that have no operating point")
        last = self.points.get(self.tiers[-1])
        object.__setattr__(self, "top", self.tiers[-1])
        object.__setattr__(self, "judges_top", last is not None and last.abstain_below is not None)

    def decide(
        self, p_ok: Mapping[str, float], distance: float | None = None, open_slice: str | None = None
    ) -> Decision:
        """Choose the cheapest tier whose calibrated estimate reaches its `route_at`, else the top tier.

        Raising any estimate never moves the query to a dearer tier.

        Parameters
        ----------
        p_ok : mapping of str to float
            P(acceptable) by tier, of those below the top.
        distance : float, optional
            From the training data, whose edge is 1: changes the reason alone, which says when a prompt is far.
        open_slice : str, optional
            The query's slice where nothing is promised of it: the top tier, whatever is estimated.

        Returns
        -------
        Decision
            The tier, its estimate and why.
        """
        out_of_domain = (
            "" if distance is None or distance < FAR else f"; unlike the training prompts (distance {distance:.2f})"
        )
        first = next((p_ok[tier] for tier in self.tiers[:-1] if tier in p_ok), None)
        if open_slice is not None:
            reason = f"the slice {open_slice} is not certified: {self.top}{out_of_domain}"
            return Decision(self.top, reason, first, distance, promised=False, layer="coverage")
        tried = [t for t in self.tiers[:-1] if t in p_ok and t in self.points and p_ok[t] >= self.points[t].route_at]
        if tried:
            tier, *others = tried
            how = tier if self.pre_routes(tier) else f"try {tier}"
            reason = f"estimated {p_ok[tier]:.3f} ≥ {self.points[tier].route_at:.3f}: {how}{out_of_domain}"
            then = tuple((other, p_ok[other]) for other in others) if self.chain else ()
            return Decision(tier, reason, p_ok[tier], distance, then=then)
        reason = "no certified threshold" if first is None else f"estimated {first:.3f} below every tier's threshold"
        return Decision(self.top, reason + out_of_domain, first, distance)

    def decide_uncovered(
        self, p_ok: Mapping[str, float], distance: float | None, found: Uncovered, *, to_top: bool
    ) -> Decision:
        """The decision on a prompt whose text is not what was certified: novel, or not read whole, as `found` says.

        `to_top`: the last tier answers, and nobody abstains; else the tier that `decide` chooses, judged as ever.
        """
        ruled = self.decide(p_ok, distance)
        if to_top:
            ruled = replace(ruled, tier=self.top, reason=f"{found.why}: {self.top}", layer="coverage", then=())
            return replace(ruled, promised=False, uncovered=found)
        return replace(ruled, reason=f"{found.why}; {ruled.reason}", uncovered=found)

    def judge(self, tier: str, p_ok: float, accept_at: float | None = None, serve_at: float | None = None) -> Verdict:
        """Accept, escalate or abstain, from P(this completion is acceptable).

        Below the top: accept at `accept_at`, abstain early under `abstain_below`, escalate otherwise. At the top:
        abstain under `abstain_below`, accept otherwise.

        Parameters
        ----------
        tier : str
            Whose answer it is.
        p_ok : float
            P(acceptable), in [0, 1].
        accept_at, serve_at : float, optional
            In place of the tier's operating point's own, for a slice.

        Returns
        -------
        Verdict
            What is done with the answer, and why.
        """
        point = self.points.get(tier)
        if point is None:
            why = "not judged: the policy has no threshold for this tier"
            return Verdict(Action.ACCEPTED, why, p_ok, promised=tier == self.top)
        if point.abstain_below is not None and p_ok < point.abstain_below:
            return Verdict(Action.ABSTAINED, f"estimated {p_ok:.3f} < {point.abstain_below:.3f}: abstain", p_ok)
        if tier == self.top:
            return Verdict(Action.ACCEPTED, f"estimated {p_ok:.3f} at the last tier", p_ok)
        least = point.accept_at if accept_at is None else accept_at
        if p_ok >= least:
            return Verdict(Action.ACCEPTED, f"estimated {p_ok:.3f} ≥ {least:.3f}: accept", p_ok)
        point_on_overload = self.overload_points.get(tier)
        may_serve_on_overload = point_on_overload is not None and p_ok >= (
            point_on_overload.serve_at if serve_at is None else serve_at
        )
        return Verdict(Action.ESCALATED, f"estimated {p_ok:.3f} < {least:.3f}: escalate", p_ok, may_serve_on_overload)

    def judge_open(self, tier: str, open_slice: str) -> Verdict:
        """The verdict where nothing is promised of the slice: what any cheaper tier said is sent on, unjudged."""
        action = Action.ACCEPTED if tier == self.top else Action.ESCALATED
        return Verdict(action, f"not judged: the slice {open_slice} is not certified", layer="coverage")

    def judge_unmeasured(self, tier: str, why: str) -> Verdict:
        """The verdict on an answer that is as the request declared, of a kind that no verifier was certified on."""
        where = "at the last tier" if tier == self.top else "accepted as declared"
        return Verdict(Action.ACCEPTED, f"not judged, {where}: {why}", promised=False, layer="check")

    def judge_prefix(self, tier: str, p_ok: float) -> Verdict:
        """Accept or escalate from the first tokens of an answer; without a certified prefix point: escalate."""
        point = self.prefixes.get(tier)
        if point is None:
            return Verdict(Action.ESCALATED, "no certified prefix verdict for this tier", p_ok)
        seen = f"first {point.tokens} tokens: estimated {p_ok:.3f}"
        if p_ok >= point.accept_at:
            return Verdict(Action.ACCEPTED, f"{seen} ≥ {point.accept_at:.3f}: accept", p_ok)
        return Verdict(Action.ESCALATED, f"{seen} < {point.accept_at:.3f}: escalate", p_ok)

    def pre_routes(self, tier: str) -> bool:
        """Whether what the router sends to a tier is answered by it for good: its answers are accepted unjudged."""
        point = self.points.get(tier)
        accepts = point is not None and point.accept_at == -math.inf and point.abstain_below is None
        return accepts and tier != self.top and tier not in self.prefixes

    def sends_on(self, decision: Decision) -> bool:
        """Whether an answer of the tier that was chosen may be judged, and be sent on to the last one."""
        return decision.promised and not self.pre_routes(decision.tier)

    @property
    def pattern(self) -> str:
        """How tiers are used: `pre-route`, `layered` (a verifier judges some tier's answers), `chain`, `last tier`."""
        below = [tier for tier in self.tiers[:-1] if tier in self.points]
        if not below or all(map(self.pre_routes, below)):
            return "pre-route" if below else "last tier"
        return "chain" if self.chain and len(below) > 1 else "layered"

    @property
    def abstains(self) -> bool:
        """Whether any tier's answer may be withheld."""
        return any(point.abstain_below is not None for point in self.points.values())

    def only(self, tiers: Sequence[str]) -> Policy:
        """The same policy on some of its tiers alone, at least one, in their order here."""
        kept = tuple(tier for tier in self.tiers if tier in tiers)
        return Policy(
            kept,
            {tier: point for tier, point in self.points.items() if tier in kept},
            {tier: point for tier, point in self.prefixes.items() if tier in kept},
            {tier: point for tier, point in self.overload_points.items() if tier in kept},
            self.chain,
        )

    def without_abstention(self) -> Policy:
        """The same policy for a caller that forbids abstaining."""
        points = {tier: OperatingPoint(p.route_at, p.accept_at, None) for tier, p in self.points.items()}
        return replace(self, points=points)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several answers to one query that are shown together: escalate before abstain before accept.

    Among equals the lowest estimate counts. On overload they may be served together only where each
    may, or was accepted. Something is promised of them only where it is of each.
    """
    order = (Action.ESCALATED, Action.ABSTAINED)
    found = min(
        verdicts,
        key=lambda v: (order.index(v.action) if v.action in order else len(order), 1.0 if v.p_ok is None else v.p_ok),
    )
    unpromised = next((v for v in verdicts if not v.promised), None)
    if unpromised is not None and found.promised:
        found = replace(found, reason=f"{found.reason}; another choice: {unpromised.reason}", promised=False)
    return replace(
        found,
        may_serve_on_overload=found.may_serve_on_overload
        and all(v.may_serve_on_overload or v.action is Action.ACCEPTED for v in verdicts),
    )


def always(tiers: tuple[str, ...]) -> Policy:
    """Always the last tier: what is served when nothing is certified."""
    return Policy(tiers, {})
