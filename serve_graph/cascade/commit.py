"""A cheap tier heard behind a curtain: held back until something says that it may be shown, or dropped unseen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from router_models.types import Action, Completion, Decision, PrefixPoint, Query
from serve_graph.cascade import cascade
from serve_graph.cascade.context import Graph, Trail
from serve_graph.cascade.tier_stream import Speech, as_shown, live
from serve_graph.errors import EngineError, PolicyUnavailableError
from serve_graph.protocol.async_stream import Patient
from serve_graph.protocol.chunks import Choices, Hearing, spoken_pieces


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens the curtain before the answer's end: a certified prefix verdict, a budget of seconds, or neither."""

    point: PrefixPoint | None = None
    first_token_s: float | None = None
    at_first_token: Literal["commit", "escalate"] = "escalate"


class _Show(Enum):
    """What may be shown of the held pieces: all, for the answer is over; all and what follows; none, ever."""

    WHOLE = auto()
    ON = auto()
    NEVER = auto()


class Curtain:
    """The decided cheap tier's answer to one query. `speech` yields nothing where another tier must answer."""

    def __init__(self, graph: Graph, query: Query, trail: Trail, opening: Opening) -> None:
        self.graph, self.query, self.trail, self.opening = graph, query, trail, opening
        self.started, self.closed_at = time.perf_counter(), graph.deadline.clock()
        self.hearing = Hearing()
        self.held: list[Choices] = []
        self.hurried = False

    async def speech(self) -> Speech:
        """The pieces from the commit on; the trail says who answers where there are none.

        Raises EngineError where the tier breaks off after the commit, or before it with nobody to take its place.
        """
        coming = Patient(live(self.graph, self.query, self.trail, self.hearing))
        try:
            show = await self._what_to_show(coming)
            if show is _Show.NEVER:
                return
            for piece in self.held:
                yield piece
            if show is _Show.ON:
                async for piece in coming:
                    yield piece
        finally:
            await coming.aclose()

    async def _what_to_show(self, coming: Patient[Choices]) -> _Show:
        while True:
            try:
                self.held.append(await coming.next(self._left_s()))
            except TimeoutError:
                if self.opening.at_first_token == "escalate":
                    return self._give_up()
                self._hurry()
            except StopAsyncIteration:
                return await self._whole_verdict()
            except EngineError as error:
                cascade.fall_back(self.graph, self.trail, error)
                return _Show.NEVER
            if self.hurried and self.held:
                return _Show.ON
            point = self.opening.point
            prefix = None if point is None else self.hearing.prefix(point.tokens)
            if prefix is not None:
                return await self._prefix_verdict(prefix)

    async def _whole_verdict(self) -> _Show:
        trail = self.trail
        completion = self.hearing.completion(time.perf_counter() - self.started)
        await cascade.weigh(self.graph, self.query, completion, trail)
        if trail.completion is None:
            return _Show.NEVER
        if trail.action is Action.ABSTAINED:
            self.held = list(spoken_pieces(as_shown(trail, completion)))
        return _Show.WHOLE

    async def _prefix_verdict(self, prefix: Completion) -> _Show:
        """Asked once, when the answer is known to be longer than N tokens; what came with them is not judged."""
        trail, graph = self.trail, self.graph
        decision = trail.decision or Decision(trail.tier, "not decided")
        try:
            verdict = trail.verdict = await graph.judge.judge(self.query, prefix, decision)
        except PolicyUnavailableError as error:
            cascade.go_without(graph, trail, "verifier", error)
            return _Show.ON if trail.tier == decision.tier else _Show.NEVER
        if verdict.action is Action.ACCEPTED:
            trail.go(trail.tier, Action.ACCEPTED)
            return _Show.ON
        trail.go(graph.policy.top, Action.ESCALATED)
        return _Show.NEVER

    def _give_up(self) -> _Show:
        self.trail.go(self.graph.policy.top, Action.ESCALATED, f"{self._budget}: escalated unjudged")
        return _Show.NEVER

    def _hurry(self) -> None:
        self.trail.notes.append(f"{self._budget}: committed unjudged")
        self.hurried = True

    @property
    def _budget(self) -> str:
        return f"nothing shown within {self.opening.first_token_s:.3g} s"

    def _left_s(self) -> float | None:
        if self.opening.first_token_s is None or self.hurried:
            return None
        return max(0.0, self.closed_at + self.opening.first_token_s - self.graph.deadline.clock())
