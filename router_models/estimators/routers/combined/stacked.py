"""Several families averaged, with weights learned on out-of-fold predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.text_cache import each_text_once
from router_models.errors import ArtifactError
from router_models.estimators.routers.base import RouterModel, array_of, check_prompts_input, fitted, meta_of
from router_models.estimators.routers.baselines.length import LengthRouter
from router_models.estimators.routers.embedding.knn import KnnRouter
from router_models.estimators.routers.embedding.ridge import RidgeRouter
from router_models.estimators.routers.text.forest import ForestRouter
from router_models.estimators.routers.text.linear import SurfaceRouter
from router_models.estimators.routers.text.surface_forest import SurfaceForestRouter
from router_models.estimators.routers.text.tfidf import TfidfRouter
from router_models.types import FloatArray, IntArray, Prompts

MEMBERS: Mapping[str, type[RouterModel]] = MappingProxyType(
    {
        cls.family: cls
        for cls in (
            LengthRouter,
            SurfaceRouter,
            SurfaceForestRouter,
            TfidfRouter,
            RidgeRouter,
            KnnRouter,
            ForestRouter,
        )
    }
)
Maker = Callable[[], RouterModel]


class StackedRouter(RouterModel):
    """Average members: score = Σ w_m p_m, w ≥ 0 and Σ w = 1 by least squares on out-of-fold predictions.

    Parameters
    ----------
    members : tuple of str
        Families in `MEMBERS`.
    folds : int
        Folds for the out-of-fold predictions.
    seed : int
        Seeds the folds.
    """

    family = "stacked"
    card = "needs embeddings; every member's cost (about 2 ms per query)"
    reads = ("prompt", "embedding", "metadata")
    needs_embeddings = True

    def __init__(self, members: tuple[str, ...] = ("ridge", "knn", "tfidf"), folds: int = 4, seed: int = 0) -> None:
        self.members, self.folds, self.seed = members, folds, seed
        self.fitted_: tuple[RouterModel, ...] | None = None
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        makers = [MEMBERS[name] for name in self.members]
        with each_text_once():
            predictions = out_of_fold(makers, X, y, folds_by_text(X.texts, self.folds, self.seed))
            self.fitted_ = tuple(make().fit(X, y) for make in makers)
        self.weights_ = stack_weights(predictions, y)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        members = fitted(self.fitted_, self.family)
        scores = np.stack([m.predict(X) for m in members], axis=1)
        return np.clip(scores @ fitted(self.weights_, self.family), 0.0, 1.0)

    def state(self) -> State:
        return pack(fitted(self.fitted_, self.family), {"weights": fitted(self.weights_, self.family)}, {})

    @classmethod
    def from_state(cls, state: State) -> Self:
        members = unpack(state)
        router = cls(tuple(m.family for m in members))
        router.fitted_ = members
        router.weights_ = array_of(state, "weights").astype(np.float64)
        return router


def out_of_fold(makers: Sequence[Maker], X: Prompts, y: FloatArray, fold: IntArray) -> FloatArray:
    """Return predictions (n, members) for every prompt by members fitted on the other folds."""
    predictions = np.empty((len(y), len(makers)))
    for f in np.unique(fold):
        inside, outside = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        train, test, target = X.take(inside), X.take(outside), y[inside]
        for m, make in enumerate(makers):
            # One class in the training part: nothing to learn, its mean is the prediction.
            constant = len(np.unique(target)) < 2
            predictions[outside, m] = target.mean() if constant else make().fit(train, target).predict(test)
    return predictions


def folds_by_text(texts: Sequence[str], folds: int, seed: int) -> IntArray:
    """Assign a fold to every prompt by its text's hash: texts that are equal but for case and spacing share a fold."""
    keys = (f"{seed}:{' '.join(text.lower().split())}" for text in texts)
    digests = (hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest() for key in keys)
    return np.array([int.from_bytes(d[:8], "big") % folds for d in digests], dtype=np.int64)


def stack_weights(
    predictions: FloatArray, y: FloatArray, prior: FloatArray | None = None, strength: float = 0.3
) -> FloatArray:
    """Return the weights of least squared error on out-of-fold predictions, regularised towards a prior.

    A convex combination needs no level or slope of its own, so that blends fitted separately stay comparable.

    Parameters
    ----------
    predictions : array of float, (n, members)
        Out-of-fold predictions.
    y : array of float, (n,)
        Targets.
    prior : array of float, (members,), optional
        The weights to stay near; uniform by default.
    strength : float
        How strongly, in units of the members' own mean spread: 1 = as strongly as the data.

    Returns
    -------
    array of float, (members,)
        At least 0, with sum 1.
    """
    from scipy.optimize import nnls

    n, m = predictions.shape
    prior = np.full(m, 1 / m) if prior is None else prior
    mean = predictions.mean(axis=0)
    A = predictions - mean
    pull = np.sqrt(strength * n * max(float(A.var(axis=0).mean()), 1e-12)) * np.eye(m)
    # The last row is the sum constraint, as an equation that outweighs all others.
    heavy = 1e3 * np.sqrt(n)
    weights, _ = nnls(
        np.vstack([A, pull, np.full((1, m), heavy)]), np.concatenate([y - y.mean(), pull @ prior, [heavy]])
    )
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def pack(members: Sequence[RouterModel], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, object]) -> State:
    """Return one state for an ensemble: every member's arrays and metadata under its family's name."""
    states = {m.family: m.state() for m in members}
    named = {f"{family}.{name}": a for family, s in states.items() for name, a in s.arrays.items()}
    metas = {family: dict(s.meta) for family, s in states.items()}
    return State(named | dict(arrays), {**meta, "members": [m.family for m in members], "member_meta": metas})


def unpack(state: State) -> tuple[RouterModel, ...]:
    """Return the members that `pack` stored, in order; ArtifactError for an unknown family."""
    metas = meta_of(state, "member_meta")
    members = []
    for family in meta_of(state, "members"):
        if family not in MEMBERS:
            raise ArtifactError(f"the stored ensemble has a member {family!r} unknown to this version")
        prefix = f"{family}."
        arrays = {n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)}
        members.append(MEMBERS[family].from_state(State(arrays, metas.get(family, {}))))
    return tuple(members)
