"""The default verifier: evidence of several kinds in one calibrated estimate of P(this answer is acceptable).

Token-logprob quantiles, measured signals (the router's score, P(True), agreement, …), answer checks, and cross-fitted
scores of the words and of the prompt's embedding are columns of one L2 logistic regression: Platt scaling of several
features. Cascades that use more than the cheap model's confidence: FrugalGPT (arXiv 2305.05176), AutoMix (2310.12963).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION
from router_models.data.text_cache import cached_by_text
from router_models.errors import ArtifactError, NotFittedError
from router_models.estimators.routers.base import prompt_embeddings
from router_models.estimators.verifiers.base import VerifierModel, check_answers_input
from router_models.estimators.verifiers.checks.checks import CHECKS_VERSION, blank
from router_models.estimators.verifiers.learned.embedding_score import EmbeddingScore
from router_models.estimators.verifiers.learned.logistic import Logistic, folds_by_prompt
from router_models.estimators.verifiers.learned.nested_state import join_states, split_state
from router_models.estimators.verifiers.learned.sources import (
    DEFAULT_SOURCES,
    available,
    plain_columns,
    plain_names,
    signals_in,
)
from router_models.estimators.verifiers.learned.text_score import TextScore
from router_models.types import Answers, FloatArray, IntArray
from router_models.types.drawn import sample_weights
from router_models.types.exchange import LOGPROB_NAMES

VERSION = [FEATURES_VERSION, CHECKS_VERSION]
BLANK_SCORE = 1e-6


class CombinedVerifier(VerifierModel):
    """Fit one logistic regression over every source in the training batch.

    `sources_` and `signals_` hold what was found there; `predict` needs the same (DataError names what is missing),
    with NaN for single values not measured. A blank answer scores `BLANK_SCORE` whatever was learned, unless no answer
    of the training batch had a text: then texts were not recorded, and none is read later either. Works from about a
    hundred graded answers; inner folds keep equal prompts together and choose the penalty. Rows count by the prompts'
    `sample_weight` in the regression, not in the scores of words and embeddings under it.

    Parameters
    ----------
    sources : sequence of str
        Kinds of evidence to use where a batch has them, of `learned.sources.SOURCES`.
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "combined"
    card = (
        "needs the answer; uses logprobs, the router's score, other signals and the prompt's embedding where given; "
        "under a millisecond; the default"
    )
    needs_embeddings: ClassVar[bool] = True
    takes_weights = True

    def __init__(self, sources: Sequence[str] = DEFAULT_SOURCES, folds: int = 5, seed: int = 0) -> None:
        self.sources = tuple(sources)
        self.folds = folds
        self.seed = seed
        self.sources_: tuple[str, ...] = ()
        self.signals_: tuple[str, ...] = ()
        self.reads_answers_ = True
        self.text_: TextScore | None = None
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
        """Return the names of the regression's columns, in order."""
        plain = [name for source in self.sources_ for name in plain_names(source, self.signals_)]
        return plain + [f"{name}_score" for name in ("text", "embedding") if name in self.sources_]

    def weights(self) -> dict[str, float]:
        """Return the weight of each column per standard deviation, in log-odds."""
        return dict(zip(self.columns_, self._fitted().coef.tolist(), strict=True))

    def fit(self, X: Answers, y: FloatArray) -> Self:
        y = check_answers_input(X, y)
        self.reads_answers_ = any(text.strip() for text in X.texts)
        self.sources_ = available(X, self.sources)
        self.signals_ = signals_in(X) if "signals" in self.sources_ else ()
        folds = folds_by_prompt(X.prompts.texts, y, self.folds, self.seed)
        columns = self._plain(X)
        self.text_ = self.embedding_ = None
        if "text" in self.sources_:
            # While signals are tried, the same words are weighed on the same rows again and again.
            given = (X.prompts.texts, tuple(self._read(X)), y.tobytes(), folds.tobytes())
            self.text_, scores = cached_by_text("text scores", [given], lambda _: [self._text_score(X, y, folds)])[0]
            columns.append(scores[:, None])
        if "embedding" in self.sources_:
            self.embedding_, scores = EmbeddingScore.fit_and_cross_score(prompt_embeddings(X.prompts), y, folds)
            columns.append(scores[:, None])
        self.model_ = Logistic.fit(np.hstack(columns), y, folds, sample_weights(X.prompts))
        return self

    def predict(self, X: Answers) -> FloatArray:
        model = self._fitted()
        columns = self._plain(X)
        if self.text_ is not None:
            columns.append(self.text_.predict(X.prompts.texts, self._read(X))[:, None])
        if self.embedding_ is not None:
            columns.append(self.embedding_.predict(prompt_embeddings(X.prompts))[:, None])
        score = model.predict(np.hstack(columns))
        if not self.reads_answers_:
            return score
        blanks = [bool(blank("", text, why)) for text, why in zip(X.texts, X.finish_reasons, strict=True)]
        return np.where(blanks, np.minimum(score, BLANK_SCORE), score)

    def _text_score(self, X: Answers, y: FloatArray, folds: IntArray) -> tuple[TextScore, FloatArray]:
        return TextScore.fit_and_cross_score(X.prompts.texts, self._read(X), y, folds)

    def _read(self, X: Answers) -> Sequence[str]:
        """Return the answers' texts, where the training batch had any."""
        return X.texts if self.reads_answers_ else ("",) * len(X)

    def _plain(self, X: Answers) -> list[FloatArray]:
        return [plain_columns(X, source, self.signals_) for source in self.sources_]

    def _fitted(self) -> Logistic:
        if self.model_ is None:
            raise NotFittedError(f"{type(self).__name__} was used before fit")
        return self.model_

    def state(self) -> State:
        parts = {"model": self._fitted().state()}
        if self.text_ is not None:
            parts["text"] = self.text_.state()
        if self.embedding_ is not None:
            parts["embedding"] = self.embedding_.state()
        return join_states(
            parts,
            {
                "version": VERSION,
                "sources": list(self.sources_),
                "signals": list(self.signals_),
                "columns": self.columns_,
                "reads_answers": self.reads_answers_,
                "folds": self.folds,
                "seed": self.seed,
            },
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        parts, meta = split_state(state)
        try:
            verifier = cls(meta["sources"], int(meta["folds"]), int(meta["seed"]))
            verifier.sources_, verifier.signals_ = tuple(meta["sources"]), tuple(meta["signals"])
            verifier.reads_answers_ = bool(meta["reads_answers"])
            if meta["version"] != VERSION or meta["columns"] != verifier.columns_:
                raise ArtifactError("a combined verifier over other columns than this version computes: fit it again")
            verifier.model_ = Logistic.from_state(parts["model"])
            if "text" in verifier.sources_:
                verifier.text_ = TextScore.from_state(parts["text"])
            if "embedding" in verifier.sources_:
                verifier.embedding_ = EmbeddingScore.from_state(parts["embedding"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored combined verifier: {error!r}") from error
        if len(verifier.model_.coef) != len(verifier.columns_):
            raise ArtifactError(f"{len(verifier.columns_)} columns but {len(verifier.model_.coef)} weights")
        return verifier
