"""Signals that take further calls once an answer is there: who is asked what, how replies are read, at what price.

`collect`, `train` and the served version go by this one table (`ASKED_SIGNALS`), so that a verifier is fitted,
certified and served with the same question. A version keeps the digest of every question that its verifiers read
(`question_digest`); a graph that would ask otherwise does not serve it.

Prompts: P(True), Kadavath et al., arXiv 2207.05221; self-consistency, Wang et al., arXiv 2203.11171.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from router_models.errors import DataError
from router_models.estimators.signals import ALL_KINDS, SIGNALS, WITH_LOGPROBS, TierKind
from router_models.estimators.verifiers.language_model.agreement import same_number, same_text
from router_models.estimators.verifiers.language_model.p_true import P_TRUE_PARAMETERS, p_true_messages, p_true_of
from router_models.types import Completion, FloatArray, Message, Query

LAST_TIER_QUESTION = "Is your last answer correct? Reply with exactly one word: Yes or No."
"""What the last tier is asked behind the conversation that ends in a cheaper tier's answer."""
LEAST_LOGPROB = -30.0
WITH_PROMPT_LOGPROBS = frozenset({TierKind.VLLM, TierKind.ECHO})
BIND = "signal."
"""Begins the names of what binds a certificate, or a table of outcomes, to how a signal is asked for."""
READ_CHARS = 6000
CHARS_A_TOKEN = 4
"""Characters of a token, roughly: of long questions and answers P(True) is shown the first `READ_CHARS`."""


class AskedTier(StrEnum):
    """Name who is asked for a signal."""

    ANSWERING = "the tier that answered"
    LAST = "the last tier"


@dataclass(frozen=True, slots=True)
class AskedSettings:
    """Hold what can be set of the questions.

    Parameters
    ----------
    samples : int
        Further answers that `agreement` compares with, 1 or more.
    temperature : float
        What they are drawn at, above 0.
    max_tokens : int
        Tokens of each at most; of a longer one its beginning is compared.
    match : {"text", "number"}
        What agrees: equal texts, or equal last numbers.
    """

    samples: int = 3
    temperature: float = 0.7
    max_tokens: int = 128
    match: Literal["text", "number"] = "text"


USUAL_QUESTIONS = AskedSettings()
_MakeCalls = Callable[[Query, Completion, AskedSettings], tuple[Query, ...]]
_ReadReplies = Callable[[Completion, Sequence[Completion], AskedSettings], float]
_CountTokens = Callable[[FloatArray, FloatArray, AskedSettings], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class AskedSignal:
    """Hold one signal that is asked for.

    Parameters
    ----------
    name : str
        Its name in the table of signals.
    asks : AskedTier
        Who is asked.
    kinds : frozenset of TierKind
        The kinds of tiers that can be asked.
    calls : callable
        The requests of a query and an answer to it, none of which depends on another's reply.
    read : callable
        The signal, from the answer and the replies in the order of the requests; NaN where they do not say.
    tokens : callable
        (prompt tokens, answer tokens) → prompt and answer tokens of all calls together, by which costs are foreseen.
    """

    name: str
    asks: AskedTier
    kinds: frozenset[TierKind]
    calls: _MakeCalls
    read: _ReadReplies
    tokens: _CountTokens


def _p_true_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    return (Query(p_true_messages(query, completion), {}, dict(P_TRUE_PARAMETERS)),)


def _yes_of(completion: Completion, replies: Sequence[Completion], settings: AskedSettings) -> float:
    return p_true_of(replies[0].payload) if replies else math.nan


def _p_true_tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    most = READ_CHARS / CHARS_A_TOKEN
    return np.minimum(prompt, most) + np.minimum(answer, most) + 110.0, np.ones_like(prompt)


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


def _conversation(query: Query, answer: str) -> list[dict[str, Any]]:
    """The conversation with the answer as its last turn, as engines read it: its beginning is the request's own."""
    sent = query.parameters.get("messages")
    turns = [dict(turn) for turn in sent] if sent else [{"role": m.role, "content": m.content} for m in query.messages]
    return [*turns, {"role": "assistant", "content": answer}]


def _verdict_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    turns = [*_conversation(query, completion.text), {"role": "user", "content": LAST_TIER_QUESTION}]
    plain = (*query.messages, Message("assistant", completion.text), Message("user", LAST_TIER_QUESTION))
    return (Query(plain, {}, {**P_TRUE_PARAMETERS, "messages": turns}),)


def _verdict_tokens(prompt: FloatArray, answer: FloatArray, settings: AskedSettings) -> tuple[FloatArray, FloatArray]:
    return prompt + answer + 25.0, np.ones_like(prompt)


def _likelihood_calls(query: Query, completion: Completion, settings: AskedSettings) -> tuple[Query, ...]:
    plain = (*query.messages, Message("assistant", completion.text))
    reads = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}
    wanted = {"max_tokens": 1, "temperature": 0.0, "messages": _conversation(query, completion.text)}
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


