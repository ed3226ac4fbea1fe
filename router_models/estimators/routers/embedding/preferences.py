"""Bradley-Terry per prompt, learned once: how much a prompt tells strong models from weak ones.

Votes are on many pairs of models, and hardly any on the two that a router chooses between. What a vote on models a and
b says of the prompt depends on how far apart they are: P(a wins | q) = σ(r_ab · g(q)), with r_ab the difference of
their overall Bradley-Terry strengths over that of the pair of interest, and g(q) linear in the prompt's surface and
embedding. g is large where strength decides, and 0 where any model does as well as any other; the pair's own votes
have r = ±1, and votes on models of equal strength say nothing. The score is σ(-g(q)): how likely the cheaper model
wins against the dearer one. RouteLLM puts models into tiers by strength for the same purpose (arXiv 2406.18665, 4.1).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION, surface_features
from router_models.errors import DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_features_version,
    check_prompts_input,
    fitted,
    meta_of,
    prompt_embeddings,
)
from router_models.estimators.routers.combined.stacked import folds_by_text
from router_models.estimators.routers.embedding.bradley_terry import CHEAP, FRONTIER, bradley_terry
from router_models.types import FloatArray, Prompts

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Candidates for the inverse of the L2 penalty; the one of least out-of-fold log-loss is taken."""
MOST_VOTES = 50_000
FARTHEST = 3.0
"""Votes on models that lie farther apart than so many times the pair's distance count as if they lay so far apart."""
LEAST_GAP = 0.2
"""The least difference of strengths that two tiers are taken to have, in log-odds."""


