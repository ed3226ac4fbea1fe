"""The nouns of the project, as frozen data.

Every other module of `router_models` speaks in these; `serve_graph` translates wire types into them and back.
Nothing here computes more than a view of its own fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Progress = Callable[[str], None]
"""Is told in a sentence what a long piece of work does next."""

PREFIX_FINISH = "prefix"
"""The finish_reason of a completion that is still being said."""


class Action(StrEnum):
    """What became of a request. The values are the `x-serve-graph-outcome` header's."""

    ROUTED = "routed"
    ACCEPTED = "accepted"
    ESCALATED = "escalated"
    ABSTAINED = "abstained"
    FORCED = "forced"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: OpenAI's role and the text content."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question as the policy sees it: the conversation and what is known about it.

    Parameters
    ----------
    messages : tuple of Message
        The turns, oldest first. `Query.from_prompt` makes one of a single prompt.
    metadata : mapping of str to str
        Features of the request (task label, language, user tier); never secrets.
    parameters : mapping
        Decoding settings in OpenAI's names, passed through to the engine untouched.
    """

    messages: tuple[Message, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_prompt(cls, prompt: str, **metadata: str) -> Query:
        """Wrap a single user prompt."""
        return cls((Message("user", prompt),), metadata)

    @property
    def text(self) -> str:
        """The text that is routed on: all turns, oldest first, one per line."""
        return "\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them. `cached_tokens` and `cache_write_tokens` are the parts of `prompt_tokens`
    read from and written to a cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call at one of a tier's deployments. `status` is HTTP's: 200 it answered, 502 its reply could not be used,
    503 it could not be reached, 504 it was late, anything else it said itself.

    `usage` is OpenAI's usage object where a call that failed was billed all the same; empty otherwise.
    """

    deployment: str
    status: int
    latency_s: float
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """One engine's answer to one query.

    Parameters
    ----------
    text : str
        The answer.
    finish_reason : str
        OpenAI's word: `stop`, `length`, `tool_calls`, …
    usage : Usage
        Tokens as the engine counted them.
    token_logprobs : tuple of float
        Natural logarithms, one per generated token; empty when the engine gives none.
    latency_s : float
        Seconds from the call to the whole answer.
    payload : mapping
        The engine's own reply (OpenAI's chat.completion as a dict), kept so that nothing is lost on the way out.
    attempts : tuple of Attempt
        The calls it took, where a tier has several deployments or tried more than once.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    token_logprobs: tuple[float, ...] = ()
    latency_s: float = 0.0
    payload: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the router sent a query, before generation, and why.

    `p_cheap_ok` is the calibrated estimate that made the decision; None where no estimate was made (forced,
    fallback). `distance` is how far the query lies from the router's training data (0 = typical,
    from 1 on unlike it), None if unknown. `promised` is False where the version promises nothing of this query,
    though it does of others.
    """

    tier: str
    reason: str
    p_cheap_ok: float | None = None
    distance: float | None = None
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier made of a completion: accepted, escalated or abstained, and why.

    `may_serve_on_overload`: an escalated answer that is certified to be served all the same while the last tier is
    full.
    """

    action: Action
    reason: str
    p_ok: float | None = None
    may_serve_on_overload: bool = False


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The thresholds in force. All are compared with ≥; a score equal to its threshold passes.

    A query is tried on the cheap tier when its router score ≥ `route_at`; a cheap answer is accepted when its
    verifier score ≥ `accept_at`. Below `abstain_below` (verifier score of the *last* answer, None = never) the
    graph abstains. `inf` in `route_at` means always frontier.
    """

    route_at: float
    accept_at: float
    abstain_below: float | None = None


