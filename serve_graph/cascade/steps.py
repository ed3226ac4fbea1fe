"""The nouns of the cascade: what happened to a request (events), what to do next (Step), and what is known so far.

All of it is data. `next_step` (in the module of that name) decides; `cascade` and `streaming` do what a Step says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from typing import Any, Literal

from router_models.types import Action, Call, Completion, Decision, Verdict
from router_models.versions.policy import Policy
from serve_graph.engines.telemetry.tracing import NO_TRACE, RequestTrace
from serve_graph.errors import EngineError, PolicyUnavailableError, ServeGraphError


class StreamMode(StrEnum):
    """What must have happened before a cheap answer is shown in a stream.

    `VERIFY`: its verdict is in. `PREFIX`: its first N tokens have passed a verdict certified for N tokens. `ROUTE`:
    nothing; the router's decision alone counts.
    """

    VERIFY = "verify"
    PREFIX = "prefix"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """When streams commit. After `first_token_s` seconds without a commit, `at_first_token` is done regardless:
    `commit` shows the cheap answer unjudged, `escalate` asks the last tier. None = no such budget.
    """

    mode: StreamMode = StreamMode.VERIFY
    first_token_s: float | None = None
    at_first_token: Literal["commit", "escalate"] = "escalate"

    def with_mode(self, mode: str | None) -> StreamTerms:
        """The terms with a request's own mode; None keeps the policy's."""
        return self if mode is None else replace(self, mode=StreamMode(mode))


@dataclass(frozen=True, slots=True)
class Rules:
    """What one request's cascade goes by: the policy, and of it the last tier (`top`) and whether that is judged.

    `stream` None: the answer is wanted whole. `judged_whole` says why an answer to this query is never judged by its
    prefix; None where it may be. `reserve_s` is what the last tier usually takes: a cheap try leaves it that much of
    the deadline (`deadline_s`), where there is that much. `asks_quality`: the caller has a quality floor, and is shown
    nothing unjudged. `longest_answer`: an answer below the last tier that has more tokens is not accepted. `shaped`:
    its request declares the shape of its answer. `asks_both`: two tiers are asked at once, and one answer is picked,
    before the router is.
    """

    policy: Policy
    top: str
    judges_top: bool
    safe_tier: str
    forced: str | None = None
    stream: StreamTerms | None = None
    judged_whole: str | None = None
    forbids_abstaining: bool = False
    asks_quality: bool = False
    deadline_s: float = math.inf
    reserve_s: float = 0.0
    longest_answer: int | None = None
    shaped: bool = False
    asks_both: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A request came. `left_s`, here and below: seconds that are left of its deadline."""

    rules: Rules
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Decided:
    """The router chose a tier."""

    decision: Decision
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Picked:
    """Two tiers answered, and this one's answer was picked; `by` says by whom."""

    tier: str
    completion: Completion
    by: str


@dataclass(frozen=True, slots=True)
class NotPicked:
    """No answer of two tiers was picked. `has_answers`: what they said, or that they failed, is known all the same."""

    why: str
    has_answers: bool = False


@dataclass(frozen=True, slots=True)
class PolicyFailed:
    """Router or verifier, whichever was asked, gave no reply."""

    error: PolicyUnavailableError
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Answered:
    """The tier's answer came to its end. `fault`: what it breaks of what its request declares, where it is checked."""

    completion: Completion
    fault: str | None = None
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class TierFailed:
    """The tier failed. `may_serve_rejected`: the answer that was rejected before may be served to this caller now."""

    error: EngineError
    may_serve_rejected: bool = False
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class FirstPiece:
    """The first piece of a streamed answer that holds any content is here."""


@dataclass(frozen=True, slots=True)
class PrefixReady:
    """A buffered answer turned out to be longer than the N tokens asked for; `prefix` is these N."""

    prefix: Completion


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """A buffered answer was not committed within its `budget_s`; `has_pieces`: there is something to show of it."""

    has_pieces: bool
    left_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Judged:
    """The verifier gave a verdict on every choice of the completion."""

    verdicts: Sequence[Verdict]
    left_s: float = math.inf


CascadeEvent = (
    Started
    | Picked
    | NotPicked
    | Decided
    | PolicyFailed
    | Answered
    | TierFailed
    | FirstPiece
    | PrefixReady
    | BudgetSpent
    | Judged
)


