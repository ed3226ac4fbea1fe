"""What the tier that answered is asked about its own answer: is it right, bare or after examples; further answers.

After examples it is asked for one token, whose logprobs say how likely yes is, or for so many verdicts in words
(`AskedSettings.verdicts`), which tiers without logprobs give as well.

Prompts: P(True), Kadavath et al., arXiv 2207.05221; few-shot self-verification, Aggarwal et al. (AutoMix), arXiv
2310.12963; self-consistency, Wang et al., arXiv 2203.11171.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router_models.estimators.questions.terms import AskedSettings, AskedSignal, AskedTier
from router_models.estimators.signals import ALL_KINDS, WITH_LOGPROBS
from router_models.estimators.verifiers.language_model.agreement import same_number, same_text
from router_models.estimators.verifiers.language_model.p_true import (
    P_TRUE_PARAMETERS,
    p_true_messages,
    p_true_of,
    verdict_messages,
    verdict_share,
)
from router_models.types import Completion, FloatArray, Query

READ_CHARS = 6000
CHARS_A_TOKEN = 4
EXAMPLE_TOKENS = 90.0
"""Tokens that stand around each example's question and answer."""
"""Characters of a token, roughly: of long questions and answers P(True) is shown the first `READ_CHARS`."""


def _p_true_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    return (Query(p_true_messages(query, completion), {}, dict(P_TRUE_PARAMETERS)),)


def yes_of(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    """Return P(yes) of a one-token reply; NaN where it does not say."""
    return p_true_of(replies[0].payload) if replies else math.nan


def _p_true_tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    most = READ_CHARS / CHARS_A_TOKEN
    return np.minimum(prompt, most) + np.minimum(answer, most) + 110.0, np.ones_like(prompt)


def _verification_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    if not settings.verdicts:
        return (Query(p_true_messages(query, completion, settings.examples), {}, dict(P_TRUE_PARAMETERS)),)
    asked = verdict_messages(query, completion, settings.examples)
    drawn = {"max_tokens": settings.verdict_tokens, "temperature": settings.verdict_temperature}
    return tuple(Query(asked, {}, drawn | {"seed": seed}) for seed in range(1, settings.verdicts + 1))


def _verification(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    if not settings.verdicts:
        return yes_of(completion, replies, settings)
    return verdict_share([reply.text for reply in replies])


def _samples_verdicts(settings: AskedSettings) -> bool:
    return settings.verdicts > 0


def _verification_tokens(
    prompt: FloatArray, answer: FloatArray, settings: AskedSettings
) -> tuple[FloatArray, FloatArray]:
    shown = sum(len(one.question) + len(one.answer) for one in settings.examples) / CHARS_A_TOKEN
    sent, generated = _p_true_tokens(prompt, answer, settings)
    sent = sent + shown + EXAMPLE_TOKENS * len(settings.examples)
    if not settings.verdicts:
        return sent, generated
    return sent * settings.verdicts, generated * (settings.verdict_tokens * settings.verdicts)


_NOT_SAMPLED = ("n", "seed", "stream", "logprobs", "top_logprobs", "max_tokens", "temperature")


def _agreement_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    kept = {name: value for name, value in query.parameters.items() if name not in _NOT_SAMPLED}
    own = query.parameters.get("max_tokens")
    most = settings.max_tokens if own is None else min(int(own), settings.max_tokens)
    drawn = kept | {"max_tokens": most, "temperature": settings.temperature}
    return tuple(Query(query.messages, {}, drawn | {"seed": seed}) for seed in range(1, settings.samples + 1))


def _agreement(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    """As `language_model.agreement.agreement`; a sample that was cut short is compared as far as it goes."""
    if not replies:
        return math.nan
    return (sum(_agrees(completion.text, reply, settings) for reply in replies) + 0.5) / (len(replies) + 1.0)


def _agrees(answer: str, sample: Completion, settings: AskedSettings) -> bool:
    if sample.finish_reason == "length" and len(sample.text) < len(answer):
        return same_text(answer[: len(sample.text)], sample.text)
    return same_number(answer, sample.text) if settings.match == "number" else same_text(answer, sample.text)


def _agreement_tokens(
    prompt: FloatArray, answer: FloatArray, settings: AskedSettings
) -> tuple[FloatArray, FloatArray]:
    return prompt * settings.samples, np.minimum(answer, settings.max_tokens) * settings.samples


SELF_VERIFICATION = AskedSignal(
    "self_verification", AskedTier.ANSWERING, WITH_LOGPROBS, _verification_calls, _verification, _verification_tokens,
    from_texts=_samples_verdicts,
)  # fmt: skip
P_TRUE = AskedSignal("p_true", AskedTier.ANSWERING, WITH_LOGPROBS, _p_true_calls, yes_of, _p_true_tokens)
AGREEMENT = AskedSignal("agreement", AskedTier.ANSWERING, ALL_KINDS, _agreement_calls, _agreement, _agreement_tokens)
