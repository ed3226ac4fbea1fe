"""The table of signals: everything that a router or a verifier may read, and how the served graph comes by it.

`plan`, `evaluate`, `train` and the served version go by this one table. A signal that a request does not bring counts
for nothing in a recommendation, is refused in training with the sentence of `would_need`, and is never shown to a
verifier. docs/reference/signals.md is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from router_models.errors import DataError
from router_models.types.exchange import FORMAT_NAMES, LOGPROB_NAMES, REWARD_PREFIX, verifier_of


class TierKind(StrEnum):
    """Name a kind of tier by what comes with its answers."""

    VLLM = "vllm"
    HOSTED_LOGPROBS = "hosted-logprobs"
    HOSTED = "hosted"
    ECHO = "echo"


class SignalCost(StrEnum):
    """Name what a signal costs for each request."""

    NOTHING = "nothing"
    EMBEDDING = "an embedding of the prompt"
    CALL = "one more call"
    CALLS = "several more calls"
    MODEL = "a pass of a further model"


ALL_KINDS = frozenset(TierKind)
WITH_LOGPROBS = frozenset({TierKind.VLLM, TierKind.HOSTED_LOGPROBS, TierKind.ECHO})
NO_KIND: frozenset[TierKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Signal:
    """Hold one row of the table.

    Parameters
    ----------
    name : str
        Its name: a column of `Answers.signals`, or what else a family reads (`prompt`, `answer`, `embedding`, …).
    meaning : str
        What it says.
    comes_from : str
        How the served graph has it, or where else it would come from.
    kinds : frozenset of TierKind
        The kinds of tiers of whose answers the served graph has it; all, where it comes with the prompt.
    cost : SignalCost
        What it costs for each request.
    needs : str
        What is needed where it is not had: the end of the sentence "would need …". Empty where every kind has it.
    """

    name: str
    meaning: str
    comes_from: str
    kinds: frozenset[TierKind]
    cost: SignalCost
    needs: str = ""


def _logprob(name: str, meaning: str) -> Signal:
    needs = "an engine that returns token logprobs (vLLM, or a hosted API that takes `logprobs`)"
    return Signal(name, meaning, "the logprobs of the answer's tokens", WITH_LOGPROBS, SignalCost.NOTHING, needs)


ANY_REWARD = f"{REWARD_PREFIX}NAME"
"""The row that holds of every verifier model's score."""
_ROWS = (
    Signal("prompt", "the text of all turns", "the request", ALL_KINDS, SignalCost.NOTHING),
    Signal("embedding", "the prompt's embedding", "the version's encoder", ALL_KINDS, SignalCost.EMBEDDING),
    Signal(
        "metadata", "task, domain, language, user tier, …",
        "the request's `metadata`, `serve_graph.task` and the key's user tier; a value that is missing adds nothing",
        ALL_KINDS, SignalCost.NOTHING,
    ),
    Signal(
        "p_yes", "P(yes): the tier's model asked whether it could answer the request rightly",
        "one call of one token to the same tier, before or after it answers, for a version that reads it",
        WITH_LOGPROBS, SignalCost.CALL,
        "an engine that returns token logprobs (vLLM, or a hosted API that takes `logprobs`)",
    ),
    Signal(
        "hidden_states", "a language model's hidden states of the prompt", "a language model that reads prompts",
        NO_KIND, SignalCost.MODEL, "a language model that reads every prompt, which the served router does not do",
    ),
    Signal(
        "grade", "the answer's own grade", "the outcomes table", NO_KIND, SignalCost.NOTHING,
        "the answer's grade before it is given, which no request brings; for reports alone",
    ),
    Signal("answer", "the text of the answer, and all that rules find in it", "the answer", ALL_KINDS,
           SignalCost.NOTHING),
    Signal("finish_reason", "why generation ended", "the answer", ALL_KINDS, SignalCost.NOTHING),
    Signal("tool_calls", "the calls that an answer makes; checked by rule against the declared tools", "the answer",
           ALL_KINDS, SignalCost.NOTHING),
    Signal("response_format", "the declared JSON schema; the answer is checked against it by rule", "the request",
           ALL_KINDS, SignalCost.NOTHING),
    Signal("router_score", "the router's calibrated estimate for the tier", "the version's router", ALL_KINDS,
           SignalCost.NOTHING),
    _logprob("lp_mean", "the mean logprob of the answer's tokens"),
    _logprob("lp_min", "the least logprob"),
    _logprob("lp_p10", "the 10th percentile of the logprobs"),
    _logprob("lp_p50", "their median"),
    _logprob("lp_first", "the first token's logprob"),
    _logprob("lp_first3_mean", "the mean of the first three"),
    _logprob("log_tokens", "log(1 + tokens that came with a logprob)"),
    Signal(
        "p_true", "P(True): the tier's model asked whether its answer is right",
        "one call of one token to the same tier, for a version that reads it", WITH_LOGPROBS, SignalCost.CALL,
        "an engine that returns token logprobs (vLLM, or a hosted API that takes `logprobs`)",
    ),
    Signal(
        "self_verification", "P(True) after examples of right and wrong answers (few-shot self-verification)",
        "one call of one token to the same tier, which reads the examples first, or "
        "`signals.self_verification.samples` verdicts in words, which a `hosted` tier gives alone; for a version that "
        "reads it", ALL_KINDS, SignalCost.CALL,
        "an engine that returns token logprobs (vLLM, or a hosted API that takes `logprobs`), or "
        "`signals.self_verification.samples`",
    ),
    Signal(
        "first_token_entropy", "the entropy of the answer's first token; of a choice among options, of the option",
        "one call of one token to the same tier, of the request itself, for a version that reads it", WITH_LOGPROBS,
        SignalCost.CALL, "an engine that returns token logprobs (vLLM, or a hosted API that takes `logprobs`)",
    ),
    Signal(
        "agreement", "the share of further answers that agree",
        "short answers of the same tier at a temperature (`signals.agreement`), for a version that reads it",
        ALL_KINDS, SignalCost.CALLS,
    ),
    Signal(
        "last_tier_verdict", "P(True) of the last tier: asked whether the cheaper answer is right",
        "one call of one token to the last tier, which must be `vllm`, `hosted-logprobs` or `echo`, for a version "
        "that reads it", ALL_KINDS, SignalCost.CALL,
        "a last tier that returns token logprobs (vLLM, or a hosted API that takes `logprobs`)",
    ),
    Signal(
        "last_tier_likelihood", "the mean logprob that the last tier gives the cheaper answer's tokens",
        "one prefill by the last tier, which must be `vllm` or `echo`, for a version that reads it", ALL_KINDS,
        SignalCost.CALL, "a last tier that returns the logprobs of its prompt (vLLM)",
    ),
    Signal(
        ANY_REWARD, "a reward or cross-encoder model's score of the answer, on its own scale",
        "one call to the verifier model NAME (`verifiers`), for a version that reads it", ALL_KINDS, SignalCost.MODEL,
    ),
    Signal(
        "reward", "a reward model's score that a table brings along", "the outcomes table", NO_KIND, SignalCost.MODEL,
        "a verifier model that reads every answer: configure it (`verifiers`) and collect its score, `reward:NAME`",
    ),
    Signal(
        "judge", "another language model's estimate that the answer is right", "a judge", NO_KIND, SignalCost.CALL,
        "a call to a judge for every answer, which the served graph does not make",
    ),
    Signal(
        "stated_confidence", "the confidence that the model states of its answer", "another prompt", NO_KIND,
        SignalCost.CALL, "a prompt that asks the model for its confidence, which the served graph does not add",
    ),
    Signal(
        "max_token_confidence", "the probability of the chosen option among given ones", "a recorded evaluation",
        NO_KIND, SignalCost.NOTHING,
        "the probabilities of an answer's options, which engines do not return; `lp_first` is the nearest",
    ),
    Signal(
        "schema_fault", "whether the answer breaks the JSON that `response_format` declares",
        "the request and the answer; the served version also rejects such answers by rule", ALL_KINDS,
        SignalCost.NOTHING,
    ),
    Signal(
        "field_agreement", "the share of the JSON answer's values that the prompt says, in any way of writing",
        "the request and the answer, where JSON is declared", ALL_KINDS, SignalCost.NOTHING,
    ),
    Signal(
        "tool_fault", "the share of calls that break the declared tools, as a number", "the request and the answer",
        NO_KIND, SignalCost.NOTHING,
        "outcomes that record what was declared; the served version checks it as a rule, not as a score",
    ),
    Signal(
        "latency_s", "the seconds that the call took", "the clock", NO_KIND, SignalCost.NOTHING,
        "a verifier that is shown it: it says how busy an engine was, and is kept for records and prices",
    ),
    Signal(
        "prompt_tokens", "the tokens of the prompt", "the engine's count", NO_KIND, SignalCost.NOTHING,
        "a verifier that is shown it: counts are kept for bills",
    ),
    Signal(
        "completion_tokens", "the tokens of the answer", "the engine's count", NO_KIND, SignalCost.NOTHING,
        "a verifier that is shown it: counts are kept for bills; `log_tokens` is the nearest",
    ),
    Signal(
        "cached_tokens", "the tokens read from a prompt cache", "the engine's count", NO_KIND, SignalCost.NOTHING,
        "a verifier that is shown it: counts are kept for bills",
    ),
    Signal(
        "outchars", "the characters of the answer, where its text was not recorded", "the outcomes table", NO_KIND,
        SignalCost.NOTHING, "nothing where answers are recorded: their length is read off the text",
    ),
)  # fmt: skip

