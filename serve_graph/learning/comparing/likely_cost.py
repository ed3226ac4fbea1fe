"""What a comparison is likely to cost, by the request alone: held before anything of it is begun."""

from __future__ import annotations

from decimal import Decimal

from router_models.types import Message, Query
from serve_graph.cascade.billing import total
from serve_graph.config.judge import JudgeConfig
from serve_graph.learning.judging.judge_calls import JudgeTiers
from serve_graph.learning.judging.judge_prompts import conversation_text

ANSWER_CHARS = 2_000
"""Characters that each of two answers is taken for where a judge's prompt is counted beforehand."""


def likely_usd(query: Query, tiers: JudgeTiers, grading: JudgeConfig, template: str, max_chars: int) -> Decimal:
    """An answer by every tier, as long as it may be, and the judge's questions, in US dollars.

    It depends on neither version's decisions nor answers: whether a comparison may begin must not.
    """
    answers = total(tiers.most_usd(tier, query) for tier in tiers.engines)
    question = conversation_text(query)
    if len(question) > max_chars:  # nobody is asked
        return answers
    text = template + question + " " * min(2 * ANSWER_CHARS, max_chars - len(question))
    asked = Query((Message("user", text),), {}, {"max_tokens": grading.max_tokens})
    orders = 2 if len(tiers.engines) <= 2 else 4  # harm between two tiers below the last is asked apart
    return answers + orders * tiers.most_usd(grading.tier, asked)
