"""Compute what a local language model makes of prompts: P(yes), its first token's entropy, and hidden states."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder, cached_embeddings
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.questions.before_answer import first_token_entropy_of
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.language_model.causal import NextTokenEncoder
from router_models.estimators.routers.language_model.p_yes import YesEncoder
from router_models.estimators.routers.language_model.probe import HiddenStateEncoder
from router_models.estimators.verifiers.language_model.p_true import P_TRUE_PARAMETERS
from router_models.types import FloatArray, Progress
from router_models.types.exchange import BEFORE_NAMES

MAX_TOKENS = 256
P_YES, ENTROPY = BEFORE_NAMES
STATES = "hidden_states"


def read_by(
    table: OutcomeTable,
    folder: Path,
    cache: Path | None,
    max_tokens: int = MAX_TOKENS,
    progress: Progress = lambda _: None,
    families: Collection[str] = tuple(ROUTERS),
) -> OutcomeTable:
    """Return the table with what router families read a local model for: states, P(yes), the first token's entropy.

    `prompts.states` are for `probe`, the column and signal `p_yes` for `p-yes` and `asked-first`, the signal
    `first_token_entropy` for `asked-first`. What is there already, if measured for any prompt, is kept: it is the
    tier's own.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    folder : Path
        A transformers model folder.
    cache : Path, optional
        A folder that stores what was computed; None = nothing is stored.
    max_tokens : int
        Prompts are cut to this length.
    progress : callable
        Receives a sentence before each pass over the prompts, and a bar after each block of many.
    families : collection of str
        The families that will be evaluated; what none of them reads is not computed.

    Returns
    -------
    OutcomeTable

    Raises
    ------
    ArtifactError
        Where the folder holds no model.
    """
    read = read_by_families(families)
    texts, states = table.prompts.texts, table.prompts.states
    metadata, signals = dict(table.prompts.metadata), dict(table.prompts.signals)

    def computed(encoder: TextEncoder, what: str) -> NDArray[np.float32]:
        progress(f"{folder.name} reads {len(texts):,} prompts for {what}")
        return cached_embeddings(encoder, texts, cache, progress)

    if states is None and STATES in read:
        states = computed(HiddenStateEncoder(folder, max_tokens=max_tokens), "its hidden states")
    if P_YES in read and not _is_measured(signals, P_YES):
        if P_YES in metadata:
            signals[P_YES] = _numbers(metadata[P_YES])
        else:
            signals[P_YES] = computed(YesEncoder(folder, max_tokens=max_tokens), "P(yes)")[:, 0].astype(np.float64)
            metadata[P_YES] = tuple(f"{p:.6f}" for p in signals[P_YES])
    if ENTROPY in read and not _is_measured(signals, ENTROPY):
        entropies = computed(FirstTokenEncoder(folder, max_tokens=max_tokens), "its first token's entropy")
        signals[ENTROPY] = entropies[:, 0].astype(np.float64)
    prompts = replace(table.prompts, states=states, metadata=metadata, signals=signals)
    answers = {tier: replace(one, prompts=prompts) for tier, one in table.answers.items()}
    return replace(table, prompts=prompts, answers=answers)


def read_by_families(families: Collection[str]) -> frozenset[str]:
    """Return what of a reader's findings the named families read: some of hidden states, P(yes) and entropy."""
    read = {signal for name in families if name in ROUTERS for signal in ROUTERS[name].reads}
    return frozenset(read & {STATES, P_YES, ENTROPY})


def _is_measured(signals: Mapping[str, FloatArray], name: str) -> bool:
    return name in signals and bool(np.isfinite(signals[name]).any())


def _numbers(column: Sequence[str]) -> FloatArray:
    """Return a text column as numbers, NaN where it says none: `p-yes` says what is wrong with it."""
    values = np.full(len(column), np.nan)
    for i, value in enumerate(column):
        with suppress(ValueError):
            values[i] = float(value)
    return values


class FirstTokenEncoder(NextTokenEncoder):
    """Begin a local causal language model's answer: text → (entropy of its first token,) float32, in nats.

    The entropy is the signal `first_token_entropy`: of the 20 likeliest tokens, spellings of one option as one. Of a
    long prompt the end is read, where options and the request for an answer stand.
    """

    keeps_end = True
    terms = (ENTROPY,)

    def question(self, text: str) -> str:
        """Return the prompt itself."""
        return text

    def read(self, logprobs: Any) -> float:
        """Return the entropy of the likeliest tokens."""
        tokenizer, _ = self._loaded
        likeliest = logprobs.topk(P_TRUE_PARAMETERS["top_logprobs"])
        told = [
            {"token": tokenizer.decode([index]), "logprob": logprob}
            for logprob, index in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
        ]
        return first_token_entropy_of({"choices": [{"logprobs": {"content": [{"top_logprobs": told}]}}]})
