"""What tests of router families draw from: prompts whose difficulty is known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.types import FloatArray, Prompts


@pytest.fixture(scope="session")
def clusters() -> Callable[..., tuple[Prompts, NDArray[np.int64]]]:
    """`clusters(per)`: prompts around four directions, `per` each; the label is which."""

    def make(per: int, seed: int = 0, spread: float = 0.15, dim: int = 16) -> tuple[Prompts, NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        label = np.repeat(np.arange(4), per)
        vectors = np.eye(dim, dtype=np.float32)[label] + spread * rng.normal(size=(4 * per, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = tuple(f"topic {k} question {i}" for i, k in enumerate(label))
        return Prompts(texts, vectors, {"task": tuple(f"t{k}" for k in label)}), label

    return make


@pytest.fixture(scope="session")
def draws() -> Callable[..., FloatArray]:
    """`draws(p, seed=1)`: 0 or 1 each, 1 with probability p."""
    return lambda p, seed=1: (np.random.default_rng(seed).uniform(size=len(p)) < p).astype(np.float64)


@pytest.fixture(scope="session")
def auc() -> Callable[[FloatArray, FloatArray], float]:
    """`auc(scores, y)`, by comparing every pair: a yardstick of its own."""

    def of(scores: FloatArray, y: FloatArray) -> float:
        good, bad = scores[y == 1][:, None], scores[y == 0][None]
        return float((good > bad).mean() + (good == bad).mean() / 2)

    return of