SIGNALS: Mapping[str, Signal] = MappingProxyType({row.name: row for row in _ROWS})
"""Every known signal by name: first what comes with the prompt, then what comes with the answer."""

COMES_WITH_AN_ANSWER = (*LOGPROB_NAMES, *FORMAT_NAMES)
"""The columns of `Answers.signals` that a completion brings by itself; the router's estimate comes beside them."""


def signal_named(name: str) -> Signal:
    """Return a signal's row; of one that the table does not hold (a column of a foreign table) that no tier has it."""
    if (row := SIGNALS.get(name)) is not None:
        return row
    if verifier_of(name) is not None:
        return replace(SIGNALS[ANY_REWARD], name=name)
    needs = "whatever wrote it into the table: no tier returns it"
    return Signal(name, "a column of the outcomes", "the outcomes table", NO_KIND, SignalCost.NOTHING, needs)


def would_need(name: str, kind: TierKind = TierKind.VLLM) -> str | None:
    """Return the sentence that says what a signal would need at a kind of tier; None where the served graph has it.

    Parameters
    ----------
    name : str
        The signal; one that the table does not hold is had by no tier.
    kind : TierKind
        The kind of the tier whose answers are scored.

    Returns
    -------
    str or None
    """
    row = signal_named(name)
    return None if kind in row.kinds else f"the signal {name} would need {row.needs}"


def served_names(names: Iterable[str], kind: TierKind = TierKind.VLLM, asked: Iterable[str] = ()) -> tuple[str, ...]:
    """Return those of the recorded signals that a served verifier is shown of a kind of tier, in order.

    `asked`: the signals that are asked for (`estimators.asked_signals`); others that take a call are not shown.
    """
    shown = {*COMES_WITH_AN_ANSWER, *asked}
    return tuple(name for name in names if name in shown and kind in signal_named(name).kinds)


def check_served(family: str, reads: Iterable[str], kind: TierKind = TierKind.VLLM) -> None:
    """Raise DataError with the sentence of the first signal that a family reads and a kind of tier does not have."""
    for name in reads:
        if (sentence := would_need(name, kind)) is not None:
            raise DataError(f"{family}: {sentence}")
