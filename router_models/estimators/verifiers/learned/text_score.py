"""One number from the words of an exchange: hashed TF-IDF of prompt and answer, ridge regression of the grade.

Hashing keeps the state numeric (no vocabulary to store or leak). Prompt and answer have separate buckets, so that a
word counts differently in the question and in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.data.embeddings.encoder import MOST_CHARS
from router_models.errors import ArtifactError
from router_models.estimators.hashed_terms import bucket_counts, readable
from router_models.estimators.verifiers.learned.blas_threads import one_blas_thread
from router_models.types import FloatArray, IntArray

PROMPT_BUCKETS = 2**15
ANSWER_BUCKETS = 2**14
BUCKETS = PROMPT_BUCKETS + ANSWER_BUCKETS
TEXT_PENALTIES = (1.0, 3.0, 10.0, 30.0)
FEW_EXCHANGES = 8
"""Exchanges up to which each is counted by itself; more are quicker as one matrix."""
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class TextScore:
    """Estimate the grade by least squares: tfidf(prompt, answer)·coef + intercept, neither clipped nor calibrated.

    Words and word pairs, lower case, any script; unit rows over both fields together.
    """

    idf: FloatArray
    coef: FloatArray
    intercept: float

    @classmethod
    def fit(cls, prompts: Sequence[str], answers: Sequence[str], y: FloatArray, folds: IntArray) -> Self:
        """Learn from n exchanges and grades y (n,); the penalty is the one of least out-of-fold squared error."""
        return cls.fit_and_cross_score(prompts, answers, y, folds)[0]

    @classmethod
    def fit_and_cross_score(
        cls, prompts: Sequence[str], answers: Sequence[str], y: FloatArray, folds: IntArray
    ) -> tuple[Self, FloatArray]:
        """Return the fit on all rows, and out-of-fold scores (n,) of the same rows."""
        counts = _counts(prompts, answers)
        scores = _cross(counts, y, folds)
        best = min(TEXT_PENALTIES, key=lambda penalty: float(((scores[penalty] - y) ** 2).mean()))
        return cls._fits(counts, y, (best,))[0], scores[best]

    @classmethod
    def _fits(cls, counts: Any, y: FloatArray, penalties: Sequence[float]) -> list[Self]:
        """Fit the same rows with each penalty."""
        from sklearn.linear_model import Ridge

        documents = np.bincount(counts.indices, minlength=BUCKETS)
        used = np.flatnonzero(documents)  # of the others the weight is 0, and most are empty where prompts are few
        idf = np.log((1.0 + len(y)) / (1.0 + documents)) + 1.0
        X, made = _weighted(counts, idf)[:, used], []
        with one_blas_thread():  # vectors this short are slower shared (50 times, measured)
            for penalty in penalties:
                model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-5).fit(X, y)
                coef = np.zeros(BUCKETS)
                coef[used] = model.coef_
                made.append(cls(idf, coef, float(model.intercept_)))
        return made

    def predict(self, prompts: Sequence[str], answers: Sequence[str]) -> FloatArray:
        """Return scores (n,) of n exchanges, each to the last bit the same in a batch of any size."""
        if len(prompts) <= FEW_EXCHANGES:
            scores = [self._score(*_counted(*pair)) for pair in zip(prompts, answers, strict=True)]
            return np.array(scores, dtype=np.float64)
        return self._predict(_weighted(_counts(prompts, answers), self.idf))

    def _score(self, buckets: IntArray, counts: FloatArray) -> float:
        """`_predict` of one exchange without a matrix: sums in the same order."""
        weighted, row = counts * self.idf[buckets], np.zeros(len(buckets), dtype=np.int64)
        weighted /= np.sqrt(np.bincount(row, weighted**2, 1))[row]
        return float(np.bincount(row, weighted * self.coef[buckets], 1)[0]) + self.intercept

    def _predict(self, weighted: Any) -> FloatArray:
        rows = _rows_of(weighted)
        scores = np.bincount(rows, weighted.data * self.coef[weighted.indices], weighted.shape[0]) + self.intercept
        return np.asarray(scores, dtype=np.float64)

    def state(self) -> State:
        """Return the learned state; compression makes little of the empty buckets."""
        return State({"idf": self.idf, "coef": self.coef}, {"intercept": self.intercept})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; ArtifactError where it does not fit this version."""
        try:
            idf, coef = (np.asarray(state.arrays[name], dtype=np.float64) for name in ("idf", "coef"))
            intercept = float(state.meta["intercept"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored text score: {error!r}") from error
        if idf.shape != (BUCKETS,) or coef.shape != (BUCKETS,) or not np.isfinite([*idf, *coef, intercept]).all():
            raise ArtifactError(f"a text score must have {BUCKETS} finite weights, found {coef.shape}: fit it again")
        return cls(idf, coef, intercept)


def _counts(prompts: Sequence[str], answers: Sequence[str]) -> Any:
    """Return sublinear counts in a sparse (n, BUCKETS) matrix: prompt buckets first, then the answer's."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    parts = [
        HashingVectorizer(
            n_features=buckets, ngram_range=(1, 2), alternate_sign=False, norm=None, token_pattern=_WORD.pattern
        ).transform([text[:MOST_CHARS].encode("utf-8", "replace").decode() for text in texts])
        for texts, buckets in ((prompts, PROMPT_BUCKETS), (answers, ANSWER_BUCKETS))
    ]
    counts = csr_matrix(hstack(parts))
    counts.data = 1.0 + np.log(counts.data)
    return counts


def _counted(prompt: str, answer: str) -> tuple[IntArray, FloatArray]:
    """Return the buckets that one exchange fills, ascending, and the sublinear count of each: a row of `_counts`.

    scikit-learn's class is made for thousands of texts; for one it spends most of its time on preparations.
    """
    found = []
    for text, first, width in ((prompt, 0, PROMPT_BUCKETS), (answer, PROMPT_BUCKETS, ANSWER_BUCKETS)):
        buckets, counts = bucket_counts(_WORD.findall(readable(text)), width)
        found.append((buckets + first, counts))
    filled, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return filled, 1.0 + np.log(times.astype(np.float64))


def _weighted(counts: Any, idf: FloatArray) -> Any:
    """Return counts times idf, rows scaled to unit length (empty rows stay empty)."""
    weighted = counts.copy()
    weighted.data = counts.data * idf[counts.indices]
    rows = _rows_of(weighted)
    lengths = np.sqrt(np.bincount(rows, weighted.data**2, weighted.shape[0]))
    weighted.data /= lengths[rows]
    return weighted


def _rows_of(matrix: Any) -> IntArray:
    """Return the row of every stored entry of a CSR matrix."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _cross(counts: Any, y: FloatArray, folds: IntArray) -> dict[float, FloatArray]:
    """Return out-of-fold scores (n,) of every penalty."""
    out = {penalty: np.full(len(y), float(y.mean())) for penalty in TEXT_PENALTIES}
    for fold in np.unique(folds):
        held_out = folds == fold
        if (~held_out).any():
            fits = TextScore._fits(counts[~held_out], y[~held_out], TEXT_PENALTIES)
            weighted = _weighted(counts[held_out], fits[0].idf)
            for penalty, fitted in zip(TEXT_PENALTIES, fits, strict=True):
                out[penalty][held_out] = fitted._predict(weighted)
    return out
