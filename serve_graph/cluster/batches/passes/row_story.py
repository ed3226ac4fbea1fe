"""What happened to a row so far, as JSON: the events of its cascade and the lines of its bill.

Between two passes a row is nothing but its request and this. The next pass replays the events through the cascade's
own `advance`, so that every rule is where it is for requests, and goes on from there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from router_models.types import Action, Call, Completion, Decision, IntentMatch, PromptEmbedding, Usage, Verdict
from router_models.types.coverage import Uncovered
from serve_graph.cascade.steps import Answered, CascadeEvent, Decided, Judged, PolicyFailed, TierFailed
from serve_graph.cluster.batches.passes.pass_rows import TierReply
from serve_graph.errors import (
    CertificateVoidError,
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
    TierSetupError,
)
from serve_graph.records.store import line_from_json, line_to_json

ENGINE_ERRORS: Mapping[str, type[EngineError]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (EngineError, EngineRequestError, EngineTimeoutError, SaturatedError, TierSetupError)
    }
)


@dataclass(slots=True)
class PendingCall:
    """A call for a signal: its name, the tier that is asked, the call's body, the reply once it is there.

    A call that the tier cannot take has a reply, an error, and no body.
    """

    name: str
    tier: str
    body: dict[str, Any]
    reply: TierReply | None = None


@dataclass(slots=True)
class PendingStep:
    """The calls that a step waits for: the verdict on a tier's whole `answer`; None: the choice of a tier."""

    answer: TierReply | None
    calls: list[PendingCall]

    @property
    def waits_for(self) -> str | None:
        """The tier that is to be asked next; None: all replies are there."""
        return next((call.tier for call in self.calls if call.reply is None), None)

    def failed(self, tier: str, error: Mapping[str, Any]) -> None:
        """Let an error be the reply to all that a tier was to be asked."""
        for call in self.calls:
            if call.tier == tier and call.reply is None:
                call.reply = TierReply(tier, error, 0.0)

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the engines' own replies: the verdict reads them."""
        calls = [
            {
                "name": call.name,
                "tier": call.tier,
                "body": call.body,
                "reply": call.reply and _reply_to_json(call.reply),
            }
            for call in self.calls
        ]
        return {"answer": self.answer and _reply_to_json(self.answer), "calls": calls}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PendingStep:
        """The inverse of `to_json`."""
        calls = [
            PendingCall(**call | {"reply": call["reply"] and TierReply(**call["reply"])}) for call in data["calls"]
        ]
        answer = data["answer"]
        return cls(answer and TierReply(**answer), calls)


def _reply_to_json(reply: TierReply) -> dict[str, Any]:
    return {"tier": reply.tier, "reply": reply.reply, "seconds": reply.seconds}


@dataclass(slots=True)
class RowStory:
    """Events in their order, without the first (`Started`), what is on the bill so far, and what was noted.

    `signals`: what was asked for of an answer and was had. `pending`: an answer that is not judged yet, or a
    request for which no tier is chosen yet; no event.
    """

    events: list[CascadeEvent] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    overhead: list[Call] = field(default_factory=list)
    unmetered: bool = False
    notes: list[str] = field(default_factory=list)
    signals: dict[str, float] = field(default_factory=dict)
    pending: PendingStep | None = None

    def to_json(self) -> str:
        """As text, without what no later step reads: logprobs, engines' own replies."""
        return json.dumps(
            {
                "events": [_event_to_json(event) for event in self.events],
                "calls": [line_to_json(line) for line in self.calls],
                "overhead": [line_to_json(line) for line in self.overhead],
                "unmetered": self.unmetered,
                "notes": self.notes,
                "signals": self.signals,
                "pending": None if self.pending is None else self.pending.to_json(),
            },
            default=dict,
        )

    @classmethod
    def from_json(cls, text: str) -> RowStory:
        """The inverse of `to_json`; no text is a row to which nothing has happened."""
        if not text:
            return cls()
        data = json.loads(text)
        return cls(
            [_event_from_json(event) for event in data["events"]],
            [line_from_json(line) for line in data["calls"]],
            [line_from_json(line) for line in data["overhead"]],
            data["unmetered"],
            data.get("notes", []),  # a story that was begun before signals were asked for lacks these three
            data.get("signals", {}),
            None if data.get("pending") is None else PendingStep.from_json(data["pending"]),
        )