class PreferenceRouter(RouterModel):
    """Score prompts by P(cheap wins against frontier) = σ(-g(q)), learned from votes on any models.

    `fit(X, y)` takes every prompt as a vote of cheap against frontier with result y; `fit_votes` takes votes.

    Parameters
    ----------
    cheap, frontier : str
        The names of the two models among the votes. Where votes name neither, prompts are ordered all the same.
    penalty : float, optional
        The inverse of the L2 penalty; None: chosen out of fold.
    seed : int
        Seeds the folds, and the sample of more than `MOST_VOTES` votes.

    Attributes
    ----------
    weights_ : array of float, (d,)
        Of g: the level, the surface features, the embedding.
    votes_ : int
        How many votes it learned from.
    strengths_ : dict of str to float
        The models' overall strengths in log-odds, mean 0.
    """

    family = "preferences"
    card = "needs embeddings, and votes (train --votes); one dot product per query"
    apart = "it learns from votes (train --votes); from grades alone it is no better than ridge"
    reads = ("prompt", "embedding")
    needs_embeddings = True
    needs_votes = True

    def __init__(
        self, cheap: str = CHEAP, frontier: str = FRONTIER, penalty: float | None = None, seed: int = 0
    ) -> None:
        self.cheap, self.frontier, self.penalty, self.seed = cheap, frontier, penalty, seed
        self.weights_: FloatArray | None = None
        self.surface_: FloatArray | None = None
        self.strengths_: dict[str, float] = {}
        self.votes_ = 0

    @property
    def learned_from(self) -> dict[str, int]:
        return {"votes": self.votes_} if self.votes_ else {}

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        self._learn(X, np.full(len(y), -1.0), y)
        self.strengths_, self.votes_ = {}, 0
        return self

    def fit_votes(self, X: Prompts, left: tuple[str, ...], right: tuple[str, ...], y: FloatArray) -> Self:
        """Learn from votes.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings, one a vote.
        left, right : tuple of str
            The two models of each vote.
        y : array of float, (n,)
            1 = the left model won, 0 = the right one, .5 = a tie.

        Returns
        -------
        PreferenceRouter
            The router itself.

        Raises
        ------
        DataError
            For columns of unequal length, and where all models are equally strong, so that no vote says anything.
        """
        y = check_prompts_input(X, y, classes=1)
        if not len(left) == len(right) == len(X):
            raise DataError(f"{len(X)} prompts but {len(left)} left and {len(right)} right models")
        self.strengths_ = strengths_of(left, right, y)
        apart = self._apart(left, right)
        says = np.flatnonzero(np.abs(apart) > 1e-3)
        if not len(says):
            raise DataError("all models of the votes are equally strong: no vote says which prompts need the stronger")
        if len(says) > MOST_VOTES:
            says = np.sort(np.random.default_rng(self.seed).permutation(says)[:MOST_VOTES])
        self._learn(X.take(says), apart[says], y[says])
        self.votes_ = len(says)
        return self

    def _apart(self, left: tuple[str, ...], right: tuple[str, ...]) -> FloatArray:
        """Return how far left lies above right, in distances of frontier above cheap, (n,)."""
        known = self.strengths_
        values = np.array(list(known.values()))
        gap = float(values.max() - values.min()) / 2
        if {self.cheap, self.frontier} <= known.keys():
            gap = max(known[self.frontier] - known[self.cheap], LEAST_GAP)
        own = {(self.frontier, self.cheap): 1.0, (self.cheap, self.frontier): -1.0}
        found = [own.get((a, b), (known[a] - known[b]) / max(gap, 1e-9)) for a, b in zip(left, right, strict=True)]
        return np.clip(np.array(found, dtype=np.float64), -FARTHEST, FARTHEST)

    def _learn(self, X: Prompts, apart: FloatArray, y: FloatArray) -> None:
        surface = surface_features(X.texts)
        self.surface_ = np.stack([surface.mean(axis=0), np.maximum(surface.std(axis=0), 1e-6)])
        A = self._inputs(X) * apart[:, None]
        if self.penalty is None:
            fold = folds_by_text(X.texts, 3, self.seed)
            losses = [self._left_out_loss(A, y, fold, penalty) for penalty in PENALTIES]
            self.penalty = PENALTIES[int(np.argmin(losses))]
        self.weights_ = _logistic(A, y, self.penalty)

    def _left_out_loss(self, A: FloatArray, y: FloatArray, fold: NDArray[Any], penalty: float) -> float:
        total = 0.0
        for k in np.unique(fold):
            inside = fold != k
            if not inside.any():
                continue
            z = A[~inside] @ _logistic(A[inside], y[inside], penalty)
            total += float((np.logaddexp(0, z) - y[~inside] * z).sum())
        return total

    def _inputs(self, X: Prompts) -> FloatArray:
        mean, spread = fitted(self.surface_, self.family)
        E = prompt_embeddings(X)
        surface = np.clip((surface_features(X.texts) - mean) / spread, -4.0, 4.0)
        return np.concatenate([np.full((len(X), 1), 10.0), surface, E * np.sqrt(E.shape[1])], axis=1)

    def predict(self, X: Prompts) -> FloatArray:
        weights = fitted(self.weights_, self.family)
        A = self._inputs(X)
        if A.shape[1] != len(weights):
            width = len(weights) - A.shape[1] + prompt_embeddings(X).shape[1]
            raise DataError(
                f"embeddings of width {prompt_embeddings(X).shape[1]}, but this router was fitted on {width}"
            )
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(A @ weights, -30, 30))), dtype=np.float64)

    def state(self) -> State:
        arrays = {"weights": fitted(self.weights_, self.family), "surface": fitted(self.surface_, self.family)}
        names = ("cheap", "frontier", "penalty", "seed")
        meta = {name: getattr(self, name) for name in names}
        return State(
            arrays,
            meta | {"features_version": FEATURES_VERSION, "votes": self.votes_, "strengths": dict(self.strengths_)},
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_features_version(state)
        router = cls(str(meta_of(state, "cheap")), str(meta_of(state, "frontier")), float(meta_of(state, "penalty")))
        router.seed = int(meta_of(state, "seed"))
        router.weights_ = array_of(state, "weights").astype(np.float64)
        router.surface_ = array_of(state, "surface").astype(np.float64)
        router.votes_ = int(meta_of(state, "votes"))
        router.strengths_ = {str(name): float(value) for name, value in meta_of(state, "strengths").items()}
        return router


def strengths_of(left: tuple[str, ...], right: tuple[str, ...], y: FloatArray, prior: float = 1.0) -> dict[str, float]:
    """Return every model's overall strength in log-odds, mean 0; `prior` drawn votes a pair keep it finite."""
    names = sorted({*left, *right})
    place, size = {name: i for i, name in enumerate(names)}, len(names)
    a, b = (np.array([place[name] for name in side], dtype=np.int64) for side in (left, right))
    wins = np.bincount(a * size + b, weights=y, minlength=size**2)
    wins += np.bincount(b * size + a, weights=1 - y, minlength=size**2)
    found = bradley_terry(wins.reshape(size, size) + prior / 2 * (1 - np.eye(size)))
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def _logistic(A: FloatArray, y: FloatArray, penalty: float) -> FloatArray:
    """Return weights of least penalised log-loss for targets in [0, 1]; their level is the first column's."""
    from sklearn.linear_model import LogisticRegression

    won, lost = np.flatnonzero(y > 0), np.flatnonzero(y < 1)
    if not len(won) or not len(lost):  # one result alone: turned round it is the other
        A, y = np.concatenate([A, -A]), np.concatenate([y, 1 - y])
        won, lost = np.flatnonzero(y > 0), np.flatnonzero(y < 1)
    model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=300, tol=1e-6)
    rows, classes = np.concatenate([won, lost]), np.repeat([1, 0], [len(won), len(lost)])
    model.fit(A[rows], classes, sample_weight=np.concatenate([y[won], 1 - y[lost]]))
    return np.asarray(model.coef_[0], dtype=np.float64)
