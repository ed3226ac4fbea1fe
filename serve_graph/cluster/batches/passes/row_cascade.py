"""One row through the cascade, as far as it goes without a tier: the code of requests, with calls made elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from router_models.types import Attempt, Completion, DecisionRecord, Query
from serve_graph.api.batches.answering import failure
from serve_graph.api.generation import options_from
from serve_graph.cascade.asked import AskedCall, AskedReply, told_first_signals, told_signals
from serve_graph.cascade.calls import (
    answered_event,
    bill_answer,
    bill_unanswered,
    judging_calls,
    perform,
    routing_calls,
    start,
    tier_failed,
)
from serve_graph.cascade.context import AskedTerms
from serve_graph.cascade.next_step import advance
from serve_graph.cascade.steps import CascadeEvent, Do, Step
from serve_graph.cluster.batches.passes.pass_rows import PassRow, RowProgress, TierReply, about, before, error_reply
from serve_graph.cluster.batches.passes.row_answer import row_answer, row_failure, said_of
from serve_graph.cluster.batches.passes.row_story import PendingCall, PendingStep, RowStory
from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.service import build_service, cascade_context
from serve_graph.cluster.tier_client import HandleEngine, raise_error
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import EchoVerifierConfig, HostedVerifierConfig, VllmVerifierConfig
from serve_graph.config.tiers.kinds import AnyTierConfig
from serve_graph.errors import EngineError, ServeGraphError
from serve_graph.gateway.request import Request
from serve_graph.policy.catalogue_watch import CatalogueWatch
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import VersionFiles
from serve_graph.policy.validity import CertificateStatus
from serve_graph.protocol.requests import ChatRequest, chat_query, engine_body, parse_request
from serve_graph.protocol.responses import MALFORMED, completion_of
from serve_graph.records.explanation import other_branch
from serve_graph.records.store import record_to_json

NOTHING_SAID: Mapping[int, TierReply] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PassesPlan:
    """What every worker of a run needs: the graph, the version that decides, and what revoked it, if anything did."""

    config: GraphConfig
    policy: ServedPolicy
    files: VersionFiles | None = None
    revoked: str | None = None


class _LastRecord:
    def __init__(self) -> None:
        self.record: DecisionRecord | None = None

    def write(self, record: DecisionRecord) -> None:
        self.record = record


class RowCascade:
    """Decide and judge rows of a graph by the version that it would serve. No tier is called.

    Nobody waits for a row: `http.deadline_s` does not count.
    """

    def __init__(self, plan: PassesPlan) -> None:
        config, served = plan.config, plan.policy
        self.config = config
        held = None
        if plan.files is not None:
            policy, catalogue = config.policy, CatalogueWatch.of(config)
            held = PolicyDeployment(plan.files, policy.uncovered, policy.give_up_s, catalogue=catalogue)
        status = CertificateStatus(served.validity, served.name)
        status.revoke(plan.revoked)
        engines: dict[str, HandleEngine] = {tier.name: _NoEngine(tier) for tier in config.every_tier}
        self.sink = _LastRecord()
        context = cascade_context(config, served, engines, PolicySource(held=held))
        self.service = build_service(config, served, context, status, self.sink, secrets.token_bytes(16))
        self.service.deadline_s = None

    async def go(
        self, row: PassRow, given: TierReply | None = None, said: Mapping[int, TierReply] = NOTHING_SAID
    ) -> RowProgress:
        """Take a row on from where its story ends: with a tier's reply where it waits for one, or with what was said
        of its answer, by the numbers of the calls.
        """
        try:
            parsed = parse_request(ChatRequest, row.body.encode("utf-8", "surrogatepass"))
            request = self.service.open(chat_query(parsed), parsed.model, False, options_from(parsed))
        except ServeGraphError as error:
            return RowProgress(row.key, "0", result=row_failure(*failure(error)))
        story = RowStory.from_json(row.story)
        state, context = request.state, request.context
        step = advance(state, start(context, request.query, request.forced))
        for known in story.events:
            step = advance(state, known)
        if row.story:
            state.calls[:], state.overhead[:], state.unmetered = story.calls, story.overhead, story.unmetered
            state.notes[:], state.signals = story.notes, story.signals
        event = None if given is None else self._replied(request, step, given)
        if (pending := story.pending) is not None:
            for number, reply in said.items():
                pending.calls[number].reply = reply
            if pending.answer is not None:
                event = answered_event(context, request.query, step, read_completion(pending.answer))
        while True:
            if event is not None:
                story.events.append(event)
                step = advance(state, event)
            if step.do not in (Do.ASK_ROUTER, Do.JUDGE):
                break
            if pending is None and (calls := self._calls(request, step)):
                pending = PendingStep(given if step.do is Do.JUDGE else None, calls)
            if pending is not None and pending.waits_for is not None:
                if pending.answer is not None:  # it is pending whole, its story is without what the verdict reads
                    story.events.pop()
                break
            event = await self._performed(request, step, pending)
            pending = None
        if step.do not in (Do.CALL, Do.ASK_ROUTER, Do.JUDGE):
            return self._ended(row, request, step)
        story.calls, story.overhead, story.unmetered = state.calls, state.overhead, state.unmetered
        story.notes, story.signals, story.pending = state.notes, state.signals, pending
        began = "" if row.story else row.body
        place = step.tier if pending is None else _waits_at(pending)
        return RowProgress(row.key, str(request.cost_usd), place, story.to_json(), began)

    def _calls(self, request: Request, step: Step) -> list[PendingCall]:
        """The calls that a step waits for, as their tiers take them."""
        found = []
        for call in calls_before(request, step):
            try:
                made = PendingCall(call.name, call.tier, asked_body(self.config.tier(call.tier), call))
            except EngineError as error:
                made = PendingCall(call.name, call.tier, {}, TierReply(call.tier, error_reply(str(error), 400), 0.0))
            found.append(made)
        return found

    async def _performed(self, request: Request, step: Step, pending: PendingStep | None) -> CascadeEvent:
        """The router's decision, or the verdict on an answer, with what was said of the one or the other."""
        context, query, completion = request.context, request.query, step.completion
        if pending is not None:
            calls = calls_before(request, step)
            replies = [read_asked(call.reply) for call in pending.calls if call.reply is not None]
            if step.do is Do.ASK_ROUTER:
                query = told_first_signals(context, query, calls, replies, request.state)
            elif completion is not None:
                names = context.asked.by_tier.get(step.tier, ())
                completion = told_signals(context, completion, names, calls, replies, request.state)
                step = replace(step, completion=completion)
            context = replace(context, asked=AskedTerms())
        return await perform(context, query, step, request.state)

    def _replied(self, request: Request, step: Step, given: TierReply) -> CascadeEvent:
        """A tier's reply as the event that it is, billed."""
        assert (step.do, step.tier) == (Do.CALL, given.tier), "a row gets the reply of the tier that it waits for"
        try:
            completion = read_completion(given)
        except EngineError as error:
            bill_unanswered(request.context, given.tier, given.seconds, error, request.state)
            return tier_failed(request.context, error, request.state)
        bill_answer(request.context, given.tier, completion, given.seconds, request.state)
        return answered_event(request.context, request.query, step, completion)

    def _ended(self, row: PassRow, request: Request, step: Step) -> RowProgress:
        error: ServeGraphError | None = step.error
        reply: dict[str, Any] = {}
        if error is None and step.completion is not None:
            try:
                reply = self.service.reply(request, step.completion)
            except EngineError as failed:
                error = failed
        self.service.record(request, error)
        record = self.sink.record
        assert record is not None
        kept = record_to_json(record)
        page = kept | {"other_branch": other_branch(record, request.context.prices, self.config.tier_names)}
        facts = {"version": record.version, "cost_usd": str(request.cost_usd), "decision": record.id}
        result = row_failure(*failure(error)) | facts if error is not None else row_answer(reply) | said_of(page)
        return RowProgress(row.key, str(request.cost_usd), ok=error is None, result=result, record=kept)