_ROWS = (
    AskedSignal("p_true", AskedTier.ANSWERING, WITH_LOGPROBS, _p_true_calls, _yes_of, _p_true_tokens),
    AskedSignal("agreement", AskedTier.ANSWERING, ALL_KINDS, _agreement_calls, _agreement, _agreement_tokens),
    AskedSignal("last_tier_verdict", AskedTier.LAST, WITH_LOGPROBS, _verdict_calls, _yes_of, _verdict_tokens),
    AskedSignal(
        "last_tier_likelihood", AskedTier.LAST, WITH_PROMPT_LOGPROBS, _likelihood_calls, _likelihood,
        _likelihood_tokens,
    ),
)  # fmt: skip

ASKED_SIGNALS: Mapping[str, AskedSignal] = MappingProxyType({row.name: row for row in _ROWS})
"""Every signal that the served graph asks for, by name, the cheapest of the answering tier first."""


def asked_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return those names that are asked for, in the order of the table, each once."""
    wanted = set(names)
    return tuple(name for name in ASKED_SIGNALS if name in wanted)


def check_asked(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of asked signals in the order of the table; DataError for one that is none."""
    names = tuple(names)
    if unknown := [name for name in names if name not in ASKED_SIGNALS]:
        raise DataError(f"no signal that is asked for: {', '.join(unknown)}; there are {', '.join(ASKED_SIGNALS)}")
    return asked_among(names)


def cannot_ask(name: str, tier: str, last: str, kinds: Mapping[str, TierKind]) -> str | None:
    """Return why a signal of a tier's answers cannot be asked for in a graph, in a sentence; None where it can.

    Parameters
    ----------
    name : str
        An asked signal.
    tier, last : str
        The tier whose answers are judged, and the last one.
    kinds : mapping of tier to TierKind
        What comes with their replies; a tier that is not named: everything that an engine returns.
    """
    row = ASKED_SIGNALS[name]
    if row.asks is AskedTier.LAST and tier == last:
        return f"the signal {name} is the last tier's word on a cheaper answer: there is none of {last!r} itself"
    asked = last if row.asks is AskedTier.LAST else tier
    kind = kinds.get(asked, TierKind.VLLM)
    if kind in row.kinds:
        return None
    return f"the signal {name} is asked of tier {asked!r}, which is {kind.value}: it needs {SIGNALS[name].needs}"


def question_digest(name: str, settings: AskedSettings) -> str:
    """Return the sha256 of what is asked for a signal: prompts, decoding, how many calls, how replies are compared."""
    probe, answer = Query.from_prompt("the question"), Completion("the answer")
    calls = [
        [[(message.role, message.content) for message in call.messages], dict(call.parameters)]
        for call in ASKED_SIGNALS[name].calls(probe, answer, settings)
    ]
    compared = settings.match if name == "agreement" else ""
    return hashlib.sha256(json.dumps([name, calls, compared], sort_keys=True).encode()).hexdigest()


def question_binds(names: Iterable[str], settings: AskedSettings) -> dict[str, str]:
    """Return what a certificate of a version that reads these signals is bound to: `signal.NAME` → digest."""
    return {f"{BIND}{name}": question_digest(name, settings) for name in names}


def may_be_asked(completion: Completion) -> bool:
    """Return whether an answer is one that can be asked about: text, and no call of a tool."""
    return bool(completion.text.strip()) and not completion.tool_calls