def _event_to_json(event: CascadeEvent) -> dict[str, Any]:
    match event:
        case Decided(decision):
            return {"decided": asdict(replace(decision, embedding=None)), "embedding": _packed(decision.embedding)}
        case PolicyFailed(error):
            return {"policy_failed": str(error), "void": isinstance(error, CertificateVoidError)}
        case Answered(completion, fault):
            usage = asdict(completion.usage)
            told = {"text": completion.text, "finish_reason": completion.finish_reason, "usage": usage}
            return {"answered": told} | ({} if fault is None else {"fault": fault})
        case TierFailed(error, may_serve):
            told = {"message": str(error), "recordable": error.recordable, "kind": type(error).__name__}
            return {"tier_failed": told, "may_serve_rejected": may_serve}
        case Judged(verdicts):
            return {"judged": [asdict(verdict) for verdict in verdicts]}
    raise TypeError(f"{type(event).__name__} happens to no row")


def _event_from_json(data: Mapping[str, Any]) -> CascadeEvent:
    return next(read for name, read in _READERS.items() if name in data)(data)


def _decided(data: Mapping[str, Any]) -> CascadeEvent:
    given = data["decided"]
    found = given["uncovered"]
    more = {"uncovered": found and Uncovered(**found), "embedding": _unpacked(data["embedding"])}
    more["then"] = tuple((tier, estimate) for tier, estimate in given.get("then", ()))
    if (intent := given.get("intent")) is not None:
        more["intent"] = IntentMatch(**intent)
    return Decided(Decision(**given | more))


def _policy_failed(data: Mapping[str, Any]) -> CascadeEvent:
    kind = CertificateVoidError if data["void"] else PolicyUnavailableError
    return PolicyFailed(kind(data["policy_failed"]))


def _answered(data: Mapping[str, Any]) -> CascadeEvent:
    given = data["answered"]
    return Answered(Completion(**given | {"usage": Usage(**given["usage"])}), data.get("fault"))


def _tier_failed(data: Mapping[str, Any]) -> CascadeEvent:
    told = data["tier_failed"]
    error = ENGINE_ERRORS.get(told["kind"], EngineError)(told["message"], recordable=told["recordable"])
    return TierFailed(error, data["may_serve_rejected"])


def _judged(data: Mapping[str, Any]) -> CascadeEvent:
    return Judged([Verdict(**verdict | {"action": Action(verdict["action"])}) for verdict in data["judged"]])


_READERS: Mapping[str, Callable[[Mapping[str, Any]], CascadeEvent]] = MappingProxyType(
    {
        "decided": _decided,
        "policy_failed": _policy_failed,
        "answered": _answered,
        "tier_failed": _tier_failed,
        "judged": _judged,
    }
)


def _packed(embedding: PromptEmbedding | None) -> dict[str, str] | None:
    if embedding is None:
        return None
    vector = np.asarray(embedding.vector, dtype="<f4").tobytes()
    return {
        "text": embedding.text_digest.hex(),
        "encoder": embedding.encoder,
        "vector": base64.b64encode(vector).decode("ascii"),
    }


def _unpacked(data: Mapping[str, str] | None) -> PromptEmbedding | None:
    if data is None:
        return None
    vector = np.frombuffer(base64.b64decode(data["vector"]), dtype="<f4").astype(np.float32)
    return PromptEmbedding(bytes.fromhex(data["text"]), data["encoder"], vector)
