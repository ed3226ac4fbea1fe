"""What a catalogue of intents makes of a router's decision, and of the rows that certify.

An intent's word stands before the router's. What that means for what is promised:

- The catalogue takes prompts out of the router's hands, so the bound on the others is another one (it may reach
  ε / (1 - the share taken out)). A version holds its promise beside a catalogue only where it was certified with it.
- Certified with it, a prompt sent to the *cheapest* tier counts as one that the router tried there, and is promised
  what all accepted answers are. One that is sent to any other tier is left out, and nothing is promised of it: the
  last tier's answers are never worse than the last tier's, a middle tier's may be.
- Intents without a tier change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from router_models.types import BoolArray, Decision, IntentMatch, Prompts
from router_models.types.coverage import Uncovered

if TYPE_CHECKING:
    from router_models.versions.router_version import RouterVersion

NOT_CERTIFIED_WITH = "a catalogue of intents decides before the router, and the version was not certified with it"
NOT_IN_FORCE = "the version was certified with a catalogue of intents that is not in force"
NOVELTY = "novelty"


def by_intent(version: RouterVersion, ruled: Decision, prompts: Prompts) -> Decision:
    """The decision as the catalogue in force leaves it.

    Where a certificate does not cover the prompt it stays as it is, but for one that is only novel: of novel prompts
    the router knows little, and an intent more.

    Parameters
    ----------
    version : RouterVersion
        With its catalogue, None where none is in force.
    ruled : Decision
        The router's.
    prompts : Prompts
        The query as a batch of one, embedded where there is a catalogue.
    """
    not_promised = catalogue_fault(version)
    if version.catalogue is None or prompts.embeddings is None:
        return ruled if not_promised is None else replace(ruled, intent=IntentMatch("", not_promised=not_promised))
    match = replace(version.catalogue.match(prompts.embeddings)[0], not_promised=not_promised)
    if match.intent is None:
        return replace(ruled, intent=match)
    said = f"{match.layer}: intent {match.intent}, cosine {match.cosine:.2f} ≥ {match.floor:.2f}"
    if match.tier is None:
        return replace(ruled, intent=match, reason=f"{said}, of no tier; {ruled.reason}")
    found, top = ruled.uncovered, version.policy.top
    is_open = not ruled.promised and found is None
    closed = is_open or (found is not None and found.reason != NOVELTY and version.novel_to_top)
    if closed and match.tier != top:
        return replace(ruled, intent=match, reason=f"{ruled.reason}; not as the intent {match.intent} would have it")
    counts = not_promised is None and match.tier == version.policy.tiers[0] and tries(version, match.tier)
    moved = None if counts else f"the intent {match.intent}"
    reason = f"{said}: {match.tier}; the router: {ruled.reason}"
    promised = ruled.promised or match.tier != top  # what is promised nothing is judged all the same
    then = _links_after(version, ruled, match.tier)
    sent = replace(ruled, tier=match.tier, reason=reason, promised=promised, moved=moved, layer=match.layer, then=then)
    return replace(sent, intent=match)


def _links_after(version: RouterVersion, ruled: Decision, tier: str) -> tuple[tuple[str, float], ...]:
    """The chain's links beyond a tier that an intent sends to: those that the router would try, as ever."""
    ladder = version.policy.tiers
    if not version.policy.chain or tier not in ladder or ruled.p_cheap_ok is None:
        return ()
    reached = ((ruled.tier, ruled.p_cheap_ok), *ruled.then) if ruled.tier != version.policy.top else ()
    return tuple(link for link in reached if ladder.index(link[0]) > ladder.index(tier))


def catalogue_fault(version: RouterVersion) -> str | None:
    """Why nothing is promised beside the catalogue that is, or is not, in force; None where the certificate holds."""
    bound = "" if version.certificate is None else version.certificate.coverage.catalogue
    in_force = "" if version.catalogue is None else version.catalogue.catalogue.binding
    if in_force == bound:
        return None
    return NOT_CERTIFIED_WITH if in_force else NOT_IN_FORCE


def tries(version: RouterVersion, tier: str) -> bool:
    """Whether the version has a threshold from which on it tries a tier."""
    point = version.policy.points.get(tier)
    return point is not None and bool(np.isfinite(point.route_at))


def taken_out(version: RouterVersion, prompts: Prompts) -> list[Uncovered | None]:
    """Return for every prompt the intent that takes it from the router to another tier than the cheapest, (n,)."""
    first = version.policy.tiers[0]
    return [
        None
        if match is None or match.tier is None or match.tier == first
        else Uncovered("intent", f"the intent {match.intent} decides, not the router")
        for match in _matches(version, prompts)
    ]


def sent_first(version: RouterVersion, prompts: Prompts) -> BoolArray:
    """Return which prompts an intent sends to the cheapest tier, whatever the router says, (n,)."""
    first = version.policy.tiers[0]
    return np.array(
        [match is not None and match.tier == first for match in _matches(version, prompts)], dtype=np.bool_
    )


def _matches(version: RouterVersion, prompts: Prompts) -> Sequence[IntentMatch | None]:
    if version.catalogue is None or not version.catalogue.catalogue.binding or not len(prompts):
        return [None] * len(prompts)
    embedded = prompts.embeddings
    return version.catalogue.match(version.encoder.encode(prompts.texts) if embedded is None else embedded)
