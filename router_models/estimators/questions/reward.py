"""What a verifier model is asked: to score a conversation that ends in the answer (`reward:NAME`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router_models.estimators.questions.conversations import with_answer
from router_models.estimators.questions.terms import AskedSettings, AskedSignal, AskedTier
from router_models.estimators.signals import ALL_KINDS
from router_models.types import Completion, FloatArray, Message, Query


def reward_row(name: str, verifier: str) -> AskedSignal:
    """Return the row of a verifier model's score."""
    return AskedSignal(name, AskedTier.VERIFIER, ALL_KINDS, _calls, _score, _tokens, verifier)


def _calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    plain = (*query.messages, Message("assistant", completion.text))
    return (Query(plain, {}, {"messages": with_answer(query, completion.text)}),)


def _score(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    """The number under `score` in the reply, on the model's own scale; higher is better."""
    try:
        return float(replies[0].payload["score"])
    except (KeyError, IndexError, TypeError, ValueError):
        return math.nan


def _tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    return prompt + answer, np.zeros_like(prompt)
