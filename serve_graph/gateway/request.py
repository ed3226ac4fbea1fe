"""One request under way: who asked for what, what happened to it so far, and the record of how it ended."""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.data.slices import slice_of
from router_models.estimators.verifiers.checks.phrases import opening_says
from router_models.types import Action, Completion, DecisionRecord, IntentMatch, PromptEmbedding, Query
from router_models.types.exchange import logprob_summary
from serve_graph.cascade.billing import purposes
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState, StreamTerms
from serve_graph.errors import ending_of
from serve_graph.gateway.arms import AssignedArm
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.promise import AnswerPromise, CertifiedShares, answer_promise, uncovered
from serve_graph.learning.judging.live_judge import FinishedAnswer, LiveJudge
from serve_graph.learning.traffic.embedding_sums import EmbeddedRequest
from serve_graph.records.kept_requests import BESIDE, beside_answer, kept_request


@dataclass(frozen=True, slots=True)
class DrawnForBoth:
    """A request that two tiers answer: with which probability it was drawn, or that it was asked for."""

    share: float
    asked_for: bool


@dataclass(slots=True)
class Request:
    """One request under way: who asked for what, and what happened. `context`: what it is answered with.

    `terms`: when it is shown, where it is a stream. `key` names the access key; `embeds`: for embeddings, not for an
    answer; `request_id`: its `x-request-id`. `shares`: what is certified of the version that it is answered under;
    `share`: that of requests which go to the last tier, where it went by one. `checked`: whether it was compared with
    what that covers; `slicer`: by what the version is sliced. `assigned`: the arm of the rollout that answers it;
    None: there is no rollout, or no version decides. `signals_s`: seconds that asking for the caller's signals took.
    `drawn`: two tiers are asked, and one answer is picked.
    """

    query: Query
    model: str
    forced: str | None
    stream: bool
    context: CascadeContext
    terms: StreamTerms = field(default_factory=StreamTerms)
    id: str = field(default_factory=lambda: f"dec-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    state: RequestState = field(default_factory=RequestState)
    recorded: bool = False
    key: str | None = None
    resolved: ResolvedOptions = field(default_factory=ResolvedOptions)
    embeds: bool = False
    request_id: str | None = None
    shares: CertifiedShares = field(default_factory=CertifiedShares)
    share: float | None = None
    checked: bool = False
    slicer: str | None = None
    assigned: AssignedArm | None = None
    signals_s: float = 0.0
    drawn: DrawnForBoth | None = None

    @property
    def cost_usd(self) -> Decimal:
        return sum((line.cost_usd for line in (*self.state.calls, *self.state.overhead)), Decimal(0))

    def facts(self) -> dict[str, Any]:
        """The `serve_graph` object: what the headers say, in the body. Scores and thresholds stay inside.

        `cost_usd` is null, with `unmetered` beside it, where an answer came without token counts.
        """
        state = self.state
        intent = None if state.decision is None else state.decision.intent
        return {
            "decision": self.id,
            "tier": state.tier,
            "outcome": str(state.action),
            "version": self.context.version,
            "cost_usd": None if state.unmetered else f"{self.cost_usd:.9f}",
            **({"unmetered": True} if state.unmetered else {}),
            **({"spilled": True} if state.served_on_overload else {}),
            **({"picked_by": state.picking["by"]} if state.picking and "by" in state.picking else {}),
            **({"signals": state.signals, "signals_s": self.signals_s} if self.resolved.signals else {}),
            **({} if intent is None or intent.intent is None else {"layer": intent.layer, "intent": intent.intent}),
        }

    def headers(self, *, committed: bool = True) -> dict[str, str]:
        """`x-serve-graph-*`: what is known when the reply begins. Before the commit that is the id and the version;
        the cost is known once nothing more is generated.
        """
        facts = self.facts()
        names = ["decision", "version"]
        if committed:
            is_over = self.recorded or self.state.completion is not None
            names += ["tier", "outcome"] + ["cost_usd"] * is_over + ["layer", "intent"] * ("intent" in facts)
        if self.state.unmetered:
            facts["cost_usd"] = "unmetered"
        return {f"x-serve-graph-{name.replace('_', '-')}": str(facts[name]) for name in names}


def record_of(
    request: Request,
    keep_prompt: Callable[[str], str | None] | None,
    error: BaseException | None,
    keep_metadata: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
    keep_answer: Callable[[str], str | None] | None = None,
) -> DecisionRecord:
    """The request's DecisionRecord, where it ended with `error` or, None, with an answer.

    `keep_prompt`, `keep_answer` and `keep_metadata` say what is kept of texts and labels. The slice of a promised
    answer is kept.
    """
    state, context = request.state, request.context
    decision, verdict = state.decision, state.verdict
    reason = decision.reason if decision else "forced by name" if request.forced else "no decision"
    reason = "both tiers were asked" if state.action is Action.ENSEMBLE else reason
    status, kind = (200, None) if error is None else ending_of(error)
    promise = answer_promise(request.shares, context, state, failed=error is not None)
    text = request.query.text
    prompt = None if keep_prompt is None else keep_prompt(text)
    asked: dict[str, Any] = {}
    if keep_prompt is not None and prompt is not None:
        asked["asked"] = kept_request(request.query, prompt, keep_prompt)
    if keep_answer is not None and error is None and state.completion is not None:
        asked["answer"] = keep_answer(state.completion.text)
        if state.tried is not None and decision is not None and decision.tier != state.tier:
            asked[BESIDE] = [beside_answer(decision.tier, state.tried, keep_answer)]
        elif beside := {tier: made for tier, made in state.made.items() if isinstance(made, Completion)}:
            asked[BESIDE] = [beside_answer(tier, made, keep_answer) for tier, made in beside.items()]
    if request.slicer is not None and promise.share is not None:
        asked["slice"] = slice_of(request.slicer, request.query)
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
        propensity=1.0 if request.assigned is None else request.assigned.propensity,
        error=kind,
        metadata=keep_metadata(request.query.metadata),
        overhead=tuple(state.overhead),
        key=request.key,
        session=request.resolved.session,
        evidence=_evidence(request, promise) | asked,
        prompt=prompt,
    )


