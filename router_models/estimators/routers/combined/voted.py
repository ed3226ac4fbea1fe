"""What grades teach and what votes teach, at equal weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_prompts_input,
    fitted,
    meta_of,
    prompt_embeddings,
)
from router_models.estimators.routers.combined.layered import part_of
from router_models.estimators.routers.embedding.preferences import PreferenceRouter
from router_models.estimators.routers.text.linear import SurfaceRouter
from router_models.types import FloatArray, Prompts

GRADES_ALONE = (0.0, 1.0, 0.0)
LEAST_SLOPE_OF_BOTH = 0.05


class VotedRouter(RouterModel):
    """Score σ(c0 + c1 · logit(of grades) + c2 · logit(of votes)), both of equal weight in units of their spread.

    Without votes the family that learns from grades decides alone.

    Parameters
    ----------
    make : callable, optional
        Makes the router that learns from grades; `SurfaceRouter` by default.
    votes : PreferenceRouter, optional
        Fitted to votes.
    mix : array of float, (3,), optional
        c0, c1 and c2, from `mixing_weights`; needed where there are votes.
    """

    family = "voted"
    card = "needs embeddings, and votes (train --votes); what the family learned from grades costs, and a dot product"
    apart = "it learns from votes: train --votes"
    reads = ("prompt", "embedding", "metadata")
    needs_embeddings = True
    needs_votes = True

    def __init__(
        self,
        make: Callable[[], RouterModel] = SurfaceRouter,
        votes: PreferenceRouter | None = None,
        mix: FloatArray | None = None,
    ) -> None:
        self.make, self.votes = make, votes
        self.mix = np.array(GRADES_ALONE if mix is None or votes is None else mix, dtype=np.float64)
        self.graded_: RouterModel | None = None
        self.grades_, self.width_ = 0, 0

    @property
    def learned_from(self) -> dict[str, int]:
        return {**({} if self.votes is None else self.votes.learned_from), "grades": self.grades_}

    @property
    def labels_read(self) -> tuple[str, ...]:
        return () if self.graded_ is None else self.graded_.labels_read

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        self.width_ = prompt_embeddings(X).shape[1]
        self.graded_, self.grades_ = self.make().fit(X, y), len(y)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        graded = fitted(self.graded_, self.family).predict(X)
        if (width := prompt_embeddings(X).shape[1]) != self.width_:
            raise DataError(f"embeddings of width {width}, but this router was fitted on {self.width_}")
        if self.votes is None:
            return graded
        return mixed(self.mix, graded, self.votes.predict(X))

    def distance(self, X: Prompts) -> FloatArray | None:
        return fitted(self.graded_, self.family).distance(X)

    def state(self) -> State:
        graded = fitted(self.graded_, self.family)
        parts = {"graded": graded.state()} | ({} if self.votes is None else {"votes": self.votes.state()})
        arrays: dict[str, NDArray[Any]] = {f"{k}.{n}": a for k, part in parts.items() for n, a in part.arrays.items()}
        meta: dict[str, Any] = {name: dict(part.meta) for name, part in parts.items()}
        meta |= {"family": graded.family, "grades": self.grades_, "width": self.width_, "parts": list(parts)}
        return State({**arrays, "mix": self.mix}, meta)

    @classmethod
    def from_state(cls, state: State) -> Self:
        from router_models.estimators.routers import ROUTERS  # the registry holds this class

        make = ROUTERS[str(meta_of(state, "family"))]
        has_votes = "votes" in meta_of(state, "parts")
        votes = PreferenceRouter.from_state(part_of(state, "votes")) if has_votes else None
        router = cls(make, votes, array_of(state, "mix").astype(np.float64))
        router.graded_ = make.from_state(part_of(state, "graded"))
        router.grades_, router.width_ = int(meta_of(state, "grades")), int(meta_of(state, "width"))
        return router


def mixed(mix: FloatArray, graded: FloatArray, voted: FloatArray) -> FloatArray:
    """Return the scores of n prompts by what grades and by what votes teach, (n,)."""
    z = mix[0] + mix[1] * log_odds_within(graded) + mix[2] * log_odds_within(voted)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -30, 30))), dtype=np.float64)


def mixing_weights(graded: FloatArray, voted: FloatArray, y: FloatArray) -> FloatArray:
    """Return c0, c1 and c2: both parts at equal weight, each in units of its own spread, at the targets' level.

    Weights that are learned of a few hundred grades are chance more often than knowledge: only the level is learned.

    Parameters
    ----------
    graded, voted : array of float, (n,)
        Scores, of prompts that neither part was fitted on, by what grades and by what votes teach.
    y : array of float, (n,)
        Targets in [0, 1].

    Returns
    -------
    array of float, (3,)
        The level, and the weights of grades and of votes, both above 0.
    """
    from sklearn.linear_model import LogisticRegression

    columns = np.stack([log_odds_within(graded), log_odds_within(voted)], axis=1)
    spread = np.maximum(columns.std(axis=0), 0.02)
    both = (columns / spread).sum(axis=1, keepdims=True)
    model = LogisticRegression(C=1.0, max_iter=500).fit(
        np.concatenate([both, both]), np.repeat([1, 0], len(y)), sample_weight=np.concatenate([y, 1 - y])
    )
    level, slope = float(model.intercept_[0]), float(model.coef_[0, 0])
    if slope < LEAST_SLOPE_OF_BOTH:
        slope = LEAST_SLOPE_OF_BOTH
        level = float(log_odds_within(y.mean(keepdims=True))[0]) - slope * float(both.mean())
    return np.array([level, slope / spread[0], slope / spread[1]])


def log_odds_within(p: FloatArray) -> FloatArray:
    """Return log-odds of probabilities no nearer to 0 and 1 than .01."""
    p = np.clip(p, 0.01, 0.99)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)