class _NoEngine(HandleEngine):
    """A tier that is called by another pass: only its settings are known here."""

    def __init__(self, config: Any) -> None:
        self.config = config

    async def generate(self, query: Query, left_s: float = 0.0) -> Completion:
        raise EngineError(f"tier {self.config.name!r} answers in a pass of its own")


def calls_before(request: Request, step: Step) -> list[AskedCall]:
    """The calls for signals that a step takes: the router's choice, or the verdict on an answer."""
    if step.do is Do.ASK_ROUTER:
        return routing_calls(request.context, request.query)
    return judging_calls(request.context, request.query, step)


def asked_body(tier: AnyTierConfig, call: AskedCall) -> dict[str, Any]:
    """What a tier's engine, or a verifier model's, is sent for a signal when it is served.

    Raises EngineError where it cannot take the request.
    """
    if isinstance(tier, VllmVerifierConfig | HostedVerifierConfig | EchoVerifierConfig):
        return {"messages": call.query.parameters["messages"]}
    defaults = {**tier.decoding, "max_tokens": tier.default_max_tokens}
    return dict(engine_body(call.query, call.tier, defaults, tier.engine))


def _waits_at(pending: PendingStep) -> str:
    waits_for = pending.waits_for or ""
    return before(waits_for) if pending.answer is None else about(waits_for)


def read_asked(given: TierReply) -> AskedReply:
    """How a call about an answer ended."""
    try:
        return AskedReply(read_completion(given), given.seconds)
    except EngineError as error:
        return AskedReply(error, given.seconds)


def read_completion(given: TierReply) -> Completion:
    """The completion in a tier's reply; raises EngineError where there is none."""
    attempts = tuple(Attempt(**attempt) for attempt in given.reply.get("attempts") or ())
    raise_error(given.reply, given.tier, attempts)
    try:
        return replace(completion_of(given.reply, given.seconds), attempts=attempts)
    except MALFORMED as error:
        why = f"tier {given.tier!r} gave a reply that is no completion ({type(error).__name__})"
        raise EngineError(why) from error
