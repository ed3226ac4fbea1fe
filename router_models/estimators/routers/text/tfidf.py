"""Hashed TF-IDF of words and word pairs with ridge regression. No encoder, no vocabulary file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.text_cache import cached_by_text
from router_models.estimators.hashed_terms import bucket_counts, readable
from router_models.estimators.routers.base import RouterModel, array_of, check_prompts_input, fitted, squash
from router_models.types import FloatArray, Prompts

WIDTH = 2**17
_WORD = re.compile(r"\b\w\w+\b")
SparseRow = tuple[NDArray[np.int32], FloatArray]  # the buckets a text fills, ascending, and a number for each


class TfidfRouter(RouterModel):
    """Fit ridge regression on hashed TF-IDF of words and pairs (2^17 buckets) of the first 20,000 characters.

    Parameters
    ----------
    alpha : float
        The L2 penalty.
    """

    family = "tfidf"
    card = "needs the text; under 1 ms per query, 1 MB"

    def __init__(self, alpha: float = 5.0) -> None:
        self.alpha = alpha
        self.idf_: FloatArray | None = None
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.linear_model import Ridge

        y = check_prompts_input(X, y)
        counts = _rows(X.texts)
        documents = np.bincount(np.concatenate([buckets for buckets, _ in counts]), minlength=WIDTH)
        # A bucket of one prompt only says nothing about other prompts: idf 0 drops it.
        idf = np.where(documents >= 2, np.log((1 + len(y)) / (1 + documents)) + 1, 0.0)
        weighted = _sparse([(buckets, _weighted(buckets, values, idf)) for buckets, values in counts])
        ridge = Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-4).fit(weighted, y)
        # float32 is what is stored; using it at once keeps scores equal after loading.
        self.idf_ = idf.astype(np.float32).astype(np.float64)
        self.weights_ = np.append(ridge.coef_, ridge.intercept_).astype(np.float32).astype(np.float64)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        weights, idf = fitted(self.weights_, self.family), fitted(self.idf_, self.family)
        # Row by row, without a sparse matrix: building one costs four times as much as a short prompt's product.
        sums = [_weighted(buckets, values, idf) @ weights[buckets] for buckets, values in _rows(X.texts)]
        return squash(np.array(sums, dtype=np.float64) + weights[-1])

    def state(self) -> State:
        idf, weights = fitted(self.idf_, self.family), fitted(self.weights_, self.family)
        return State({"idf": idf.astype(np.float32), "weights": weights.astype(np.float32)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.idf_ = array_of(state, "idf").astype(np.float64)
        router.weights_ = array_of(state, "weights").astype(np.float64)
        return router


def hashed(texts: Sequence[str]) -> Any:
    """Return counts of words and pairs, 1 + log(count), as a sparse (n, WIDTH) matrix."""
    return _sparse(_rows(texts))


def _rows(texts: Sequence[str]) -> list[SparseRow]:
    return cached_by_text("tfidf", texts, lambda new: [_counted(text) for text in new])


def _counted(text: str) -> SparseRow:
    """Return the buckets a text fills, and 1 + log(count) of each, as scikit-learn's `HashingVectorizer` does.

    That class is made for thousands of texts; for one short prompt it spends nine tenths of its time on preparations.
    """
    buckets, counts = bucket_counts(_WORD.findall(readable(text)), WIDTH)
    return buckets.astype(np.int32), 1 + np.log(counts)


def _weighted(buckets: NDArray[np.int32], values: FloatArray, idf: FloatArray) -> FloatArray:
    """Return a row at unit length, each count times its bucket's idf."""
    weighted = values * idf[buckets]
    return np.asarray(weighted / max(float(np.sqrt(weighted @ weighted)), 1e-12), dtype=np.float64)


def _sparse(rows: Sequence[SparseRow]) -> Any:
    from scipy.sparse import csr_matrix

    if not rows:
        return csr_matrix((0, WIDTH))
    ends = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    buckets, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return csr_matrix((values, buckets, ends), shape=(len(rows), WIDTH))
