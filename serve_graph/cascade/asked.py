"""Asking for the signals that an answer is judged by: further calls once it is there, all at once, each on the bill.

What a verifier reads it is asked with, or not at all: where a call fails, is late or does not say, its signal is
missing, the version escalates the answer, and nothing is promised of that request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from router_models.estimators.asked_signals import ASKED_SIGNALS, AskedTier, may_be_asked
from router_models.types import Completion, Query
from serve_graph.cascade.billing import answered, unanswered
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState
from serve_graph.errors import EngineError


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
    if not names or not may_be_asked(completion):
        return completion
    asking = [
        asyncio.ensure_future(_signal(context, query, completion, tier, name, state, reserve_s)) for name in names
    ]
    try:
        values = await asyncio.gather(*asking)
    finally:  # where one breaks off (the caller left) the others end, and are on the bill, before the request goes on
        for one in asking:
            one.cancel()
        await asyncio.wait(asking)
    found = {name: value for name, value in zip(names, values, strict=True) if math.isfinite(value)}
    state.signals |= found
    return replace(completion, signals={**completion.signals, **found})


async def _signal(
    context: CascadeContext,
    query: Query,
    completion: Completion,
    tier: str,
    name: str,
    state: RequestState,
    reserve_s: float,
) -> float:
    """One signal; NaN where it was not had, with a note that says why."""
    row, terms = ASKED_SIGNALS[name], context.asked
    who = terms.last if row.asks is AskedTier.LAST else tier
    left_s = min(terms.timeout_s, context.deadline.left_s - reserve_s)
    if left_s <= 0:
        state.notes.append(f"no {name}: no time is left to ask {who}")
        return math.nan
    calls = [
        asyncio.ensure_future(_call(context, call, who, name, state, left_s))
        for call in row.calls(query, completion, terms.settings)
    ]
    try:
        value = row.read(completion, await asyncio.gather(*calls), terms.settings)
    except EngineError as error:
        state.notes.append(f"no {name}: {who} failed: {error.recordable}")
        return math.nan
    finally:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    if not math.isfinite(value):
        state.notes.append(f"no {name}: the reply of {who} does not say")
    return value


async def _call(
    context: CascadeContext, call: Query, tier: str, name: str, state: RequestState, left_s: float
) -> Completion:
    """One call for a signal, on the bill however it ends: under the signal's name, or as failed or cancelled."""
    started = time.perf_counter()
    try:
        with state.trace.tier(tier, name, call) as span:
            async with asyncio.timeout(left_s):
                reply = await context.asked.engines[tier].generate(call, left_s)
            span.answered(reply)
    except BaseException as error:
        line = unanswered(context.prices, tier, time.perf_counter() - started, error)
        state.overhead.append(line)
        if isinstance(error, TimeoutError):
            raise EngineError(f"tier {tier!r} took over {left_s:.3g} s", recordable=f"over {left_s:.3g} s") from None
        raise
    line = answered(context.prices, tier, reply, time.perf_counter() - started)
    state.overhead.append(replace(line, what=name))
    state.unmetered |= not line.metered
    return reply
