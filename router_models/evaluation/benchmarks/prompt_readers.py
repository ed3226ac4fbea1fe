"""Compute what a local language model makes of prompts: P(yes), its first token's entropy, and hidden states."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import cached_embeddings
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.questions.before_answer import first_token_entropy_of
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.language_model.causal import causal_model, model_digest
from router_models.estimators.routers.language_model.p_yes import YesEncoder
from router_models.estimators.routers.language_model.probe import HiddenStateEncoder
from router_models.estimators.verifiers.language_model.p_true import P_TRUE_PARAMETERS
from router_models.types import Progress
from router_models.types.chat_prompts import whole_characters
from router_models.types.exchange import BEFORE_NAMES

MAX_TOKENS = 256
P_YES, ENTROPY = BEFORE_NAMES


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
    `first_token_entropy` for `asked-first`. What is there already is kept: it is the tier's own.

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
        Receives a bar after each block of prompts.
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
    read = {signal for name in families if name in ROUTERS for signal in ROUTERS[name].reads}
    texts, states = table.prompts.texts, table.prompts.states
    metadata, signals = dict(table.prompts.metadata), dict(table.prompts.signals)
    if states is None and "hidden_states" in read:
        states = cached_embeddings(HiddenStateEncoder(folder, max_tokens=max_tokens), texts, cache, progress)
    if P_YES in read and P_YES not in metadata and P_YES not in signals:
        yes = cached_embeddings(YesEncoder(folder, max_tokens=max_tokens), texts, cache, progress)[:, 0]
        metadata[P_YES] = tuple(f"{p:.6f}" for p in yes)
        signals[P_YES] = yes.astype(np.float64)
    if ENTROPY in read and ENTROPY not in signals:
        entropy = cached_embeddings(FirstTokenEncoder(folder, max_tokens=max_tokens), texts, cache, progress)[:, 0]
        signals[ENTROPY] = entropy.astype(np.float64)
    prompts = replace(table.prompts, states=states, metadata=metadata, signals=signals)
    answers = {tier: replace(one, prompts=prompts) for tier, one in table.answers.items()}
    return replace(table, prompts=prompts, answers=answers)


class FirstTokenEncoder:
    """Begin a local causal language model's answer: text → (entropy of its first token,) float32, in nats.

    The entropy is the signal `first_token_entropy`: of the 20 likeliest tokens, spellings of one option as one. The
    prompt is put by the model's own chat template where it has one. Nothing is loaded before the first `encode`.

    Parameters
    ----------
    folder : Path
        A transformers model folder.
    max_tokens : int
        Prompts are cut to their last tokens, where options and the request for an answer stand.
    """

    def __init__(self, folder: Path, max_tokens: int = MAX_TOKENS) -> None:
        self.folder, self.max_tokens = folder, max_tokens

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the entropies of n texts, (n, 1) float32; one prompt at a time, so that padding has no effect."""
        import torch

        tokenizer, model = self._loaded
        rows = np.empty((len(texts), 1), dtype=np.float32)
        with torch.inference_mode():
            for row, text in zip(rows, texts, strict=True):
                ids = torch.tensor([self._ids(tokenizer, text)])
                logprobs = model(input_ids=ids, logits_to_keep=1).logits[0, -1].double().log_softmax(-1)
                likeliest = logprobs.topk(P_TRUE_PARAMETERS["top_logprobs"])
                told = [
                    {"token": tokenizer.decode([index]), "logprob": logprob}
                    for logprob, index in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
                ]
                row[0] = first_token_entropy_of({"choices": [{"logprobs": {"content": [{"top_logprobs": told}]}}]})
        return rows

    def _ids(self, tokenizer: Any, text: str) -> list[int]:
        text = whole_characters(text)
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        if len(tokens) > self.max_tokens:
            text = tokenizer.decode(tokens[-self.max_tokens :])
        if tokenizer.chat_template is None:
            return list(tokenizer(text or "?").input_ids)
        messages = [{"role": "user", "content": text}]
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return causal_model(self.folder, logits=True)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the model's files, the signal's name and the cut."""
        return model_digest(self.folder, ENTROPY, self.max_tokens)
