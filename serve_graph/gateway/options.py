"""What one request asks of the policy: read from its `serve_graph` object, its metadata, headers and key.

The object wins over metadata (`serve_graph.quality_floor` and the like, as strings). Of two quality floors, the
request's and the key's, the higher one counts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from router_models.estimators.asked_signals import asked_among
from router_models.types import Query
from router_models.types.exchange import verifier_of
from serve_graph.access.caller import Caller
from serve_graph.errors import AccessError, RequestError
from serve_graph.protocol.requests import METADATA_PREFIX, RequestOptions

NUMBERS = ("quality_floor", "cost_quality", "latency_budget_s", "deadline_s")


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """A request's options, all optional. `forced` is the tier's name where the caller chooses; `session` is a hash;
    `fixed` are the labels of its key. `cost_quality`: the share of requests that go to the last tier, instead of what
    is certified. `signals`: those to be asked for of the answer. `ensemble`: whether two tiers are to answer; None:
    as it is drawn.
    """

    forced: str | None = None
    quality_floor: float | None = None
    latency_budget_s: float | None = None
    deadline_s: float | None = None
    task: str | None = None
    user_tier: str | None = None
    forbids_abstaining: bool = False
    session: str | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    cost_quality: float | None = None
    signals: tuple[str, ...] = ()
    ensemble: bool | None = None

    def labels(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """A query's metadata with the task and user tier that were asked for, and with what the key fixes."""
        given = {"task": self.task, "user_tier": self.user_tier}
        kept = {name: value for name, value in metadata.items() if not name.startswith(METADATA_PREFIX)}
        return kept | {name: value for name, value in given.items() if value is not None} | dict(self.fixed)

    def as_recorded(self) -> dict[str, Any]:
        """What was asked for, for the record."""
        resolved: dict[str, Any] = {name: getattr(self, name) for name in (*NUMBERS, "task", "user_tier", "forced")}
        return {k: v for k, v in resolved.items() if v or (k in NUMBERS and v is not None)} | (
            ({"abstain": "forbid"} if self.forbids_abstaining else {})
            | ({} if self.ensemble is None else {"ensemble": self.ensemble})
        )


def resolve_options(
    options: RequestOptions | None, metadata: Mapping[str, str], caller: Caller, model: str | None, top: str
) -> ResolvedOptions:
    """Put a request's options together; `model` is the tier that was named instead of `auto`, `top` the last tier.

    Raises RequestError for values that are none, or two different tiers; AccessError where the key may not choose a
    tier, or demands a quality that the chosen tier does not promise.
    """
    requested = _merged(options, metadata)
    forced = chosen_tier(caller, model)
    floors = [requested.quality_floor, None if caller.key is None else caller.key.quality_floor]
    if forced not in (None, top) and floors[1] is not None:
        raise AccessError(f"this key is promised a quality of {floors[1]:g}, which {forced!r} by itself is not")
    if requested.cost_quality is not None:
        _check_share(forced, floors, caller)
    if requested.ensemble:
        _check_ensemble(caller)
    if requested.stream == "route" and any(floors):
        raise RequestError("stream: route shows unjudged answers: it has no quality_floor", "serve_graph")
    session = caller.session or requested.session
    return ResolvedOptions(
        forced,
        max((floor for floor in floors if floor is not None), default=None),
        requested.latency_budget_s,
        requested.deadline_s,
        requested.task,
        requested.user_tier,
        requested.abstain == "forbid",
        None if not session else hashlib.sha256(f"{caller.name}\0{session}".encode()).hexdigest()[:32],
        {} if caller.key is None else caller.key.labels,
        requested.cost_quality,
        asked_among(requested.signals) if requested.signals else (),
        requested.ensemble,
    )


def _check_ensemble(caller: Caller) -> None:
    """Raise AccessError for a key that may not have the last tier asked as it likes."""
    caller.require("force", "asking both tiers")
    if caller.key is not None and caller.key.max_quality_floor is not None:
        name = caller.key.name
        raise AccessError(f"key {name!r} is limited in what quality it may ask for: it has no ensemble")


def _check_share(forced: str | None, floors: Sequence[float | None], caller: Caller) -> None:
    """Raise RequestError or AccessError for a share that the rest of the request, or its key, speaks against."""
    if any(floor is not None for floor in floors):
        raise RequestError("cost_quality is a share, not a promise: it has no quality_floor", "serve_graph")
    if forced is not None:
        raise RequestError(f"cost_quality shares requests among tiers, and {forced!r} was asked for", "serve_graph")
    if caller.key is not None and caller.key.max_quality_floor is not None:
        name = caller.key.name
        raise AccessError(f"key {name!r} is limited in what quality it may ask for: it has no cost_quality")


def check_models(signals: Sequence[str], models: Collection[str]) -> None:
    """Raise RequestError for the score of a verifier model that the graph does not run."""
    for name in signals:
        if (model := verifier_of(name)) is not None and model not in models:
            known = ", ".join(models) or "none"
            message = f"serve_graph.signals: there is no verifier model {model!r}; known: {known}"
            raise RequestError(message, "serve_graph", "invalid_value")


def chosen_tier(caller: Caller, model: str | None) -> str | None:
    """The tier that is named by model or by header, None where none is.

    Raises RequestError where they name two, AccessError where the key may not choose.
    """
    header = None if caller.tier in (None, "", "auto") else caller.tier
    if model and header and model != header:
        message = f"the model is {model!r}, the header x-serve-graph-tier says {header!r}: name one tier"
        raise RequestError(message, "model", "invalid_value")
    chosen = model or header
    if chosen is not None:
        caller.require("force", "choosing a tier")
    return chosen


def _merged(options: RequestOptions | None, metadata: Mapping[str, str]) -> RequestOptions:
    named = {
        name.removeprefix(METADATA_PREFIX): value
        for name, value in metadata.items()
        if name.startswith(METADATA_PREFIX)
    }
    if not named:
        return options or RequestOptions()
    try:
        values = {name: float(value) if name in NUMBERS else value for name, value in named.items()}
        if "ensemble" in named:
            values["ensemble"] = {"true": True, "false": False}[named["ensemble"]]
        given = {} if options is None else options.model_dump(exclude_none=True)
        if not all(math.isfinite(v) for v in values.values() if isinstance(v, float)):
            raise ValueError("not finite")
        return RequestOptions.model_validate(values | given)
    except (KeyError, ValueError, ValidationError):
        message = (
            f"metadata {', '.join(METADATA_PREFIX + name for name in named)}: not what the serve_graph object takes"
        )
        raise RequestError(message, "metadata", "invalid_value") from None


NOT_PLAIN = frozenset(
    {"tools", "functions", "response_format", "reasoning_effort", "reasoning", "thinking", "modalities", "audio"}
)
"""The parameters that may need more of a tier than text."""
PLAIN_FIELDS = frozenset({"role", "content", "name"})


def is_plain_text(query: Query) -> bool:
    """Whether a request sends and wants nothing but text, as most do: what it needs is not read any further then."""
    if not NOT_PLAIN.isdisjoint(query.parameters):
        return False
    messages = query.parameters.get("messages")
    if messages is None:
        return not any(";base64," in message.content for message in query.messages)
    return all(
        PLAIN_FIELDS.issuperset(message)
        and isinstance(content := message.get("content"), str)
        and ";base64," not in content
        and message.get("role") not in ("tool", "function")
        for message in messages
    )
