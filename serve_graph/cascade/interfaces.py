"""The interfaces of the serving half: what the cascade needs from the world.

`left_s` is the time a request has left: an engine is not asked to begin without any, and gives up when it is over.

All are asynchronous but `Constraints`, which compute, and `RecordSink.write`, which only appends and must be quick.
Implementations: Ray Serve handles (`cluster.tier_client`, `cluster.policy_client`), in-process fakes (`fakes`).
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from router_models.types import Completion, Decision, DecisionRecord, Query, Verdict

if TYPE_CHECKING:
    from serve_graph.cascade.context import CascadeContext
    from serve_graph.cascade.steps import NotPicked, Picked, RequestState


class Engine(Protocol):
    """Generate one whole completion. Raises EngineError (try elsewhere) or EngineRequestError (the request is bad)."""

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion: ...


class StreamingEngine(Protocol):
    """Generate a completion as OpenAI chunks (dicts shaped like chat.completion.chunk), usage in the last one.

    Errors as for Engine; those raised after the first chunk mean the stream broke. Closing it ends the call.
    """

    def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]: ...


class Embedder(Protocol):
    """Pass an OpenAI embeddings body through; errors as for Engine. Only tiers that declare it have one."""

    async def embed(self, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


class Decider(Protocol):
    """Choose a tier before generation. Raises PolicyUnavailableError where no decision can be had in time."""

    async def decide(self, query: Query) -> Decision: ...


class Constraints(Protocol):
    """What one request makes of the router's decision. No I/O."""

    def without_router(self) -> Decision | None:
        """A decision that stands before the router is asked; None where it is to be asked."""

    def apply(self, decision: Decision, query: Query) -> Decision:
        """The router's decision as the request wants it."""


class Judge(Protocol):
    """Judge a completion of `decision.tier`. Raises PolicyUnavailableError where no verdict can be had in time."""

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict: ...


class Ensemble(Protocol):
    """Ask two tiers at once and have one answer picked; both, and whoever picks, are on the state's bill.

    What is not picked leaves what it has in `state.made`. Raises whatever means neither that a tier nor that whoever
    picks failed.
    """

    async def answer(self, context: CascadeContext, query: Query, state: RequestState) -> Picked | NotPicked: ...


class RecordSink(Protocol):
    """Keep one record for good. Must not lose it, must not wait for a database, nor raise when a disk is full."""

    def write(self, record: DecisionRecord) -> None: ...
