"""One request under way: who asked for what, what happened to it so far, and the record of how it ended."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.estimators.verifiers.checks.formats import CALLS_NOT_MEASURED
from router_models.types import Action, DecisionRecord, Query
from serve_graph.cascade.billing import purposes
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState
from serve_graph.errors import ending_of
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.protocol.requests import RequestOptions
from serve_graph.records.explanation import evidence


@dataclass(slots=True)
class Request:
    """One request under way: who asked for what, and what happened. `context`: what it is answered with.

    `key` names the access key; `embeds`: for embeddings, not for an answer; `request_id`: its `x-request-id`.
    """

    query: Query
    model: str
    forced: str | None
    stream: bool
    context: CascadeContext
    options: RequestOptions = field(default_factory=RequestOptions)
    id: str = field(default_factory=lambda: f"dec-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    state: RequestState = field(default_factory=RequestState)
    recorded: bool = False
    key: str | None = None
    resolved: ResolvedOptions = field(default_factory=ResolvedOptions)
    embeds: bool = False
    request_id: str | None = None

    @property
    def cost_usd(self) -> Decimal:
        return sum((line.cost_usd for line in (*self.state.calls, *self.state.overhead)), Decimal(0))

    def facts(self) -> dict[str, Any]:
        """The `serve_graph` object: what the headers say, in the body. Scores and thresholds stay inside.

        `cost_usd` is null, with `unmetered` beside it, where an answer came without token counts.
        """
        state = self.state
        return {
            "decision": self.id,
            "tier": state.tier,
            "outcome": str(state.action),
            "version": self.context.version,
            "cost_usd": None if state.unmetered else f"{self.cost_usd:.9f}",
            **({"unmetered": True} if state.unmetered else {}),
            **({"spilled": True} if state.served_on_overload else {}),
        }

    def headers(self, *, committed: bool = True) -> dict[str, str]:
        """`x-serve-graph-*`: what is known when the reply begins. Before the commit that is the id and the version;
        the cost is known once nothing more is generated.
        """
        facts = self.facts()
        names = ["decision", "version"]
        if committed:
            is_over = self.recorded or self.state.completion is not None
            names += ["tier", "outcome"] + ["cost_usd"] * is_over
        if self.state.unmetered:
            facts["cost_usd"] = "unmetered"
        return {f"x-serve-graph-{name.replace('_', '-')}": str(facts[name]) for name in names}


UNJUDGED = frozenset({Action.ROUTED, Action.FORCED, Action.FALLBACK})
"""What becomes of requests whose answer no verifier has accepted."""


def not_promised(request: Request, judges_calls: Collection[str] = ()) -> str | None:
    """Why nothing is promised of a request's answer, whatever is of others; None where what is certified covers it."""
    decision, verdict, completion = request.state.decision, request.state.verdict, request.state.completion
    if request.context.unmeasured is not None:
        return request.context.unmeasured
    if decision is not None and not decision.promised:
        return decision.reason
    if verdict is not None and verdict.action is not Action.ESCALATED and not verdict.promised:
        return verdict.reason
    if completion is not None and completion.tool_calls and request.state.tier not in judges_calls:
        return CALLS_NOT_MEASURED
    if completion is not None and request.state.action in UNJUDGED and not request.state.served_on_overload:
        tier, top = request.state.tier, request.context.policy.tiers[-1]
        return None if tier == top else f"the answer of {tier} was not judged"
    return None


def record_of(
    request: Request,
    promised: float | None,
    keep_prompt: Callable[[str], str | None] | None,
    error: BaseException | None,
    *,
    joint: bool = False,
    judges_calls: Collection[str] = (),
) -> DecisionRecord:
    """The request's DecisionRecord, where it ended with `error` or, None, with an answer.

    `promised` is what was certified when it ended (`joint`: of all answers, `judges_calls`: of these tiers' tool
    calls too); `keep_prompt` says what text is kept.
    """
    state, context = request.state, request.context
    decision, verdict = state.decision, state.verdict
    reason = decision.reason if decision else "forced by name" if request.forced else "no decision"
    status, kind = (200, None) if error is None else ending_of(error)
    why_not, text = not_promised(request, judges_calls), request.query.text
    return DecisionRecord(
        id=request.id,
        created_at=datetime.fromtimestamp(request.created, UTC).isoformat(timespec="milliseconds"),
        requested_model=request.model,
        tier=state.tier or "none",
        outcome=str(state.action),
        version=context.version,
        status=status,
        stream=request.stream,
        prompt_sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        prompt_chars=len(text),
        route_reason="; ".join([reason, *state.notes]),
        p_cheap_ok=decision.p_cheap_ok if decision else None,
        distance=decision.distance if decision else None,
        verdict_reason=verdict.reason if verdict else None,
        p_answer_ok=verdict.p_ok if verdict else None,
        calls=purposes(state.calls, state.tier, state.action),
        cost_usd=request.cost_usd,
        latency_s=time.perf_counter() - request.started,
        arm=context.version,
        error=kind,
        metadata=request.query.metadata,
        overhead=tuple(state.overhead),
        key=request.key,
        session=request.resolved.session,
        evidence=evidence(context, state, request.resolved.as_recorded(), promised, joint, why_not)
        | ({} if request.request_id is None else {"request_id": request.request_id}),
        prompt=None if keep_prompt is None else keep_prompt(text),
    )
