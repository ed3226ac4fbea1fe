"""A cheap tier heard behind a curtain: held back until something says that it may be shown, or dropped unseen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from router_models.types import Action, Completion, Decision, PrefixPoint, Query
from serve_graph.cascade import cascade
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.cascade.tier_stream import TierStream, as_delivered, stream_tier
from serve_graph.errors import EngineError, PolicyUnavailableError
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.chunks import Choices, CompletionAccumulator, to_chunks


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """What opens the curtain before the answer's end: a certified prefix verdict, a budget of seconds, or neither."""

    point: PrefixPoint | None = None
    first_token_s: float | None = None
    at_first_token: Literal["commit", "escalate"] = "escalate"


class _Delivery(Enum):
    """What may be shown of the held pieces: all, for the answer is over; all and what follows; none, ever."""

    WHOLE = auto()
    ON = auto()
    NEVER = auto()


class CommitBuffer:
    """The decided cheap tier's answer to one query. `pieces` yields nothing where another tier must answer."""

    def __init__(
        self, context: CascadeContext, query: Query, state: RequestState, commit_policy: CommitPolicy
    ) -> None:
        self.context, self.query, self.state, self.commit_policy = context, query, state, commit_policy
        self.started, self.closed_at = time.perf_counter(), context.deadline.clock()
        self.accumulator = CompletionAccumulator()
        self.buffered: list[Choices] = []
        self.committed_unjudged = False

    async def pieces(self) -> TierStream:
        """The pieces from the commit on; the trail says who answers where there are none.

        Raises EngineError where the tier breaks off after the commit, or before it with nobody to take its place.
        """
        incoming = BufferedAsyncIterator(stream_tier(self.context, self.query, self.state, self.accumulator))
        try:
            delivery = await self._what_to_show(incoming)
            if delivery is _Delivery.NEVER:
                return
            for piece in self.buffered:
                yield piece
            if delivery is _Delivery.ON:
                async for piece in incoming:
                    yield piece
        finally:
            await incoming.aclose()

    async def _what_to_show(self, incoming: BufferedAsyncIterator[Choices]) -> _Delivery:
        while True:
            try:
                self.buffered.append(await incoming.next(self._left_s()))
            except TimeoutError:
                if self.commit_policy.at_first_token == "escalate":
                    return self._escalate_unjudged()
                self._commit_unjudged()
            except StopAsyncIteration:
                return await self._whole_verdict()
            except EngineError as error:
                cascade.fall_back(self.context, self.state, error)
                return _Delivery.NEVER
            if self.committed_unjudged and self.buffered:
                return _Delivery.ON
            point = self.commit_policy.point
            prefix = None if point is None else self.accumulator.prefix(point.tokens)
            if prefix is not None:
                return await self._prefix_verdict(prefix)

    async def _whole_verdict(self) -> _Delivery:
        state = self.state
        completion = self.accumulator.completion(time.perf_counter() - self.started)
        await cascade.apply_verdict(self.context, self.query, completion, state)
        if state.completion is None:
            return _Delivery.NEVER
        if state.action is Action.ABSTAINED:
            self.buffered = list(to_chunks(as_delivered(state, completion)))
        return _Delivery.WHOLE

    async def _prefix_verdict(self, prefix: Completion) -> _Delivery:
        """Asked once, when the answer is known to be longer than N tokens; what came with them is not judged."""
        state, context = self.state, self.context
        decision = state.decision or Decision(state.tier, "not decided")
        try:
            verdict = state.verdict = await context.judge.judge(self.query, prefix, decision)
        except PolicyUnavailableError as error:
            cascade.use_safe_tier(context, state, "verifier", error)
            return _Delivery.ON if state.tier == decision.tier else _Delivery.NEVER
        if verdict.action is Action.ACCEPTED:
            state.go(state.tier, Action.ACCEPTED)
            return _Delivery.ON
        state.go(context.policy.top, Action.ESCALATED)
        return _Delivery.NEVER

    def _escalate_unjudged(self) -> _Delivery:
        self.state.go(self.context.policy.top, Action.ESCALATED, f"{self._budget}: escalated unjudged")
        return _Delivery.NEVER

    def _commit_unjudged(self) -> None:
        self.state.notes.append(f"{self._budget}: committed unjudged")
        self.committed_unjudged = True

    @property
    def _budget(self) -> str:
        return f"nothing shown within {self.commit_policy.first_token_s:.3g} s"

    def _left_s(self) -> float | None:
        if self.commit_policy.first_token_s is None or self.committed_unjudged:
            return None
        return max(0.0, self.closed_at + self.commit_policy.first_token_s - self.context.deadline.clock())
