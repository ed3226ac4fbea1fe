"""What is recorded of a served request: its calls with their prices, and the decision record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from router_models.types.exchange import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """Hold one line of a request's bill: an engine call, or the time a router or verifier took, and its price.

    Parameters
    ----------
    tier : str
        The tier that was called; `router` or `verifier` for their time.
    usage : Usage
        Tokens of the call.
    latency_s : float
        Seconds it took.
    cost_usd : Decimal
        Its price in US dollars.
    what : str
        What it was for: `answer`, `escalation`, `fallback`, `attempt` (an answer that was not returned), `routing`,
        `judging`, or, where no answer came of it, `cancelled` or `failed`.
    parts : mapping of str to Decimal
        Dollars by what they were paid for; they sum to `cost_usd`.
    metered : bool
        False where the engine never reported token counts, so that tokens are not in the price.
    """

    tier: str
    usage: Usage
    latency_s: float
    cost_usd: Decimal
    what: str = "answer"
    parts: Mapping[str, Decimal] = field(default_factory=dict)
    metered: bool = True


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """Hold one row per request: what was decided, what was called, what it cost.

    The text of the prompt is kept only where the configuration says so.

    Parameters
    ----------
    id : str
        The request's identifier.
    created_at : str
        ISO 8601, with time zone.
    requested_model : str
        The `model` field of the request.
    tier, outcome : str
        The tier that answered and the `Action` that the request ended with.
    version : str
        The router version that decided.
    status : int
        The HTTP status of the reply.
    stream : bool
        Whether the reply was streamed.
    prompt_sha256 : str
        Over the routed text.
    prompt_chars : int
        Length of the routed text, in characters.
    route_reason : str
        Why the first tier was chosen.
    p_cheap_ok, distance : float, optional
        As in `Decision`.
    verdict_reason : str, optional
        Why the answer was accepted or not.
    p_answer_ok : float, optional
        The verifier's probability that the answer is acceptable.
    calls : tuple of Call
        The engine calls, in order.
    cost_usd : Decimal
        The sum over `calls` and `overhead`, in US dollars.
    latency_s : float
        Seconds until the reply was complete.
    arm : str
        The policy version that acted.
    propensity : float
        The probability with which `arm` was chosen, in (0, 1].
    error : str, optional
        The error code where the request failed.
    metadata : mapping of str to str
        Features of the request.
    overhead : tuple of Call
        The other lines of the bill: routing and judging.
    key : str, optional
        The name of the access key.
    session : str, optional
        A hash of the conversation's identifier.
    evidence : mapping
        What an explanation needs besides: thresholds, certificate, signals, request options.
    prompt : str, optional
        The text of the prompt, where it is kept.
    """

    id: str
    created_at: str
    requested_model: str
    tier: str
    outcome: str
    version: str
    status: int
    stream: bool
    prompt_sha256: str
    prompt_chars: int
    route_reason: str
    p_cheap_ok: float | None
    distance: float | None
    verdict_reason: str | None
    p_answer_ok: float | None
    calls: tuple[Call, ...]
    cost_usd: Decimal
    latency_s: float
    arm: str = "stable"
    propensity: float = 1.0
    error: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    overhead: tuple[Call, ...] = ()
    key: str | None = None
    session: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def bill(self) -> tuple[Call, ...]:
        """Return every line that was paid for: calls, then overhead."""
        return (*self.calls, *self.overhead)
