"""One request and one answer to it, as an engine sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX_FINISH = "prefix"
"""The finish_reason of a completion that is still being generated."""
LOGPROB_NAMES = ("lp_mean", "lp_min", "lp_p10", "lp_p50", "lp_first", "lp_first3_mean", "log_tokens")
FORMAT_NAMES = ("schema_fault", "field_agreement")
"""What is measured of an answer for which the request declares JSON (`response_format`); NaN of all others."""

ASKED_NAMES = (
    "p_yes", "first_token_entropy", "p_true", "self_verification", "agreement", "last_tier_verdict",
    "last_tier_likelihood",
)  # fmt: skip
"""What tiers are asked for by further calls once an answer is there (`estimators.asked_signals`)."""
BEFORE_NAMES = ("p_yes", "first_token_entropy")
"""Those of them that depend on the request alone, and that the cheapest tier can be asked for before it answers."""
REWARD_PREFIX = "reward:"
"""Begins the name of a verifier model's score, which ends in the model's name."""


def verifier_of(name: str) -> str | None:
    """Return the verifier model whose score a signal is; None for any other signal."""
    return name[len(REWARD_PREFIX) :] or None if name.startswith(REWARD_PREFIX) else None


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one turn of a conversation.

    Parameters
    ----------
    role : str
        OpenAI's role: `system`, `user`, `assistant`, `tool`, …
    content : str
        The text of the turn.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Query:
    """Hold a request as the policy sees it: the conversation and what is known about it.

    Parameters
    ----------
    messages : tuple of Message
        The turns, oldest first. `Query.from_prompt` makes one of a single prompt.
    metadata : mapping of str to str
        Features of the request (task label, language, user tier); never secrets.
    parameters : mapping
        Decoding settings in OpenAI's names, passed through to the engine unchanged.
    signals : mapping of str to float
        What the cheapest tier was asked before it answers (`BEFORE_NAMES`), by name.
    """

    messages: tuple[Message, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_prompt(cls, prompt: str, **metadata: str) -> Query:
        """Build a query of a single user prompt.

        Parameters
        ----------
        prompt : str
            The text of the user's turn.
        **metadata : str
            Features of the request, by name.

        Returns
        -------
        Query
        """
        return cls((Message("user", prompt),), metadata)

    @property
    def text(self) -> str:
        """Return the text that is routed on: all turns, oldest first, one per line."""
        return "\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Usage:
    """Hold the token counts of a call, as the engine reported them.

    Parameters
    ----------
    prompt_tokens, completion_tokens : int
        Tokens sent and generated.
    cached_tokens, cache_write_tokens : int
        The parts of `prompt_tokens` that were read from and written to a prompt cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold one call to one of a tier's deployments.

    Parameters
    ----------
    deployment : str
        The name of the deployment.
    status : int
        An HTTP status: 200 = answered, 502 = the reply could not be used, 503 = not reachable, 504 = timed out;
        any other is the one that the deployment returned.
    latency_s : float
        Seconds the call took.
    usage : mapping
        OpenAI's usage object where a call that failed was billed all the same, with the `service_tier` that it was
        billed at where that is not the standard one; empty otherwise.
    """

    deployment: str
    status: int
    latency_s: float
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """Hold one engine's answer to one query.

    Parameters
    ----------
    text : str
        The answer.
    finish_reason : str
        OpenAI's word: `stop`, `length`, `tool_calls`, …
    usage : Usage
        Tokens as the engine counted them.
    token_logprobs : tuple of float
        Natural logarithms, one per generated token; empty when the engine returns none.
    latency_s : float
        Seconds from the call to the whole answer.
    payload : mapping
        The engine's own reply (OpenAI's chat.completion as a dict), kept so that nothing in it is lost.
    attempts : tuple of Attempt
        The calls it took, where a tier has several deployments or tried more than once.
    signals : mapping of str to float
        What was asked for about this answer (`estimators.asked_signals`), by name.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    token_logprobs: tuple[float, ...] = ()
    latency_s: float = 0.0
    payload: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def tool_calls(self) -> tuple[Mapping[str, Any], ...]:
        """Return the tool calls of all choices in `payload`; OpenAI's former `function_call` is one of them."""
        found: list[Mapping[str, Any]] = []
        for choice in self.payload.get("choices") or ():
            message = choice.get("message") if isinstance(choice, Mapping) else None
            if not isinstance(message, Mapping):
                continue
            calls, former = message.get("tool_calls"), message.get("function_call")
            found += (call for call in calls if isinstance(call, Mapping)) if isinstance(calls, list | tuple) else ()
            if isinstance(former, Mapping):
                found.append({"type": "function", "function": former})
        return tuple(found)


def logprob_summary(token_logprobs: Sequence[float]) -> dict[str, float]:
    """Summarise a completion's token logprobs by quantiles; sums would depend on length (arXiv 2404.10136).

    Parameters
    ----------
    token_logprobs : sequence of float
        Natural logarithms; values below -30, -inf and NaN count as -30.

    Returns
    -------
    dict of str to float
        By `LOGPROB_NAMES`; all but `log_tokens` are NaN where there are no logprobs.
    """
    return dict(_summary(tuple(token_logprobs)))


@lru_cache(maxsize=16)  # the verdict on an answer reads it, and its record right after
def _summary(token_logprobs: tuple[float, ...]) -> Mapping[str, float]:
    if not token_logprobs:
        return dict.fromkeys(LOGPROB_NAMES[:-1], math.nan) | {"log_tokens": 0.0}
    values = np.asarray(token_logprobs, dtype=np.float64)
    ordered = np.sort(values)
    if not (ordered[0] >= -30.0 and ordered[-1] <= 0.0):  # NaN is neither, and sorted last
        values = np.clip(np.nan_to_num(values, nan=-30.0, neginf=-30.0), -30.0, 0.0)
        ordered = np.sort(values)
    first = [float(value) for value in values[:3]]
    return {
        "lp_mean": float(np.add.reduce(values) / len(values)),
        "lp_min": float(ordered[0]),
        "lp_p10": _quantile(ordered, 0.10),
        "lp_p50": _quantile(ordered, 0.50),
        "lp_first": first[0],
        "lp_first3_mean": sum(first) / len(first),
        "log_tokens": math.log1p(len(values)),
    }


def _quantile(ordered: NDArray[np.float64], q: float) -> float:
    """Return a quantile of ascending values, to the last bit as `np.quantile`, which prepares for 0.1 ms."""
    at = (len(ordered) - 1) * q
    below = int(at)
    low, high, share = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)]), at - below
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share
