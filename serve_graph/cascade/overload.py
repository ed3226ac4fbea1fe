"""Spill: while the last tier is full, show a rejected cheap answer that is certified for it, marked so; else refuse.

Only an answer that has its verdict, of which the version's spill certificate speaks (`Verdict.may_spill`), and to
somebody who may be shown one (`Graph.may_spill`: it is switched on, the certificate holds now, the caller's quality
floor is not above what it promises).
"""

from __future__ import annotations

from router_models.types import Action, Completion
from serve_graph.cascade.context import Graph, Trail
from serve_graph.errors import EngineError, SaturatedError


def kept_back(completion: Completion, trail: Trail) -> None:
    """Remember an answer that was just rejected, if it may be shown at all."""
    if trail.verdict is not None and trail.verdict.may_spill:
        trail.rejected = (trail.tier, completion)


def spilled(graph: Graph, trail: Trail, error: EngineError) -> Completion | None:
    """The kept answer, now the trail's completion, where the last tier has no room for an escalation; else None."""
    if trail.rejected is None or trail.action is not Action.ESCALATED or not isinstance(error, SaturatedError):
        return None
    tier, completion = trail.rejected
    if not graph.may_spill(tier):
        return None
    trail.go(tier, Action.FALLBACK, f"spilled: {trail.tier} has no room now")
    trail.completion, trail.spilled = completion, True
    return completion
