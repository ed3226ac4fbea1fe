"""Asking for the signals that an answer is judged by: further calls once it is there, all at once, each on the bill.

What a verifier reads it is asked with, or not at all: where a call fails, is late or does not say, its signal is
missing, the version escalates the answer, and nothing is promised of that request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router_models.estimators.asked_signals import asked_signal, may_be_asked
from router_models.types import Attempt, Completion, Query
from serve_graph.cascade.billing import answered, charged_attempts, unanswered
from serve_graph.cascade.context import AskedTerms, CascadeContext
from serve_graph.cascade.steps import RequestState
from serve_graph.errors import EngineError

NOT_YET = Completion("")
"""The answer to a request that nobody has answered: what depends on the request alone reads none."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """One call for a signal: the signal's name, the tier that is asked, and what."""

    name: str
    tier: str
    query: Query


@dataclass(frozen=True, slots=True)
class AskedReply:
    """How a call for a signal ended, and the seconds that it took."""

    found: Completion | EngineError
    seconds: float


def asked_calls(
    terms: AskedTerms, query: Query, completion: Completion, tier: str, names: Sequence[str]
) -> list[AskedCall]:
    """The calls for the named signals of a tier's answer, none of which depends on another's reply; [] for none."""
    return _calls_of(terms, query, completion, tier, names) if names and may_be_asked(completion) else []


def first_asked(terms: AskedTerms, query: Query) -> list[AskedCall]:
    """The calls for what the cheapest tier is asked before one is chosen; [] for a version that asks nothing then."""
    return _calls_of(terms, query, NOT_YET, terms.cheapest, terms.first)


def _calls_of(
    terms: AskedTerms, query: Query, completion: Completion, tier: str, names: Sequence[str]
) -> list[AskedCall]:
    return [
        AskedCall(name, row.who(tier, terms.last), call)
        for name, row in ((name, asked_signal(name)) for name in names)
        for call in row.calls(query, completion, terms.settings)
    ]


def told_signals(
    context: CascadeContext,
    completion: Completion,
    names: Sequence[str],
    calls: Sequence[AskedCall],
    replies: Sequence[AskedReply],
    state: RequestState,
) -> Completion:
    """The answer with those of the named signals that replies from elsewhere tell: as `with_signals`, without a call.

    `calls` is what `asked_calls` gave, `replies` are theirs in the same order.
    """
    made = list(zip(calls, replies, strict=True))
    for call, reply in made:
        if isinstance(reply.found, EngineError):
            _bill_unanswered(context, call, reply.found, reply.seconds, state)
        else:
            _bill(context, call, reply.found, reply.seconds, state)
    values: dict[str, float] = {}
    for name in names:
        own = [(call, reply.found) for call, reply in made if call.name == name]
        failed = next(((call, found) for call, found in own if isinstance(found, EngineError)), None)
        if failed is not None:
            state.notes.append(_why_failed(*failed))
        elif own:
            found = [one for _, one in own if isinstance(one, Completion)]
            values[name] = _read(context, own[0][0], completion, found, state)
    return _with(completion, values, state)


def told_first_signals(
    context: CascadeContext,
    query: Query,
    calls: Sequence[AskedCall],
    replies: Sequence[AskedReply],
    state: RequestState,
) -> Query:
    """The query with what replies from elsewhere tell before a tier is chosen: `with_first_signals` without a call.

    `calls` is what `first_asked` gave, `replies` are theirs in the same order.
    """
    told = told_signals(context, NOT_YET, context.asked.first, calls, replies, state)
    return replace(query, signals={**query.signals, **told.signals})


async def with_signals(
    context: CascadeContext,
    query: Query,
    completion: Completion,
    tier: str,
    names: Sequence[str],
    state: RequestState,
    reserve_s: float = 0.0,
) -> Completion:
    """The answer with those of the named signals that could be had.

    Parameters
    ----------
    context
        Its `asked` says whom to ask and for how long.
    query
        What was asked first.
    completion
        The answer, whole.
    tier
        Who gave it.
    names
        The signals.
    state
        Takes the bill of every call, a note of every signal that was not had, and the others.
    reserve_s
        Seconds of the request's deadline that these calls leave to the last tier.
    """
    found = {name: asked_calls(context.asked, query, completion, tier, [name]) for name in names}
    by_name = {name: calls for name, calls in found.items() if calls}
    return (
        _with(completion, await _values(context, completion, by_name, state, reserve_s), state)
        if by_name
        else completion
    )


