"""Recorded outcomes, and batches of prompts and answers in columns: what estimators take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from router_models.types.arrays import BoolArray, FloatArray, IntArray
from router_models.types.exchange import Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold one tier's graded answer to one prompt.

    Parameters
    ----------
    prompt_id : str
        The prompt's identifier (`data.outcomes.prompt_id`).
    prompt : str
        The text of the prompt.
    tier : str
        The tier that answered.
    answer : str
        The text of the answer.
    grade : float
        In [0, 1]: 1 = acceptable, 0 = not; fractional where a judge returned a fraction.
    usage : Usage
        Tokens of the call.
    latency_s : float
        Seconds the call took.
    finish_reason : str
        OpenAI's word for why generation ended.
    logprobs : mapping of str to float
        The summary that `logprob_summary` returns, and `FORMAT_NAMES` where the request declared JSON, and
        what was asked for (`ASKED_NAMES`, `reward:NAME`); what was not measured is left out.
    metadata : mapping of str to str
        Features of the request.
    token_texts, token_logprobs : tuple
        One entry per generated token, where tokens were kept: what a prefix of the answer is cut from.
    label_source : str
        Who graded it (`types.label_sources`); empty where nobody said.
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
    label_source: str = ""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Hold a batch of n prompts in columns: the `X` of every router.

    Parameters
    ----------
    texts : tuple of str
        The n prompts.
    embeddings : array of float32, (n, d), optional
        Unit rows; None where nothing has been embedded.
    metadata : mapping of str to tuple of str
        Columns of n strings; an empty string means unknown.
    states : array of float32, (n, width), optional
        A language model's hidden states; None where they were not computed.
    signals : mapping of str to array of float, (n,)
        What the cheapest tier was asked before it answers (`BEFORE_NAMES`); NaN = not measured.
    """

    texts: tuple[str, ...]
    embeddings: NDArray[np.float32] | None = None
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    states: NDArray[np.float32] | None = None
    signals: Mapping[str, FloatArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> Prompts:
        """Select rows.

        Parameters
        ----------
        index : sequence of int, array of int, or array of bool
            Row numbers, in the order wanted, or a mask over the rows.

        Returns
        -------
        Prompts
            The selected rows, in that order.
        """
        rows = np.arange(len(self))[np.asarray(index)]
        return Prompts(
            tuple(self.texts[i] for i in rows),
            None if self.embeddings is None else self.embeddings[rows],
            {name: tuple(column[i] for i in rows) for name, column in self.metadata.items()},
            None if self.states is None else self.states[rows],
            {name: column[rows] for name, column in self.signals.items()},
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """Hold a batch of n (prompt, completion) pairs in columns: the `X` of every verifier.

    Parameters
    ----------
    prompts : Prompts
        The n prompts.
    texts : tuple of str
        The n answers.
    finish_reasons : tuple of str
        Why generation ended, in OpenAI's words.
    signals : mapping of str to array of float, (n,)
        Named measurements of each completion: the entries of `logprob_summary`, a router's score, the
        share of agreeing samples, … NaN = not measured. A verifier says which signals it needs.
    """

    prompts: Prompts
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    signals: Mapping[str, FloatArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> Answers:
        """Select rows.

        Parameters
        ----------
        index : sequence of int, array of int, or array of bool
            Row numbers, in the order wanted, or a mask over the rows.

        Returns
        -------
        Answers
            The selected rows, in that order.
        """
        rows = np.arange(len(self))[np.asarray(index)]
        return Answers(
            self.prompts.take(rows),
            tuple(self.texts[i] for i in rows),
            tuple(self.finish_reasons[i] for i in rows),
            {name: column[rows] for name, column in self.signals.items()},
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Hold the tokens of one tier's n answers.

    Parameters
    ----------
    texts : tuple of tuple of str
        The tokens' texts, one tuple per answer; empty where they were not kept.
    logprobs : tuple of tuple of float
        Their natural-logarithm probabilities, as long as the texts.
    """

    texts: tuple[tuple[str, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | IntArray) -> Tokens:
        """Select rows.

        Parameters
        ----------
        rows : sequence of int or array of int
            Row numbers, in the order wanted.

        Returns
        -------
        Tokens
            The selected rows, in that order.
        """
        return Tokens(tuple(self.texts[i] for i in rows), tuple(self.logprobs[i] for i in rows))
