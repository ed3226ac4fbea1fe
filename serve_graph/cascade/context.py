"""What the cascade works with, and what it writes down of one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from router_models.types import Action, Call, Completion, Decision, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.billing import Prices
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.cascade.interfaces import Decider, Embedder, Engine, Judge, StreamingEngine


@dataclass(frozen=True, slots=True)
class CascadeContext:
    """What the cascade works with. `policy` is the served version's thresholds, for what needs no score.

    `deadline` and `may_serve_on_overload` (whether a tier's rejected answer may be served now, while the last tier is
    full) belong to one request: a context that all requests share has no deadline and never serves on overload.
    """

    engines: Mapping[str, Engine]
    streams: Mapping[str, StreamingEngine]
    decider: Decider
    judge: Judge
    policy: Policy
    prices: Prices
    safe_tier: str
    version: str
    router_usd_per_s: Decimal = Decimal(0)
    verifier_usd_per_s: Decimal = Decimal(0)
    embedders: Mapping[str, Embedder] = field(default_factory=dict)
    deadline: Deadline = NEVER
    may_serve_on_overload: Callable[[str], bool] = lambda _: False


@dataclass(slots=True)
class RequestState:
    """What happened to one request so far: written down as it happens, so that a failure has its record too.

    `held` is the tier its conversation began on: kept in place of the router's choice; verdicts still count.
    `rejected` is a cheap tier and its answer that may yet be shown; `spilled`: it was.
    """

    tier: str = ""
    action: Action = Action.ROUTED
    decision: Decision | None = None
    verdict: Verdict | None = None
    calls: list[Call] = field(default_factory=list)
    overhead: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completion: Completion | None = None
    pinned: str | None = None
    rejected: tuple[str, Completion] | None = None
    served_on_overload: bool = False

    def go(self, tier: str, action: Action, note: str = "") -> None:
        self.tier, self.action = tier, action
        if note:
            self.notes.append(note)