async def with_first_signals(context: CascadeContext, query: Query, state: RequestState) -> Query:
    """The query with what the cheapest tier says before it answers, as far as it could be had.

    Whatever a caller sent as a label of that name does not count: these are the query's signals, not its metadata.
    """
    terms = context.asked
    if not terms.first:
        return query
    reserve_s = 0.0 if state.rules is None else state.rules.reserve_s
    by_name = {name: _calls_of(terms, query, NOT_YET, terms.cheapest, [name]) for name in terms.first}
    told = _with(NOT_YET, await _values(context, NOT_YET, by_name, state, reserve_s), state)
    return replace(query, signals={**query.signals, **told.signals})


async def _values(
    context: CascadeContext,
    completion: Completion,
    by_name: Mapping[str, Sequence[AskedCall]],
    state: RequestState,
    reserve_s: float,
) -> dict[str, float]:
    """What the calls of each signal say, all made at once; NaN where a signal was not had."""
    asking = [
        asyncio.ensure_future(_signal(context, completion, calls, state, reserve_s)) for calls in by_name.values()
    ]
    try:
        values = await asyncio.gather(*asking)
    finally:  # where one breaks off (the caller left) the others end, and are on the bill, before the request goes on
        for one in asking:
            one.cancel()
        await asyncio.wait(asking)
    return dict(zip(by_name, values, strict=True))


def _with(completion: Completion, values: Mapping[str, float], state: RequestState) -> Completion:
    found = {name: value for name, value in values.items() if math.isfinite(value)}
    state.signals |= found
    return replace(completion, signals={**completion.signals, **found})


async def _signal(
    context: CascadeContext,
    completion: Completion,
    asked: Sequence[AskedCall],
    state: RequestState,
    reserve_s: float,
) -> float:
    """One signal; NaN where it was not had, with a note that says why."""
    first = asked[0]
    left_s = min(context.asked.timeout_s, context.deadline.left_s - reserve_s)
    if left_s <= 0:
        state.notes.append(f"no {first.name}: no time is left to ask {first.tier}")
        return math.nan
    calls = [asyncio.ensure_future(make_call(context, call, state, left_s)) for call in asked]
    try:
        return _read(context, first, completion, await asyncio.gather(*calls), state)
    except EngineError as error:
        state.notes.append(_why_failed(first, error))
        return math.nan
    finally:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


def _read(
    context: CascadeContext,
    call: AskedCall,
    completion: Completion,
    replies: Sequence[Completion],
    state: RequestState,
) -> float:
    """What the replies to a signal's calls say, with a note where they do not."""
    value = asked_signal(call.name).read(completion, replies, context.asked.settings)
    if not math.isfinite(value):
        state.notes.append(f"no {call.name}: the reply of {call.tier} does not say")
    return value


def _why_failed(call: AskedCall, error: EngineError) -> str:
    return f"no {call.name}: {call.tier} failed: {error.recordable}"


def _bill(context: CascadeContext, call: AskedCall, reply: Completion, seconds: float, state: RequestState) -> None:
    line = answered(context.prices, call.tier, reply, seconds)
    state.overhead.append(replace(line, what=call.name))
    state.unmetered |= not line.metered
    _bill_attempts(context, call, reply.attempts, state)


def _bill_unanswered(
    context: CascadeContext, call: AskedCall, error: BaseException, seconds: float, state: RequestState
) -> None:
    state.overhead.append(unanswered(context.prices, call.tier, seconds, error))
    if isinstance(error, EngineError):
        _bill_attempts(context, call, error.attempts, state)


def _bill_attempts(context: CascadeContext, call: AskedCall, attempts: Sequence[Attempt], state: RequestState) -> None:
    """What a call for a signal was charged for without an answer, under the signal's name."""
    charged = charged_attempts(context.prices, call.tier, attempts)
    state.overhead += [replace(line, what=call.name) for line in charged]


async def make_call(context: CascadeContext, asked: AskedCall, state: RequestState, left_s: float) -> Completion:
    """One call for a signal, on the bill however it ends: under the signal's name, or as failed or cancelled."""
    started, tier = time.perf_counter(), asked.tier
    try:
        with state.trace.tier(tier, asked.name, asked.query) as span:
            async with asyncio.timeout(None if math.isinf(left_s) else left_s):
                reply = await context.asked.engines[tier].generate(asked.query, left_s)
            span.answered(reply)
    except BaseException as error:
        _bill_unanswered(context, asked, error, time.perf_counter() - started, state)
        if isinstance(error, TimeoutError):
            raise EngineError(f"tier {tier!r} took over {left_s:.3g} s", recordable=f"over {left_s:.3g} s") from None
        raise
    _bill(context, asked, reply, time.perf_counter() - started, state)
    return reply
