"""When a tier may speak: the commit contract (docs/guides/streaming.md), kept here and in `commit`, nowhere else.

Before the commit nothing of an answer is shown, and a tier that fails is replaced unseen. The commit is the first
piece that says something. After it the tier never changes, nothing is repeated, dropped or reordered, and a failure
ends the stream. What is shown, and when, of a cheap answer:

    verify   the whole, once its verdict is in
    prefix   as it comes, once its first N tokens have passed a verdict certified for N tokens
    route    as it comes, unjudged: the router's decision alone
"""

from __future__ import annotations

import math
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from router_models.estimators.verifiers.checks.formats import declares_shape
from router_models.types import PrefixPoint, Query
from serve_graph.cascade import cascade
from serve_graph.cascade.commit import CommitBuffer, CommitPolicy
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.cascade.overload import overload_answer
from serve_graph.cascade.tier_stream import TierStream, as_delivered, stream_tier
from serve_graph.errors import EngineError, EngineRequestError
from serve_graph.protocol.chunks import CompletionAccumulator, to_chunks


class StreamMode(StrEnum):
    """What must have happened before a cheap answer is shown."""

    VERIFY = "verify"
    PREFIX = "prefix"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """How streams commit. After `first_token_s` seconds behind the curtain, `at_first_token` is done regardless:
    `commit` shows the cheap answer unjudged, `escalate` asks the last tier. None = no such budget.
    """

    mode: StreamMode = StreamMode.VERIFY
    first_token_s: float | None = None
    at_first_token: Literal["commit", "escalate"] = "escalate"

    def with_mode(self, mode: str | None) -> StreamTerms:
        """The terms with a request's own mode; None keeps the policy's."""
        return self if mode is None else replace(self, mode=StreamMode(mode))


async def stream_answer(
    context: CascadeContext, query: Query, forced: str | None, terms: StreamTerms, state: RequestState
) -> TierStream:
    """Answer a query in pieces under the commit contract; from the first piece on the trail names its tier.

    Raises what `cascade.answer` raises: before the first piece, or after it where the speaking tier breaks off.
    Closing it ends every engine call it made.
    """
    if await cascade.decide(context, query, forced, state):
        if terms.mode is StreamMode.ROUTE:
            state.notes.append("streamed at once, unjudged")
        else:
            async with aclosing(_tried(context, query, terms, state)) as pieces:
                async for piece in pieces:
                    yield piece
            if state.completion is not None:
                return
    async with aclosing(_settled(context, query, state)) as pieces:
        async for piece in pieces:
            yield piece


async def _settled(context: CascadeContext, query: Query, state: RequestState) -> TierStream:
    """The settled tier, as it speaks; where it fails before it said anything, another takes its place unseen."""
    while True:
        shown = False
        try:
            async with aclosing(stream_tier(context, query, state, CompletionAccumulator())) as pieces:
                async for piece in pieces:
                    shown = True
                    yield piece
            return
        except EngineError as error:
            if shown or isinstance(error, EngineRequestError):
                raise
            if (answer := overload_answer(context, state, error)) is None:
                cascade.fall_back(context, state, error)
                continue
            for piece in to_chunks(as_delivered(state, answer)):
                yield piece
            return


def _tried(context: CascadeContext, query: Query, terms: StreamTerms, state: RequestState) -> TierStream:
    """A cheap tier's answer: heard behind the curtain where that can open early, else awaited whole."""
    point = _prefix_point(context, query, state) if terms.mode is StreamMode.PREFIX else None
    try_s = context.deadline.try_s()
    if try_s < (terms.first_token_s or math.inf):  # what the last tier needs of the deadline must be left to it
        terms = replace(terms, first_token_s=try_s, at_first_token="escalate")
    if point is None and terms.first_token_s is None:
        return _tried_whole(context, query, state)
    return CommitBuffer(context, query, state, CommitPolicy(point, terms.first_token_s, terms.at_first_token)).pieces()


def _prefix_point(context: CascadeContext, query: Query, state: RequestState) -> PrefixPoint | None:
    """The tier's certified prefix point; None, with a note why, where the answer must be judged whole."""
    point = context.policy.prefixes.get(state.tier)
    if point is None:
        state.notes.append(f"prefix asked for, but {state.tier} has no certified prefix verdict: verify")
    elif int(query.parameters.get("n") or 1) > 1:
        state.notes.append("prefix asked for, but several choices are judged whole: verify")
        return None
    elif declares_shape(query):
        state.notes.append("prefix asked for, but an answer of a declared shape is judged whole: verify")
        return None
    return point


async def _tried_whole(context: CascadeContext, query: Query, state: RequestState) -> TierStream:
    await cascade.attempt(context, query, state)
    if state.completion is not None:
        for piece in to_chunks(as_delivered(state, state.completion)):
            yield piece
