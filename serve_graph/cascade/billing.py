"""Lines of a request's bill: calls that answered, calls that did not, the time of router and verifier.

The price in force when a call began is what it is charged. Tokens are the engine's own count; where a call ended
before the engine gave one, its line is `metered=False` and holds the engine's time, and of a stream the tokens that
the engine had named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from router_models.pricing.prices import Price, PriceList, Tariff, rounded_usd
from router_models.types import Action, Attempt, Call, Completion, Usage
from serve_graph.errors import EngineTimeoutError
from serve_graph.protocol.responses import usage_of

Prices = Mapping[str, Price | PriceList]
# What a hosted API calls the tariff it applied, in the reply's `service_tier`; anything else is the standard one.
TARIFFS = MappingProxyType({"batch": Tariff.BATCH, "flex": Tariff.BATCH, "priority": Tariff.PRIORITY})


def answered(prices: Prices, tier: str, completion: Completion, seconds: float, named: int = 0) -> Call:
    """The line of a call that gave an answer, or part of one, `named` tokens of it where nothing else is known."""
    tariff = TARIFFS.get(str(completion.payload.get("service_tier")), Tariff.STANDARD)
    uncounted = completion.usage == Usage()
    says = bool(
        completion.text or completion.tool_calls or any(map(_says_more, completion.payload.get("choices") or ()))
    )
    metered = completion.usage.prompt_tokens > 0 and (completion.usage.completion_tokens > 0 or not says)
    usage = Usage(completion_tokens=named) if uncounted else completion.usage
    parts = _price(prices, tier, seconds).parts(usage, seconds, tariff=tariff)
    return Call(tier, usage, seconds, sum(parts.values(), Decimal(0)), "answer", parts, metered)


def _says_more(choice: Mapping[str, Any]) -> bool:
    """Whether a choice holds tokens beside text: a refusal, reasoning, or another choice's text and calls."""
    message = choice.get("message") or {}
    return any(message.get(name) for name in ("content", "tool_calls", "refusal", "reasoning", "reasoning_content"))


def unanswered(prices: Prices, tier: str, seconds: float, error: BaseException) -> Call:
    """The line of a call that broke off: `failed` where the tier did, `cancelled` where nobody waited any longer.

    Nobody waits when the caller has left, nor after a time-out, whosever it is: what such a call cost is not known,
    and budgets count the most that it may have.
    """
    parts = _price(prices, tier, seconds).parts(Usage(), seconds)
    waited = isinstance(error, Exception) and not isinstance(error, TimeoutError | EngineTimeoutError)
    what = "failed" if waited else "cancelled"
    return Call(tier, Usage(), seconds, total(parts.values()), what, parts, metered=False)


def charged_attempts(prices: Prices, tier: str, attempts: Sequence[Attempt]) -> list[Call]:
    """The lines of a tier's calls that gave no answer and were charged all the same."""
    return [
        answered(
            prices,
            tier,
            Completion("", usage=usage_of(one.usage), payload={"service_tier": one.usage.get("service_tier")}),
            one.latency_s,
        )
        for one in attempts
        if one.usage
    ]


def timed(who: str, what: str, seconds: float, usd_per_s: Decimal) -> Call:
    """The line of the time that router or verifier took, at `usd_per_s`."""
    usd = rounded_usd(usd_per_s * Decimal(f"{seconds:.6f}")) if usd_per_s else Decimal(0)
    return Call(who, Usage(), seconds, usd, what, {"time": usd} if usd else {})


def purposes(calls: Sequence[Call], tier: str, action: Action) -> tuple[Call, ...]:
    """Calls with what each was for: the last one of the tier that answered is the answer, others were attempts.

    A stream that a time-out cut off before it was shown stays `cancelled`.
    """
    ways = {Action.ESCALATED: "escalation", Action.FALLBACK: "fallback"}
    shown = max((i for i, call in enumerate(calls) if call.tier == tier), default=-1)
    others = ("cancelled" if call.what == "cancelled" else "attempt" for call in calls)
    words = [ways.get(action, "answer") if i == shown else other for i, other in enumerate(others)]
    found = zip(calls, words, strict=True)
    return tuple(call if call.what == word else replace(call, what=word) for call, word in found)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Amounts added up; exact, so their order is of no consequence."""
    return sum(amounts, Decimal(0))


def _price(prices: Prices, tier: str, seconds: float) -> Price:
    return prices[tier].at(datetime.now(UTC) - timedelta(seconds=seconds))
