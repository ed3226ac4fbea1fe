"""Have the prompts' embeddings shifted? Two windows of sums of random features, which tell no single embedding. Pure.

The features are those of a Gaussian kernel (Rahimi and Recht 2007): the distance between the means of two windows is
their maximum mean discrepancy (Gretton et al. 2012, JMLR 13), up to the features' noise, so that any change of the
distribution may show, not one of the mean alone. What is kept are the means of blocks of requests. Where nothing has
changed all ways to divide the blocks among both windows are equally probable: the p-value is that of a permutation
test, exact at any number of blocks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.types import FloatArray

FEATURES = 64
BLOCKS = 20
"""Blocks of a window."""
DRAWS, ENOUGH = 9_999, 20
"""Permutations at most, and those as far apart as the windows after which there need be no more."""


def random_features(vectors: ArrayLike, encoder: str) -> FloatArray:
    """Features of embeddings, (n, FEATURES), for vectors (n, d) of about unit length.

    `encoder` names what made them: the features follow from it and are the same on every machine.
    """
    x = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    directions, phases = _features(encoder, x.shape[1])
    return np.asarray(np.sqrt(2 / FEATURES) * np.cos(x @ directions + phases), dtype=np.float64)


@lru_cache(maxsize=8)
def _features(encoder: str, dimensions: int) -> tuple[FloatArray, FloatArray]:
    seed = int.from_bytes(hashlib.sha256(f"features {encoder}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    return rng.normal(size=(dimensions, FEATURES)), rng.uniform(0, 2 * np.pi, FEATURES)


@dataclass(frozen=True, slots=True)
class EmbeddingShift:
    """How far two windows are apart: `distance`, `expected` where nothing has changed, and the test's p-value."""

    distance: float
    expected: float
    p_value: float


def embedding_shift(before: ArrayLike, now: ArrayLike) -> EmbeddingShift:
    """Compare two windows.

    Parameters
    ----------
    before, now : array of float64, (blocks, k)
        The blocks' means, of equally many requests each.

    Returns
    -------
    EmbeddingShift
        The p-value is P(windows are as far apart by chance), by permutations, at least 1/(`DRAWS` + 1). Drawing ends
        at the `ENOUGH`th that is as far apart (Besag and Clifford 1991), which leaves it valid.

    Raises
    ------
    DataError
        Where a window holds no block, or their features differ in number.
    """
    a, b = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (before, now))
    if not a.size or not b.size or a.shape[1] != b.shape[1]:
        raise DataError(f"need two windows of blocks with the same features, got shapes {a.shape} and {b.shape}")
    rows = np.vstack([a, b])
    inner = rows @ rows.T
    weights = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    found = float(weights @ inner @ weights)
    as_far = drawn = 0
    squares: list[FloatArray] = []
    rng = np.random.default_rng(0)
    while drawn < DRAWS and as_far < ENOUGH:
        ways = rng.permuted(np.tile(weights, (min(333, DRAWS - drawn), 1)), axis=1)
        square = np.einsum("ij,ij->i", ways @ inner, ways)
        squares.append(square)
        reached = np.flatnonzero(square >= found * (1 - 1e-9))
        if as_far + len(reached) >= ENOUGH:
            p = ENOUGH / (drawn + int(reached[ENOUGH - as_far - 1]) + 1)
            return EmbeddingShift(*_distances(found, squares), p)
        as_far, drawn = as_far + len(reached), drawn + len(square)
    return EmbeddingShift(*_distances(found, squares), (as_far + 1) / (drawn + 1))


def _distances(found: float, squares: list[FloatArray]) -> tuple[float, float]:
    return float(np.sqrt(max(found, 0.0))), float(np.sqrt(np.maximum(np.concatenate(squares), 0.0)).mean())
