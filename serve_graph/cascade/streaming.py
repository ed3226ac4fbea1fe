"""The commit contract (docs/guides/streaming.md): the cascade's steps done for an answer that is shown piece by piece.

Before the commit nothing of an answer is shown, and a tier that fails is replaced unseen. The commit is the first
piece with content (text, reasoning, a tool call, a finish reason). After it the tier never changes, nothing is
repeated, dropped or reordered, and a failure ends the stream. What is shown when, `next_step` decides; see StreamMode.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from router_models.estimators.verifiers.checks.formats import declares_shape
from router_models.types import Action, Completion, Query, Usage
from serve_graph.cascade.billing import answered
from serve_graph.cascade.calls import perform, record_attempts, start, tier_failed, time_left
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.next_step import advance
from serve_graph.cascade.steps import (
    Answered,
    BudgetSpent,
    CascadeEvent,
    Delivery,
    Do,
    FirstPiece,
    PrefixReady,
    RequestState,
    Step,
    StreamMode,
    StreamTerms,
)
from serve_graph.errors import EngineError, EngineTimeoutError
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.chunks import Choices, CompletionAccumulator, says_something, to_chunks, tool_names
from serve_graph.protocol.responses import MALFORMED

Pieces = AsyncGenerator[Choices, None]
ABSTENTION = "I am not confident enough in an answer to give one."


async def stream_answer(
    context: CascadeContext, query: Query, forced: str | None, terms: StreamTerms, state: RequestState
) -> Pieces:
    """Answer a query in pieces under the commit contract; from the first piece on the state names its tier.

    Raises what `cascade.answer` raises: before the first piece, or after it where the tier that is shown breaks off.
    Closing it ends every engine call it made.
    """
    why = judged_whole(query) if terms.mode is StreamMode.PREFIX else None
    event: CascadeEvent = start(context, query, forced, terms, why)
    call: TierStream | None = None
    committed = False
    try:
        while True:
            step = advance(state, event)
            match step.do:
                case Do.CALL if step.delivery is not Delivery.WHOLE:
                    if call is not None:
                        await call.aclose()
                    call = TierStream(context, query, step, state)
                    event = await call.event(step)
                case Do.READ if call is not None:
                    event = await call.event(step)
                case Do.COMMIT if call is not None:
                    committed = True
                    for piece in call.buffered:
                        yield piece
                    try:
                        async for piece in call.coming:
                            yield piece
                        event = Answered(call.answer())
                    except EngineError as error:
                        event = tier_failed(context, error, state)
                case Do.REPLY if step.completion is not None:
                    for piece in () if committed else _whole(call, step, step.completion):
                        yield piece
                    return
                case Do.FAIL if step.error is not None:
                    raise step.error
                case _:
                    event = await perform(context, query, step, state)
    finally:
        if call is not None:
            await call.aclose()


class TierStream:
    """One tier's answer as it comes: `buffered` has been read and not been shown, `coming` is the rest.

    The bill is written when the call ends, however it ends. `completion` is the answer once it has ended well.
    """

    def __init__(self, context: CascadeContext, query: Query, step: Step, state: RequestState) -> None:
        self.context, self.query, self.state = context, query, state
        self.tier, self.action, self.timeout_s = step.tier, str(step.action), step.timeout_s
        if math.isfinite(step.timeout_s):  # closing the call before this one took time too
            self.timeout_s = min(step.timeout_s, context.deadline.left_s)
        self.began_at = context.deadline.clock()
        self.accumulator = CompletionAccumulator(tool_names(query.parameters.get("tools")))
        self.completion: Completion | None = None
        self.buffered: list[Choices] = []
        pieces = self._pieces()
        self.coming: Pieces | BufferedAsyncIterator[Choices] = (
            BufferedAsyncIterator(pieces) if step.delivery is Delivery.BUFFERED else pieces
        )

    async def event(self, step: Step) -> CascadeEvent:
        """Read on until something happens that the next step depends on."""
        policy = step.commit_policy
        while True:
            try:
                self.buffered.append(await self._next(policy.budget_s))
            except TimeoutError:
                if policy.budget_s is None:
                    raise
                return BudgetSpent(bool(self.buffered), time_left(self.context))
            except StopAsyncIteration:
                return Answered(self.answer())
            except EngineError as error:
                return tier_failed(self.context, error, self.state)
            if step.delivery is Delivery.LIVE or policy.commits_unjudged:
                return FirstPiece()
            prefix = None if policy.prefix_tokens is None else self.accumulator.prefix(policy.prefix_tokens)
            if prefix is not None:
                return PrefixReady(prefix)

    def answer(self) -> Completion:
        """The whole answer, once the stream has ended well."""
        assert self.completion is not None, "a stream that ends without an answer raises"
        return self.completion

    async def aclose(self) -> None:
        """End the engine's call."""
        await self.coming.aclose()

    async def _next(self, budget_s: float | None) -> Choices:
        if not isinstance(self.coming, BufferedAsyncIterator):
            return await anext(self.coming)
        if budget_s is None:
            return await self.coming.next()
        return await self.coming.next(max(0.0, self.began_at + budget_s - self.context.deadline.clock()))

    async def _pieces(self) -> Pieces:
        """The tier's pieces, from the first that has content; what came before it, a role, is sent with it.

        Raises EngineError where the tier ends its stream without a finish reason. Closing it ends the engine's call.
        """
        context, state, tier, accumulator = self.context, self.state, self.tier, self.accumulator
        started = time.perf_counter()
        empty: list[Choices] = []
        began = late = left = False
        span = state.trace.tier(tier, self.action, self.query, stream=True)
        try:
            with span:
                try:
                    async with aclosing(context.streams[tier].stream(self.query, self.timeout_s)) as chunks:
                        async for chunk in chunks:
                            piece = _add(accumulator, chunk, tier)
                            if attempts := chunk.get("attempts"):
                                record_attempts(context, tier, attempts, state)
                                span.tried(attempts)
                            if not piece:
                                continue
                            if not began and says_something(chunk):
                                began = True
                                span.began()
                            if not began:
                                empty.append(piece)
                                continue
                            while empty:
                                yield empty.pop(0)
                            yield piece
                    if not accumulator.finished:
                        raise EngineError(f"tier {tier!r} ended its stream without finishing the answer")
                    self.completion = accumulator.completion(time.perf_counter() - started)
                finally:
                    is_whole = self.completion is not None
                    span.answered(self.completion or accumulator.completion(0.0, "stop"), is_whole=is_whole)
        except EngineError as error:
            late = isinstance(error, EngineTimeoutError)
            record_attempts(context, tier, error.attempts, state)
            raise
        except (GeneratorExit, asyncio.CancelledError):
            left = True
            raise
        finally:
            said = accumulator.completion(time.perf_counter() - started, "stop")
            line = answered(context.prices, tier, said, said.latency_s, accumulator.named)
            # Nobody waited for it any longer, and what it cost is not known; of tokens that had been named, it is.
            unknown = not line.metered and (late or (left and line.usage == Usage()))
            state.calls.append(replace(line, what="cancelled") if unknown else line)
            state.unmetered |= self.completion is not None and not line.metered


