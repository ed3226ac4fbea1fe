"""What asking for signals costs, foreseen from the tokens of answers, and where they were not had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.asked_signals import asked_signal
from router_models.estimators.questions.terms import AskedSettings, AskedTier
from router_models.pricing.call_costs import call_costs
from router_models.pricing.prices import Price
from router_models.types import Answers, BoolArray, FloatArray

GENERATED = 20.0
"""Prompt tokens that take an engine about as long as generating one: a prompt is read in one pass."""


def not_had(answers: Answers, asked: Sequence[str]) -> BoolArray:
    """Return where an asked signal was not had, (n,): the served version escalates it."""
    missing = np.zeros(len(answers), dtype=np.bool_)
    for name in asked:
        missing |= ~np.isfinite(answers.signals[name])
    return missing


def signal_costs(
    table: OutcomeTable,
    tier: str,
    last: str,
    asked: Sequence[str],
    prices: Mapping[str, Price],
    settings: AskedSettings,
) -> FloatArray:
    """Return dollars per prompt of asking for signals of a tier's answers, foreseen from recorded token counts, (n,).

    Every call is counted in full: what a prompt cache would spare is not. Of a tier that is paid for by the second a
    call takes its share of an answer's seconds, a generated token counting for `GENERATED` of the prompt's. A verifier
    model is taken to count tokens, and to read them, as the tier does whose answers it reads.
    """
    usd = np.zeros(len(table))
    for name in asked:
        row = asked_signal(name)
        who, is_model = row.who(tier, last), row.asks is AskedTier.VERIFIER
        known = tier if is_model else who
        price = settings.verifiers[who].price if is_model else prices[who]
        prompt, answer = row.tokens(table.prompt_tokens[known], table.completion_tokens[tier], settings)
        call = replace(
            table,
            prompt_tokens={who: np.ceil(prompt)},
            completion_tokens={who: np.ceil(answer)},
            latency_s={who: _seconds(table, known, prompt + GENERATED * answer)},
        )
        usd = usd + call_costs(call, who, price)
    return usd


def first_costs(
    table: OutcomeTable, tier: str, asked: Sequence[str], prices: Mapping[str, Price], settings: AskedSettings
) -> FloatArray:
    """Return dollars per prompt of what the cheapest tier is asked before it answers, whoever answers then, (n,)."""
    return signal_costs(table, tier, tier, asked, prices, settings)


def _seconds(table: OutcomeTable, tier: str, weight: FloatArray) -> FloatArray:
    known = table.latency_s.get(tier)
    whole = table.prompt_tokens[tier] + GENERATED * table.completion_tokens[tier]
    return np.full(len(table), np.nan) if known is None else known * weight / np.maximum(whole, 1.0)
