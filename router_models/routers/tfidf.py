"""Words and word pairs, hashed and weighted by rarity, into a ridge regression. No encoder, no vocabulary file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts import State
from router_models.routers.base import RouterModel, array_of, check_fit_input, fitted, squash
from router_models.text_memory import recalled
from router_models.types import FloatArray, Prompts

WIDTH = 2**17
MAX_CHARS = 20_000


class TfidfRouter(RouterModel):
    """Ridge on hashed TF-IDF of words and pairs (2^17 buckets); only the first 20,000 characters are read."""

    family = "tfidf"
    card = "needs the text; under 1 ms per query, 1 MB"

    def __init__(self, alpha: float = 5.0) -> None:
        self.alpha = alpha
        self.idf_: FloatArray | None = None
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.linear_model import Ridge

        y = check_fit_input(X, y)
        counts = hashed(X.texts)
        seen = np.bincount(counts.indices, minlength=WIDTH)
        # A bucket seen once says nothing about other prompts: idf 0 drops it.
        idf = np.where(seen >= 2, np.log((1 + len(y)) / (1 + seen)) + 1, 0.0)
        ridge = Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-4).fit(_weighted(counts, idf), y)
        # float32 is what is stored; using it at once keeps scores equal after loading.
        self.idf_ = idf.astype(np.float32).astype(np.float64)
        self.weights_ = np.append(ridge.coef_, ridge.intercept_).astype(np.float32).astype(np.float64)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        weights, idf = fitted(self.weights_, self.family), fitted(self.idf_, self.family)
        return squash(_weighted(hashed(X.texts), idf) @ weights[:-1] + weights[-1])

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
    """Counts of words and pairs, 1 + log(count), as a sparse (n, WIDTH) matrix."""
    from scipy.sparse import csr_matrix

    if not texts:
        return csr_matrix((0, WIDTH))
    rows = recalled("tfidf", texts, _counted)
    ends = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    buckets, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return csr_matrix((values, buckets, ends), shape=(len(texts), WIDTH))


def _counted(texts: list[str]) -> list[tuple[NDArray[np.int32], FloatArray]]:
    """The buckets a text fills, and 1 + log(count) of each."""
    counts = _vectorizer().transform([text[:MAX_CHARS].encode("utf-8", "replace").decode() for text in texts]).tocsr()
    values, ends = 1 + np.log(counts.data), counts.indptr
    return [(counts.indices[a:b], values[a:b]) for a, b in pairwise(ends)]


@cache
def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=WIDTH, ngram_range=(1, 2), norm=None, alternate_sign=False)


def _weighted(counts: Any, idf: FloatArray) -> Any:
    """Rows of unit length, each count times its bucket's idf."""
    weighted = counts.copy()
    weighted.data = weighted.data * idf[weighted.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(row, weights=weighted.data**2, minlength=counts.shape[0]))
    weighted.data /= np.maximum(norms, 1e-12)[row]
    return weighted
