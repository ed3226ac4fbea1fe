"""What a request may cost at most, before any tier is called; and what its key permits it to ask for. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from router_models.estimators.asked_signals import asked_signal
from router_models.types import Query, Usage
from serve_graph.cascade.billing import Prices
from serve_graph.cascade.context import AskedTerms
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError, RequestError
from serve_graph.gateway.context_length import Room, prompt_tokens
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.request import Request

UNKNOWN_ROOM = Room(None, 256)
JUDGE_PROMPT_TOKENS = 600
"""What a judge's own question is taken for at least beside what it reads; the one of this release has fewer."""


def permitted(query: Query, key: KeyConfig, resolved: ResolvedOptions, rooms: Mapping[str, Room]) -> Query:
    """Return the query as the key permits it: with `max_tokens` where the tiers' defaults exceed the key's.

    Raises RequestError for more tokens or choices than it permits, AccessError for a higher quality floor.
    """
    asked, choices = query.parameters.get("max_tokens"), query.parameters.get("n") or 1
    if key.max_tokens is not None and asked is not None and asked > key.max_tokens:
        message = f"max_tokens is {asked}, and key {key.name!r} may ask for {key.max_tokens}"
        raise RequestError(message, "max_tokens", "invalid_value")
    if key.max_choices is not None and choices > key.max_choices:
        message = f"n is {choices}, and key {key.name!r} may ask for {key.max_choices}"
        raise RequestError(message, "n", "invalid_value")
    floor, most = resolved.quality_floor or 0.0, key.max_quality_floor
    if most is not None and floor > max(most, key.quality_floor or 0.0):
        raise AccessError(f"a quality floor of {floor:g} is asked for, and key {key.name!r} may ask for {most:g}")
    defaults = max((room.default_max_tokens for room in rooms.values()), default=0)
    if key.max_tokens is not None and asked is None and defaults > key.max_tokens:
        return replace(query, parameters={**query.parameters, "max_tokens": key.max_tokens})
    return query


def worst_request(
    request: Request,
    tiers: Collection[str],
    prices: Prices,
    rooms: Mapping[str, Room],
    *,
    answers: bool,
    also: Mapping[str, Decimal],
) -> dict[str, Decimal]:
    """Return the most that a request may cost, in dollars, by the tier or model called: answers, and signals for them.

    `answers`: whether it is answered at all; `also`: what two answers and picking one cost beside what it costs where
    nothing is picked.
    """
    found, asked = worst_case(request.query, tiers, prices, rooms, answers=answers), request.context.asked
    if forced := request.resolved.signals:
        asked = replace(asked, by_tier=dict.fromkeys(tiers, forced))
    if request.forced is not None:
        asked = replace(asked, first=())
    more = [also]
    if (asked.by_tier or asked.first) and answers:
        more.append(worst_signals(request.query, asked, tiers, prices, rooms))
    for each in more:
        for tier, usd in each.items():
            found[tier] = found.get(tier, Decimal(0)) + usd
    return found


def worst_signals(
    query: Query, asked: AskedTerms, tiers: Collection[str], prices: Prices, rooms: Mapping[str, Room]
) -> dict[str, Decimal]:
    """Return the most that asking for signals of these tiers' answers may cost, in dollars, by the tier that is asked.

    Of every choice, as `worst_case` counts prompts and answers.
    """
    found: dict[str, Decimal] = {}
    sent_once = np.array([float(prompt_tokens(query))])
    for name in asked.first:
        prompt, answer = asked_signal(name).tokens(sent_once, np.zeros(1), asked.settings)
        usage = Usage(math.ceil(float(prompt[0])), math.ceil(float(answer[0])))
        usd = prices[asked.cheapest].at(datetime.now(UTC)).cost(usage)
        found[asked.cheapest] = found.get(asked.cheapest, Decimal(0)) + usd
    now, choices = datetime.now(UTC), int(query.parameters.get("n") or 1)
    for tier in tiers:
        names = asked.by_tier.get(tier, ())
        if not names:
            continue
        room = rooms.get(tier, UNKNOWN_ROOM)
        longest = int(query.parameters.get("max_tokens") or room.default_max_tokens)
        sent = np.array([float(prompt_tokens(query))])
        for name in names:
            row = asked_signal(name)
            who = row.who(tier, asked.last)
            prompt, answer = row.tokens(sent, np.array([float(longest)]), asked.settings)
            usage = Usage(math.ceil(float(prompt[0])), math.ceil(float(answer[0])))
            found[who] = found.get(who, Decimal(0)) + choices * prices[who].at(now).cost(usage)
    return found


def worst_ensemble(
    query: Query,
    tiers: tuple[str, str],
    judge: str,
    judge_tokens: int | None,
    prices: Prices,
    rooms: Mapping[str, Room],
    judge_prompt: str | None = None,
) -> dict[str, Decimal]:
    """Return the most that two tiers' answers and picking one may cost, in dollars, by the tier or model called.

    `judge` reads both answers in two orders, and writes `judge_tokens` each time; None: it is a verifier model, which
    reads each answer once. `judge_prompt`: what it is asked; None: the question of this release.
    """
    found = worst_case(query, tiers, prices, rooms)
    sent, asked = prompt_tokens(query), query.parameters.get("max_tokens")
    longest = sum(int(asked or rooms.get(tier, UNKNOWN_ROOM).default_max_tokens) for tier in tiers)
    usage = Usage(2 * sent + longest)
    if judge_tokens is not None:
        own = 0 if judge_prompt is None else prompt_tokens(Query.from_prompt(judge_prompt))
        usage = Usage(2 * (sent + longest + max(own, JUDGE_PROMPT_TOKENS)), 2 * judge_tokens)
    found[judge] = found.get(judge, Decimal(0)) + prices[judge].at(datetime.now(UTC)).cost(usage)
    return found


def worst_case(
    query: Query, tiers: Collection[str], prices: Prices, rooms: Mapping[str, Room], *, answers: bool = True
) -> dict[str, Decimal]:
    """Return the most that one call to each of these tiers may cost, in dollars, by tier.

    The prompt is counted on the high side, answers as long as they may be, each choice by itself. Time that is paid by
    the second is not known beforehand, and not counted.
    """
    tokens, now = prompt_tokens(query), datetime.now(UTC)
    asked, choices = query.parameters.get("max_tokens"), query.parameters.get("n") or 1
    found = {}
    for tier in tiers:
        room = rooms.get(tier, UNKNOWN_ROOM)
        longest = (room.default_max_tokens if asked is None else int(asked)) if answers else 0
        if room.context_tokens is not None:
            longest = min(longest, room.context_tokens)
        found[tier] = prices[tier].at(now).cost(Usage(tokens, longest * choices))
    return found