@dataclass(frozen=True, slots=True)
class PrefixPoint:
    """When the first `tokens` tokens of a cheap answer suffice: where their verifier score is ≥ `accept_at`.

    The threshold is certified for beginnings of that length; shorter answers are judged whole.
    """

    tokens: int
    accept_at: float


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a request's bill: an engine call, or the time a router or verifier took, and its price.

    `tier` is `router` or `verifier` for those. `what` it was for: `attempt` (an answer nobody was shown), `answer`,
    `escalation`, `fallback`, `routing`, `judging`, or work nobody got an answer from: `cancelled`, `failed`. `parts`
    sum to `cost_usd`. `metered` False: the engine never said how many tokens it was, so tokens are not in the price.
    """

    tier: str
    usage: Usage
    latency_s: float
    cost_usd: Decimal
    what: str = "answer"
    parts: Mapping[str, Decimal] = field(default_factory=dict)
    metered: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt × one tier: what was answered, how it was graded, what it took.

    `grade` is 1.0 for acceptable and 0.0 for not; fractional where a judge gave one. `logprobs` is the summary
    `features.logprob_summary` makes. `token_texts` and `token_logprobs`: one entry per generated token where they
    were kept, what a beginning of the answer is cut from.
    """

    prompt_id: str
    prompt: str
    tier: str
    answer: str
    grade: float
    usage: Usage
    latency_s: float
    finish_reason: str = "stop"
    logprobs: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    token_texts: tuple[str, ...] = ()
    token_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompts:
    """A batch of n prompts in columns, the `X` of every router.

    `embeddings` is (n, d) float32 with unit rows or None where nothing has been embedded; `metadata` holds columns
    of n strings ('' = unknown); `states` is (n, width) float32, a language model's hidden states, None = not read.
    """

    texts: tuple[str, ...]
    embeddings: NDArray[np.float32] | None = None
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    states: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> Prompts:
        """Select rows by integer index or boolean mask, in that order."""
        rows = np.arange(len(self))[np.asarray(index)]
        return Prompts(
            tuple(self.texts[i] for i in rows),
            None if self.embeddings is None else self.embeddings[rows],
            {name: tuple(column[i] for i in rows) for name, column in self.metadata.items()},
            None if self.states is None else self.states[rows],
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """A batch of n (prompt, completion) pairs in columns, the `X` of every verifier.

    `signals` holds named (n,) float columns measured around the completion: `features.logprob_summary`'s entries,
    a router's score, a self-consistency share. NaN = not measured; a verifier says which signals it needs.
    """

    prompts: Prompts
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    signals: Mapping[str, FloatArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> Answers:
        """Select rows by integer index or boolean mask, in that order."""
        rows = np.arange(len(self))[np.asarray(index)]
        return Answers(
            self.prompts.take(rows),
            tuple(self.texts[i] for i in rows),
            tuple(self.finish_reasons[i] for i in rows),
            {name: column[rows] for name, column in self.signals.items()},
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of n answers of one tier, row by row: their texts and logprobs, () where they were not kept."""

    texts: tuple[tuple[str, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | IntArray) -> Tokens:
        """Select rows by integer index, in that order."""
        return Tokens(tuple(self.texts[i] for i in rows), tuple(self.logprobs[i] for i in rows))


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One row per request: what was decided, what was called, what it cost. Prompt text only where asked for.

    `prompt_sha256` is over the routed text. `arm` names the policy version that acted and `propensity` the
    probability with which it was chosen. `error` is the HTTP error code where the request failed. `overhead` holds
    the bill's other lines (routing, judging); `cost_usd` is the sum of `calls` and `overhead`. `key` names the access
    key, `session` is a hash. `evidence` is what an explanation needs beside: thresholds, promise, signals, wishes.
    """

    id: str
    created_at: str
    requested_model: str
    tier: str
    outcome: str
    version: str
    status: int
    stream: bool
    prompt_sha256: str
    prompt_chars: int
    route_reason: str
    p_cheap_ok: float | None
    distance: float | None
    verdict_reason: str | None
    p_answer_ok: float | None
    calls: tuple[Call, ...]
    cost_usd: Decimal
    latency_s: float
    arm: str = "stable"
    propensity: float = 1.0
    error: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    overhead: tuple[Call, ...] = ()
    key: str | None = None
    session: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def bill(self) -> tuple[Call, ...]:
        """Every line that was paid for."""
        return (*self.calls, *self.overhead)
