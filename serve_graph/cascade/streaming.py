"""When a tier may speak: the commit contract (docs/guides/streaming.md), kept here and in `curtain`, nowhere else.

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
from serve_graph.cascade.commit import Curtain, Opening
from serve_graph.cascade.context import Graph, Trail
from serve_graph.cascade.overload import spilled
from serve_graph.cascade.tier_stream import Speech, as_shown, live
from serve_graph.errors import EngineError, EngineRequestError
from serve_graph.protocol.chunks import Hearing, spoken_pieces


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

    def asked(self, mode: str | None) -> StreamTerms:
        """The terms with a request's own mode; None keeps the policy's."""
        return self if mode is None else replace(self, mode=StreamMode(mode))


async def speak(graph: Graph, query: Query, forced: str | None, terms: StreamTerms, trail: Trail) -> Speech:
    """Answer a query in pieces under the commit contract; from the first piece on the trail names its tier.

    Raises what `cascade.answer` raises: before the first piece, or after it where the speaking tier breaks off.
    Closing it ends every engine call it made.
    """
    if await cascade.decide(graph, query, forced, trail):
        if terms.mode is StreamMode.ROUTE:
            trail.notes.append("streamed at once, unjudged")
        else:
            async with aclosing(_tried(graph, query, terms, trail)) as pieces:
                async for piece in pieces:
                    yield piece
            if trail.completion is not None:
                return
    async with aclosing(_settled(graph, query, trail)) as pieces:
        async for piece in pieces:
            yield piece


async def _settled(graph: Graph, query: Query, trail: Trail) -> Speech:
    """The settled tier, as it speaks; where it fails before it said anything, another takes its place unseen."""
    while True:
        shown = False
        try:
            async with aclosing(live(graph, query, trail, Hearing())) as pieces:
                async for piece in pieces:
                    shown = True
                    yield piece
            return
        except EngineError as error:
            if shown or isinstance(error, EngineRequestError):
                raise
            if (answer := spilled(graph, trail, error)) is None:
                cascade.fall_back(graph, trail, error)
                continue
            for piece in spoken_pieces(as_shown(trail, answer)):
                yield piece
            return


def _tried(graph: Graph, query: Query, terms: StreamTerms, trail: Trail) -> Speech:
    """A cheap tier's answer: heard behind the curtain where that can open early, else awaited whole."""
    point = _prefix_point(graph, query, trail) if terms.mode is StreamMode.PREFIX else None
    try_s = graph.deadline.try_s()
    if try_s < (terms.first_token_s or math.inf):  # what the last tier needs of the deadline must be left to it
        terms = replace(terms, first_token_s=try_s, at_first_token="escalate")
    if point is None and terms.first_token_s is None:
        return _tried_whole(graph, query, trail)
    return Curtain(graph, query, trail, Opening(point, terms.first_token_s, terms.at_first_token)).speech()


def _prefix_point(graph: Graph, query: Query, trail: Trail) -> PrefixPoint | None:
    """The tier's certified prefix point; None, with a note why, where the answer must be judged whole."""
    point = graph.policy.prefixes.get(trail.tier)
    if point is None:
        trail.notes.append(f"prefix asked for, but {trail.tier} has no certified prefix verdict: verify")
    elif int(query.parameters.get("n") or 1) > 1:
        trail.notes.append("prefix asked for, but several choices are judged whole: verify")
        return None
    elif declares_shape(query):
        trail.notes.append("prefix asked for, but an answer of a declared shape is judged whole: verify")
        return None
    return point


async def _tried_whole(graph: Graph, query: Query, trail: Trail) -> Speech:
    await cascade.attempt(graph, query, trail)
    if trail.completion is not None:
        for piece in spoken_pieces(as_shown(trail, trail.completion)):
            yield piece
