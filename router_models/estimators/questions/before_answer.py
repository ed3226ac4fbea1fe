"""What a tier is asked before it answers: whether it can (P(yes)), and how sure it is of its first token.

Both calls are of one token and depend on the request alone. Of a question whose answer is an option, a word or a
number the first token's entropy is the option's; what that call reads is in the prefix cache for the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from router_models.estimators.questions.own_answer import CHARS_A_TOKEN, READ_CHARS, yes_of
from router_models.estimators.questions.terms import AskedSettings, AskedSignal, AskedTier
from router_models.estimators.signals import WITH_LOGPROBS
from router_models.estimators.verifiers.language_model.p_true import P_TRUE_PARAMETERS, between_marks
from router_models.types import Completion, FloatArray, Message, Query

_DRAWN = ("n", "seed", "stream", "temperature", "top_p", "top_k", "min_p", "max_tokens", "logprobs", "top_logprobs",
          "stop", "min_tokens")  # fmt: skip


def can_answer_messages(query: Query) -> tuple[Message, ...]:
    """Build messages that ask for a one-word yes or no on whether a request could be answered rightly."""
    return (
        Message(
            "system",
            "You are shown a request. Reply with exactly one word: Yes if you could answer it correctly, No if not.",
        ),
        Message("user", f"{between_marks('question', query.text)}Could you answer it correctly? Yes or No:"),
    )


def first_token_entropy_of(payload: Mapping[str, Any]) -> float:
    """Return the entropy, in nats, of a reply's first token over its alternatives; NaN where the reply has none.

    Alternatives that are one word but for case, blanks and the marks around an option ("A", " a", "(A)") count as one;
    what the alternatives leave over counts as one more.
    """
    try:
        alternatives = payload["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        mass: dict[str, float] = {}
        for one in alternatives:
            token = str(one["token"])
            word = token.strip(" \t\n▁Ġ\"'*().:,").casefold() or token
            mass[word] = mass.get(word, 0.0) + math.exp(min(float(one["logprob"]), 0.0))
    except (KeyError, IndexError, TypeError, ValueError):
        return math.nan
    if len(alternatives) < 2:
        return math.nan
    rest = max(0.0, 1.0 - sum(mass.values()))
    return -sum(p * math.log(p) for p in (*mass.values(), rest) if p > 0.0)


def _can_answer_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    return (Query(can_answer_messages(query), {}, dict(P_TRUE_PARAMETERS)),)


def _can_answer_tokens(
    prompt: FloatArray, answer: FloatArray, settings: AskedSettings
) -> tuple[FloatArray, FloatArray]:
    return np.minimum(prompt, READ_CHARS / CHARS_A_TOKEN) + 95.0, np.ones_like(prompt)


def _calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    kept = {name: value for name, value in query.parameters.items() if name not in _DRAWN}
    return (Query(query.messages, {}, {**kept, **P_TRUE_PARAMETERS}),)


def _read(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    return first_token_entropy_of(replies[0].payload) if replies else math.nan


def _tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    return prompt, np.ones_like(prompt)


P_YES = AskedSignal("p_yes", AskedTier.ANSWERING, WITH_LOGPROBS, _can_answer_calls, yes_of, _can_answer_tokens)
FIRST_TOKEN_ENTROPY = AskedSignal("first_token_entropy", AskedTier.ANSWERING, WITH_LOGPROBS, _calls, _read, _tokens)