class Do(Enum):
    """What a driver does next. Every one but REPLY and FAIL ends in an event."""

    ASK_BOTH = auto()
    """Ask two tiers at once, and have one answer picked."""
    ASK_ROUTER = auto()
    CALL = auto()
    """Call `tier`, as `delivery` says."""
    READ = auto()
    """Read on in the buffered stream, showing nothing."""
    JUDGE = auto()
    """Ask the verifier about `completion`."""
    COMMIT = auto()
    """Show what has come of the stream, and the rest as it comes."""
    REPLY = auto()
    """The request is answered by `completion`; after a commit it has been shown."""
    FAIL = auto()
    """Raise `error`."""


class Delivery(Enum):
    """How a call's answer arrives: as one reply; as a stream that is buffered; as a stream shown as it comes."""

    WHOLE = auto()
    BUFFERED = auto()
    LIVE = auto()


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """What may commit a buffered stream before its end: a prefix verdict, a budget of seconds, its first piece."""

    prefix_tokens: int | None = None
    budget_s: float | None = None
    at_budget: Literal["commit", "escalate"] = "escalate"
    commits_unjudged: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next, and what becomes of the request with it: its `tier`, its `action`, a note, a verdict …

    `on_trial`: the answer that is being made or judged needs a verdict before anybody sees it. `commit_policy` goes
    with BUFFERED calls, `timeout_s` with every call. `checked`: nobody judges it, but a rule compares it with what its
    request declares, and sends it on where it breaks that. `by_prefix`: what is committed passed a verdict on its
    first tokens; `is_short`: what is judged ended before that many; `unjudged`: it goes out without the verdict that
    the policy has for it.
    """

    do: Do
    tier: str
    action: Action
    note: str = ""
    rules: Rules | None = None
    decision: Decision | None = None
    verdict: Verdict | None = None
    rejected: tuple[str, Completion] | None = None
    completion: Completion | None = None
    error: ServeGraphError | None = None
    delivery: Delivery = Delivery.WHOLE
    on_trial: bool = False
    checked: bool = False
    commit_policy: CommitPolicy = CommitPolicy()
    timeout_s: float = math.inf
    serves_rejected: bool = False
    by_prefix: bool = False
    is_short: bool = False
    unjudged: bool = False


@dataclass(slots=True)
class RequestState:
    """What happened to one request so far: written down as it happens, so that a failure has its record too.

    `tried` is a cheap answer that was rejected, whole; `rejected` a cheap tier and its answer that may yet be served
    while the last tier is full;
    `served_on_overload`: it was. `by_prefix`, `unjudged`: a step said so. `step` is the last one taken. `unmetered`:
    an answer came without token counts, so that what the request cost is not known. `signals`: what was asked for of
    an answer and was had. `trace`: its spans. `asked`: the tiers that were called. `made`: what two tiers said, or how
    they failed, before the router was asked: the first call to each of them ends so. `picking`: what came of asking
    both, for the record.
    """

    tier: str = ""
    action: Action = Action.ROUTED
    decision: Decision | None = None
    verdict: Verdict | None = None
    calls: list[Call] = field(default_factory=list)
    overhead: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completion: Completion | None = None
    rejected: tuple[str, Completion] | None = None
    tried: Completion | None = None
    served_on_overload: bool = False
    by_prefix: bool = False
    unjudged: bool = False
    unmetered: bool = False
    rules: Rules | None = None
    step: Step | None = None
    signals: dict[str, float] = field(default_factory=dict)
    trace: RequestTrace = NO_TRACE
    asked: tuple[str, ...] = ()
    made: dict[str, Completion | EngineError] = field(default_factory=dict)
    picking: Mapping[str, Any] | None = None

    @property
    def layer(self) -> str:
        """What decided who answers: the caller (`request`), a layer of the decision or of the verdict, time, overload,
        or what stands in for something that failed (`fallback`).
        """
        if self.action is Action.FORCED:
            return "request"
        if self.action is Action.ENSEMBLE:
            return str(self.action)
        if self.action is Action.FALLBACK:
            return "overload" if self.served_on_overload else "fallback"
        if self.action is not Action.ROUTED:
            return "time" if self.verdict is None else self.verdict.layer
        return "fallback" if self.decision is None else self.decision.layer

    def go(self, tier: str, action: Action, note: str = "") -> None:
        """Name the tier of a request that takes no steps (embeddings)."""
        self.tier, self.action = tier, action
        if note:
            self.notes.append(note)
