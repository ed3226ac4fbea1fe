"""Overload fallback: while the last tier is full, serve a rejected cheap answer that is certified for that, or refuse.

Only an answer that has its verdict, of which the version's overload certificate speaks
(`Verdict.may_serve_on_overload`), and only to a caller who may be served one (`CascadeContext.may_serve_on_overload`:
it is switched on, the certificate holds now, the caller's quality floor is not above what it promises).
"""

from __future__ import annotations

from router_models.types import Action, Completion
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.errors import EngineError, SaturatedError


def hold_for_overload(completion: Completion, state: RequestState) -> None:
    """Remember an answer that was just rejected, if it may be shown at all."""
    if state.verdict is not None and state.verdict.may_serve_on_overload:
        state.rejected = (state.tier, completion)


def overload_answer(context: CascadeContext, state: RequestState, error: EngineError) -> Completion | None:
    """The kept answer, now the trail's completion, where the last tier has no room for an escalation; else None."""
    if state.rejected is None or state.action is not Action.ESCALATED or not isinstance(error, SaturatedError):
        return None
    tier, completion = state.rejected
    if not context.may_serve_on_overload(tier):
        return None
    state.go(tier, Action.FALLBACK, f"spilled: {state.tier} has no room now")
    state.completion, state.served_on_overload = completion, True
    return completion
