"""What the last tier is asked about a cheaper answer, which it reads at input price: is it right, how likely."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router_models.estimators.questions.conversations import with_answer
from router_models.estimators.questions.own_answer import yes_of
from router_models.estimators.questions.terms import AskedSettings, AskedSignal, AskedTier
from router_models.estimators.signals import WITH_LOGPROBS, TierKind
from router_models.estimators.verifiers.language_model.p_true import P_TRUE_PARAMETERS
from router_models.types import Completion, FloatArray, Message, Query

LAST_TIER_QUESTION = "Is your last answer correct? Reply with exactly one word: Yes or No."
"""What the last tier is asked behind the conversation that ends in a cheaper tier's answer."""
LEAST_LOGPROB = -30.0
WITH_PROMPT_LOGPROBS = frozenset({TierKind.VLLM, TierKind.ECHO})


def _verdict_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    turns = [*with_answer(query, completion.text), {"role": "user", "content": LAST_TIER_QUESTION}]
    plain = (*query.messages, Message("assistant", completion.text), Message("user", LAST_TIER_QUESTION))
    return (Query(plain, {}, {**P_TRUE_PARAMETERS, "messages": turns}),)


def _verdict_tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    return prompt + answer + 25.0, np.ones_like(prompt)


def _likelihood_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    plain = (*query.messages, Message("assistant", completion.text))
    reads = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}
    wanted = {"max_tokens": 1, "temperature": 0.0, "messages": with_answer(query, completion.text)}
    return (Query(plain, {}, wanted | reads),)


def _likelihood(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    """The mean logprob of the answer's tokens, which are the prompt's last: as many as spell the answer."""
    try:
        entries = replies[0].payload["prompt_logprobs"]
        found: list[float] = []
        chars, needed = 0, len(completion.text.rstrip())
        for entry in reversed(entries):
            if chars >= needed or entry is None:
                break
            token = next(iter(entry.values()))  # the prompt's own token comes first
            chars += max(1, len(str(token.get("decoded_token") or "")))
            found.append(max(min(float(token["logprob"]), 0.0), LEAST_LOGPROB))
        return float(np.mean(found)) if found else math.nan
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        return math.nan


def _likelihood_tokens(
    prompt: FloatArray, answer: FloatArray, settings: AskedSettings
) -> tuple[FloatArray, FloatArray]:
    return prompt + answer, np.ones_like(prompt)


VERDICT = AskedSignal("last_tier_verdict", AskedTier.LAST, WITH_LOGPROBS, _verdict_calls, yes_of, _verdict_tokens)
LIKELIHOOD = AskedSignal(
    "last_tier_likelihood", AskedTier.LAST, WITH_PROMPT_LOGPROBS, _likelihood_calls, _likelihood, _likelihood_tokens
)