def offer_answer(judge: LiveJudge, request: Request) -> None:
    """Hand a request's answer over to be judged, where it is drawn for that."""
    state, route = request.state, str(request.state.action)
    if request.embeds or state.completion is None or not judge.draws(request.id, route):
        return
    last = request.context.policy.top
    judge.offer(FinishedAnswer(request.id, route, state.tier, last, request.query, state.completion, state.tried))


def embedded_request(record: DecisionRecord, embedding: PromptEmbedding) -> EmbeddedRequest:
    """What is handed over of a request's embedding: it is added to a sum, and no part of the record."""
    of = (record.version, record.outcome, record.created_at, record.session, record.prompt_sha256)
    return EmbeddedRequest(*of, embedding)


def _evidence(request: Request, promise: AnswerPromise) -> dict[str, Any]:
    """What is stored to explain a request by: thresholds in force, the promise, options and signals of the answer."""
    context, state = request.context, request.state
    entry: dict[str, Any] = {
        "thresholds": {
            tier: {
                "route_at": _plain(point.route_at),
                "accept_at": _plain(point.accept_at),
                "abstain_below": point.abstain_below,
            }
            for tier, point in context.policy.points.items()
        },
        "pattern": context.policy.pattern,
        "layer": state.layer,
        "promised": promise.share,
        "promised_of": promise.of,
        "safe_tier": context.safe_tier,
    }
    if promise.why_not is not None:
        entry["not_promised"] = promise.why_not
        if (found := uncovered(context, state)) is not None:
            entry["uncovered"] = found.reason
    if math.isfinite(context.deadline.seconds):
        entry["deadline_s"] = context.deadline.seconds
    if state.served_on_overload:
        entry["spilled"] = {
            "spill_at": _plain(context.policy.overload_points[state.tier].serve_at),
            "promised": promise.share,
        }
    if request.share is not None:
        entry["share"] = request.share
    if request.drawn is not None:
        how = {"asked_for": True} if request.drawn.asked_for else {"share": request.drawn.share}
        entry["ensemble"] = how | dict(state.picking or {"why_not": "the request ended before"})
    if state.decision is not None and state.decision.intent is not None:
        entry["intent"] = intent_entry(state.decision.intent)
    if wishes := request.resolved.as_recorded():
        entry["wishes"] = wishes
    if (answer := state.completion) is not None:
        entry["signals"] = {"finish_reason": answer.finish_reason, "answer_chars": len(answer.text)}
        entry["signals"] |= opening_says(answer.text)
        if answer.token_logprobs:
            entry["signals"] |= logprob_summary(answer.token_logprobs)
    if state.signals:
        entry["asked_signals"] = dict(state.signals)
    if request.request_id is not None:
        entry["request_id"] = request.request_id
    if state.trace.trace_id is not None:
        entry["trace"] = state.trace.trace_id
    if request.assigned is not None:
        entry["rollout"] = request.assigned.as_recorded()
    return entry


def intent_entry(match: IntentMatch) -> dict[str, Any]:
    """What the record keeps of a catalogue's word: which layer decided, the intent, its cosine, the catalogue."""
    found: dict[str, Any] = {"catalogue": match.catalogue[:12], "layer": match.layer}
    if match.intent is not None and match.cosine is not None:
        found |= {"intent": match.intent, "cosine": round(match.cosine, 4), "floor": match.floor, "tier": match.tier}
    return found


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
