"""The default verifier: evidence of several kinds in one calibrated estimate of P(this answer is acceptable).

Token-logprob quantiles, measured signals (the router's score, P(True), agreement, …), answer checks, the prompt's
surface and a cross-fitted embedding score are columns of one L2 logistic regression (science of the project: Platt
on several features). Cascades that look at more than the cheap model's confidence: FrugalGPT (arXiv 2305.05176),
AutoMix (2310.12963).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from router_models.artifacts import State
from router_models.errors import ArtifactError, NotFittedError
from router_models.features import FEATURES_VERSION, LOGPROB_NAMES
from router_models.types import Answers, FloatArray
from router_models.verifiers.base import VerifierModel, check_fit_input, embeddings_of
from router_models.verifiers.checks import blank
from router_models.verifiers.embedding_score import EmbeddingScore
from router_models.verifiers.logistic import Logistic, grouped_folds
from router_models.verifiers.sources import SOURCES, available, plain_columns, plain_names, signals_in

BLANK_SCORE = 1e-6


class CombinedVerifier(VerifierModel):
    """One logistic regression over every source in the training batch.

    `sources_` and `signals_` say what was found there; `predict` needs the same (DataError names what is missing),
    with NaN for single values not measured. A blank answer scores BLANK_SCORE whatever was learned. Works from about
    a hundred graded answers; inner folds keep equal prompts together and choose the penalty.
    """

    family = "combined"
    card = (
        "needs the answer; uses logprobs, the router's score, other signals and the prompt's embedding where given; "
        "under a millisecond; the default"
    )
    needs_embeddings: ClassVar[bool] = True

    def __init__(self, sources: Sequence[str] = SOURCES, folds: int = 5, seed: int = 0) -> None:
        self.sources = tuple(sources)
        self.folds = folds
        self.seed = seed
        self.sources_: tuple[str, ...] = ()
        self.signals_: tuple[str, ...] = ()
        self.embedding_: EmbeddingScore | None = None
        self.model_: Logistic | None = None

    @property
    def wants_embeddings(self) -> bool:
        return "embedding" in (self.sources_ or self.sources)

    @property
    def wants_signals(self) -> tuple[str, ...]:
        return (*(LOGPROB_NAMES if "logprob" in self.sources_ else ()), *self.signals_)

    @property
    def columns_(self) -> list[str]:
        """The names of the regression's columns, in order; `weights` pairs them with what was learned."""
        plain = [name for s in self.sources_ if s != "embedding" for name in plain_names(s, self.signals_)]
        return plain + (["embedding_score"] if "embedding" in self.sources_ else [])

    def weights(self) -> dict[str, float]:
        """Column → weight per standard deviation, in log-odds: what the estimate rests on."""
        return dict(zip(self.columns_, self._fitted().coef.tolist(), strict=True))

    def fit(self, X: Answers, y: FloatArray) -> Self:
        y = check_fit_input(X, y)
        self.sources_ = available(X, self.sources)
        self.signals_ = signals_in(X) if "signals" in self.sources_ else ()
        folds = grouped_folds(X.prompts.texts, y, self.folds, self.seed)
        parts = self._plain(X)
        self.embedding_ = None
        if "embedding" in self.sources_:
            self.embedding_, scores = EmbeddingScore.fit_and_cross_score(embeddings_of(X), y, folds)
            parts.append(scores[:, None])
        self.model_ = Logistic.fit(np.hstack(parts), y, folds)
        return self

    def predict(self, X: Answers) -> FloatArray:
        model = self._fitted()
        parts = self._plain(X)
        if self.embedding_ is not None:
            parts.append(self.embedding_.predict(embeddings_of(X))[:, None])
        score = model.predict(np.hstack(parts))
        blanks = [bool(blank("", text, why)) for text, why in zip(X.texts, X.finish_reasons, strict=True)]
        return np.where(blanks, np.minimum(score, BLANK_SCORE), score)

    def _plain(self, X: Answers) -> list[FloatArray]:
        return [plain_columns(X, s, self.signals_) for s in self.sources_ if s != "embedding"]

    def _fitted(self) -> Logistic:
        if self.model_ is None:
            raise NotFittedError("CombinedVerifier was asked before fit")
        return self.model_

    def state(self) -> State:
        inner = self._fitted().state()
        arrays = dict(inner.arrays)
        meta = {
            **inner.meta,
            "features_version": FEATURES_VERSION,
            "sources": list(self.sources_),
            "signals": list(self.signals_),
            "columns": self.columns_,
            "folds": self.folds,
            "seed": self.seed,
        }
        if self.embedding_ is not None:
            arrays["embedding_coef"] = self.embedding_.coef
            meta["embedding_intercept"] = self.embedding_.intercept
        return State(arrays, meta)

    @classmethod
    def from_state(cls, state: State) -> Self:
        try:
            verifier = cls(state.meta["sources"], int(state.meta["folds"]), int(state.meta["seed"]))
            verifier.sources_ = tuple(state.meta["sources"])
            verifier.signals_ = tuple(state.meta["signals"])
            columns = verifier.columns_
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored combined verifier: {error!r}") from error
        if state.meta.get("columns") != columns or state.meta.get("features_version") != FEATURES_VERSION:
            raise ArtifactError("a combined verifier over other columns than this version computes: fit it again")
        verifier.model_ = Logistic.from_state(state)
        if len(verifier.model_.coef) != len(columns):
            raise ArtifactError(f"{len(columns)} columns but {len(verifier.model_.coef)} weights")
        if "embedding" in verifier.sources_:
            verifier.embedding_ = EmbeddingScore.from_state(
                State(
                    {k.removeprefix("embedding_"): v for k, v in state.arrays.items() if k.startswith("embedding_")},
                    {"intercept": state.meta.get("embedding_intercept")},
                )
            )
        return verifier
