"""A scorer learned from (prompt, answer): what the words alone say about whether the answer is acceptable.

FrugalGPT's scoring function (Chen et al., arXiv 2305.05176) with hashed TF-IDF instead of a fine-tuned encoder by
default; the prompt's embedding is used where the batch has one, and an encoder given to the constructor also reads
question and answer together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, NotFittedError
from router_models.estimators.routers.base import prompt_embeddings
from router_models.estimators.verifiers.base import VerifierModel, check_answers_input
from router_models.estimators.verifiers.learned.embedding_score import EmbeddingScore
from router_models.estimators.verifiers.learned.logistic import Logistic, folds_by_prompt
from router_models.estimators.verifiers.learned.nested_state import join_states, split_state
from router_models.estimators.verifiers.learned.text_score import TextScore
from router_models.types import Answers, FloatArray

PAIR_CHARS = 1000
"""How much of the prompt's end and of the answer's beginning a pair encoder reads."""


class PairEncoder(Protocol):
    """Embed texts: (n, d) float32 with unit rows. `features.Encoder` is one."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class LearnedVerifier(VerifierModel):
    """Combine cross-fitted scores of the words, the prompt's embedding and the pair's embedding in one regression.

    The encoder is no part of the state: a verifier fitted with one needs it again after loading (`with_encoder`).

    Parameters
    ----------
    folds : int
        Folds of the cross-fitting.
    seed : int
        Seeds the folds.
    encoder : PairEncoder, optional
        Embeds question and answer together.

    References
    ----------
    Chen, Zaharia and Zou, "FrugalGPT: How to use large language models while reducing cost and improving performance",
    arXiv 2305.05176.
    """

    family = "learned"
    card = "needs prompt and answer, uses embeddings where given; under a millisecond, 5 ms more with a pair encoder"

    needs_signals: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folds: int = 5, seed: int = 0, encoder: PairEncoder | None = None) -> None:
        self.folds = folds
        self.seed = seed
        self.encoder = encoder
        self.text_: TextScore | None = None
        self.prompt_: EmbeddingScore | None = None
        self.pair_: EmbeddingScore | None = None
        self.model_: Logistic | None = None

    @property
    def wants_embeddings(self) -> bool:
        return self.prompt_ is not None

    def with_encoder(self, encoder: PairEncoder) -> Self:
        """Set the encoder of pairs; returns self."""
        self.encoder = encoder
        return self

    def fit(self, X: Answers, y: FloatArray) -> Self:
        y = check_answers_input(X, y)
        folds = folds_by_prompt(X.prompts.texts, y, self.folds, self.seed)
        self.text_, scores = TextScore.fit_and_cross_score(X.prompts.texts, X.texts, y, folds)
        columns = [scores]
        self.prompt_ = self.pair_ = None
        if X.prompts.embeddings is not None:
            self.prompt_, scores = EmbeddingScore.fit_and_cross_score(prompt_embeddings(X.prompts), y, folds)
            columns.append(scores)
        if self.encoder is not None:
            self.pair_, scores = EmbeddingScore.fit_and_cross_score(self._pairs(X), y, folds)
            columns.append(scores)
        self.model_ = Logistic.fit(np.column_stack(columns), y, folds)
        return self

    def predict(self, X: Answers) -> FloatArray:
        if self.text_ is None or self.model_ is None:
            raise NotFittedError("LearnedVerifier was used before fit")
        columns = [self.text_.predict(X.prompts.texts, X.texts)]
        if self.prompt_ is not None:
            columns.append(self.prompt_.predict(prompt_embeddings(X.prompts)))
        if self.pair_ is not None:
            columns.append(self.pair_.predict(self._pairs(X)))
        return self.model_.predict(np.column_stack(columns))

    def _pairs(self, X: Answers) -> FloatArray:
        if self.encoder is None:
            raise NotFittedError("this verifier was fitted with a pair encoder: give it again (`with_encoder`)")
        pairs = [f"{p[-PAIR_CHARS:]}\n{a[:PAIR_CHARS]}" for p, a in zip(X.prompts.texts, X.texts, strict=True)]
        return np.asarray(self.encoder.encode(pairs), dtype=np.float64)

    def state(self) -> State:
        if self.text_ is None or self.model_ is None:
            raise NotFittedError("LearnedVerifier has no state before fit")
        parts = {"model": self.model_.state(), "text": self.text_.state()}
        if self.prompt_ is not None:
            parts["prompt"] = self.prompt_.state()
        if self.pair_ is not None:
            parts["pair"] = self.pair_.state()
        return join_states(parts, {"folds": self.folds, "seed": self.seed})

    @classmethod
    def from_state(cls, state: State) -> Self:
        parts, meta = split_state(state)
        try:
            verifier = cls(int(meta["folds"]), int(meta["seed"]))
            verifier.model_ = Logistic.from_state(parts["model"])
            verifier.text_ = TextScore.from_state(parts["text"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored learned verifier: {error!r}") from error
        verifier.prompt_ = EmbeddingScore.from_state(parts["prompt"]) if "prompt" in parts else None
        verifier.pair_ = EmbeddingScore.from_state(parts["pair"]) if "pair" in parts else None
        if len(verifier.model_.coef) != len(parts) - 1:
            raise ArtifactError(
                f"a learned verifier of {len(parts) - 1} scores and {len(verifier.model_.coef)} weights"
            )
        return verifier
