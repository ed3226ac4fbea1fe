"""A linear probe of the cheap model's hidden state, read before it generates.

The states come from `HiddenStateEncoder` (`evaluation.benchmarks.prompt_readers` adds them to a table). Where the
cheap tier's engine shares its prefill, a probe costs a dot product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_prompts_input,
    fitted,
    prompt_embeddings,
    squash,
)
from router_models.estimators.routers.embedding.ridge import fit_ridge, linear
from router_models.estimators.routers.language_model.causal import causal_model, model_digest
from router_models.types import FloatArray, Prompts
from router_models.types.chat_prompts import whole_characters


class ProbeRouter(RouterModel):
    """Fit ridge regression on standardised hidden states: the batch's `states`, or its `embeddings` where it has none.

    Standardising matters: a few dimensions of the residual stream are a hundred times larger than the rest.

    Parameters
    ----------
    alphas : tuple of float
        Candidates for the L2 penalty; the one of least leave-one-out error is used.
    """

    family = "probe"
    card = "needs the cheap model's hidden state of the prompt (its prefill), as embeddings; then one dot product"
    apart = "reads a language model's hidden states, which recorded outcomes do not hold"
    reads = ("hidden_states",)
    needs_embeddings = True
    needs_reader = True

    def __init__(self, alphas: tuple[float, ...] = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4)) -> None:
        self.alphas = alphas
        self.scale_: FloatArray | None = None
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        H = _states_of(X)
        mean, sd = H.mean(axis=0), H.std(axis=0)
        self.scale_ = np.stack([mean, np.where(sd > 1e-9, sd, 1.0)])
        self.weights_ = fit_ridge(self._standardise(H), y, self.alphas)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        weights = fitted(self.weights_, self.family)
        return squash(linear(self._standardise(_states_of(X)), weights))

    def _standardise(self, H: FloatArray) -> FloatArray:
        scale = fitted(self.scale_, self.family)
        if H.shape[1] != scale.shape[1]:
            raise DataError(f"hidden states of width {H.shape[1]}, but this probe was fitted on {scale.shape[1]}")
        return np.asarray(np.clip((H - scale[0]) / scale[1], -6.0, 6.0), dtype=np.float64)

    def state(self) -> State:
        return State({"weights": fitted(self.weights_, self.family), "scale": fitted(self.scale_, self.family)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.weights_ = array_of(state, "weights").astype(np.float64)
        router.scale_ = array_of(state, "scale").astype(np.float64)
        return router


def _states_of(X: Prompts) -> FloatArray:
    return prompt_embeddings(X) if X.states is None else np.asarray(X.states, dtype=np.float64)


class HiddenStateEncoder:
    """Return a causal language model's hidden state at the prompt's last token: text → (hidden size,) float32.

    Nothing is loaded before the first `encode`.

    Parameters
    ----------
    folder : Path
        A transformers model folder.
    layer : float
        The share of the depth at which states are read (.6: three fifths up, where probes do best).
    max_tokens : int
        Texts are cut to their last tokens.
    threads : int, optional
        Torch threads; None = torch's default.
    """

    def __init__(self, folder: Path, layer: float = 0.6, max_tokens: int = 512, threads: int | None = None) -> None:
        self.folder, self.layer, self.max_tokens, self.threads = folder, layer, max_tokens, threads

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return hidden states of n texts, (n, hidden size) float32, one prompt at a time: padding has no effect."""
        import torch

        tokenizer, model = self._loaded
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        rows: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for text in texts:
                # A model needs at least one token to have a state at all.
                ids = tokenizer(whole_characters(text)).input_ids[-self.max_tokens :] or tokenizer("?").input_ids
                states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
                depth = max(1, round(self.layer * (len(states) - 1)))
                rows.append(states[depth][0, -1].float().numpy())
        return np.stack(rows) if rows else np.empty((0, model.config.hidden_size), dtype=np.float32)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return causal_model(self.folder)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the model's files and the layer; certificates are bound to it."""
        return model_digest(self.folder, self.layer, self.max_tokens)