def _add(accumulator: CompletionAccumulator, chunk: Mapping[str, Any], tier: str) -> Choices:
    try:
        return accumulator.add(chunk)
    except MALFORMED as error:
        attempts = chunk.get("attempts", ()) if isinstance(chunk, Mapping) else ()
        raise EngineError(f"tier {tier!r} sent a malformed chunk ({type(error).__name__})", attempts) from error


def judged_whole(query: Query) -> str | None:
    """Why an answer to this query is never judged by its prefix; None where it may be."""
    if int(query.parameters.get("n") or 1) > 1:
        return "several choices are judged whole"
    return "an answer of a declared shape is judged whole" if declares_shape(query) else None


def _whole(call: TierStream | None, step: Step, completion: Completion) -> Iterable[Choices]:
    """The pieces of an answer that nothing has been shown of: as they came, where they came as a stream."""
    if step.action is Action.ABSTAINED:
        return to_chunks(abstention(completion))
    return call.buffered if call is not None and call.completion is completion else to_chunks(completion)


def abstention(completion: Completion) -> Completion:
    """What the caller gets in place of an answer that is withheld: text that says so, which is also a refusal."""
    message = {"role": "assistant", "content": ABSTENTION, "refusal": ABSTENTION}
    payload = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Completion(ABSTENTION, "stop", completion.usage, (), completion.latency_s, payload)
