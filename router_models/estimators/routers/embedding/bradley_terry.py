"""Similarity-weighted Bradley-Terry ranking: RouteLLM's router without training (arXiv 2406.18665, section 4.1).

For a new prompt every past battle is weighted by the similarity of its prompt to the new one, and a Bradley-Terry
model is fitted to the weighted battles at query time; the score is the cheap model's probability to win against the
frontier.
"""

from __future__ import annotations

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
from router_models.estimators.routers.embedding.knn import half_precision
from router_models.types import FloatArray, IntArray, Prompts

CHEAP, FRONTIER = "cheap", "frontier"


class BradleyTerryRouter(RouterModel):
    """Score prompts by P(cheap beats frontier), with battles weighted by γ^(cosine / largest cosine).

    In `fit(X, y)` each prompt is a battle of cheap against frontier, and y the cheap one's result (1 as good, 0 lost);
    `fit_battles` takes battles among any number of models.

    Parameters
    ----------
    gamma : float
        The base of the weights; larger = more local.
    prior : float
        Drawn battles added per pair of models; they keep the strength of a model that never lost finite.
    cheap, frontier : str
        The names of the two models among the battles.

    References
    ----------
    Ong et al., "RouteLLM: Learning to route LLMs with preference data", arXiv 2406.18665, section 4.1.
    """

    family = "bradley-terry"
    card = "needs embeddings and votes; no training, but a small ranking per query over all votes (some ms)"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(self, gamma: float = 10.0, prior: float = 1.0, cheap: str = CHEAP, frontier: str = FRONTIER) -> None:
        self.gamma, self.prior, self.cheap, self.frontier = gamma, prior, cheap, frontier
        self.memory_: NDArray[np.float32] | None = None
        self.battles_: IntArray | None = None
        self.results_: FloatArray | None = None
        self.models_: tuple[str, ...] | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        return self.fit_battles(X, (self.cheap,) * len(X), (self.frontier,) * len(X), y)

    def fit_battles(self, X: Prompts, left: tuple[str, ...], right: tuple[str, ...], y: FloatArray) -> Self:
        """Store battles.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings.
        left, right : tuple of str
            The two models of each battle.
        y : array of float, (n,)
            1 = the left model won, 0 = the right one, .5 = a draw.

        Returns
        -------
        BradleyTerryRouter
            The router itself.
        """
        y = check_prompts_input(X, y)
        if not len(left) == len(right) == len(X):
            raise DataError(f"{len(X)} prompts but {len(left)} left and {len(right)} right models")
        names = tuple(sorted({*left, *right}))
        missing = {self.cheap, self.frontier} - set(names)
        if missing:
            raise DataError(f"no battle of {', '.join(sorted(missing))}; models in the battles: {', '.join(names)}")
        place = {name: i for i, name in enumerate(names)}
        self.memory_ = half_precision(prompt_embeddings(X))
        self.battles_ = np.array([[place[a], place[b]] for a, b in zip(left, right, strict=True)], dtype=np.int64)
        self.results_, self.models_ = y, names
        return self

    def predict(self, X: Prompts) -> FloatArray:
        memory, battles = fitted(self.memory_, self.family), fitted(self.battles_, self.family)
        results, names = fitted(self.results_, self.family), fitted(self.models_, self.family)
        E = prompt_embeddings(X)
        if E.shape[1] != memory.shape[1]:
            raise DataError(f"embeddings of width {E.shape[1]}, but this router was fitted on {memory.shape[1]}")
        size = len(names)
        i, j = names.index(self.cheap), names.index(self.frontier)
        # wins[m, n] as one flat index per battle and side, so that a query's table is one weighted bincount.
        forward, backward = battles @ [size, 1], battles @ [1, size]
        out = np.empty(len(E))
        for row in range(len(E)):
            cosine = memory @ E[row].astype(np.float32)
            weight = self.gamma ** (1 + cosine / max(float(cosine.max()), 1e-6))
            weight = weight * (len(weight) / weight.sum())
            wins = np.bincount(forward, weights=weight * results, minlength=size**2)
            wins += np.bincount(backward, weights=weight * (1 - results), minlength=size**2)
            strength = bradley_terry(wins.reshape(size, size) + self.prior / 2 * (1 - np.eye(size)))
            out[row] = 1.0 / (1.0 + np.exp(strength[j] - strength[i]))
        return out

    def state(self) -> State:
        arrays: dict[str, NDArray[Any]] = {
            "memory": fitted(self.memory_, self.family).astype(np.float16),
            "battles": fitted(self.battles_, self.family),
            "results": fitted(self.results_, self.family),
        }
        names = ("gamma", "prior", "cheap", "frontier")
        return State(
            arrays, {n: getattr(self, n) for n in names} | {"models": list(fitted(self.models_, self.family))}
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(
            float(meta_of(state, "gamma")),
            float(meta_of(state, "prior")),
            str(meta_of(state, "cheap")),
            str(meta_of(state, "frontier")),
        )
        router.models_ = tuple(meta_of(state, "models"))
        router.memory_ = array_of(state, "memory").astype(np.float32)
        router.battles_ = array_of(state, "battles").astype(np.int64)
        router.results_ = array_of(state, "results").astype(np.float64)
        return router


def bradley_terry(wins: FloatArray, rounds: int = 200, tolerance: float = 1e-9) -> FloatArray:
    """Return the maximum-likelihood log-strengths (m,), mean 0, for wins[a, b] = weight of a's wins over b.

    Hunter's MM iteration (Annals of Statistics 32, 2004); two models have a closed form.
    """
    if len(wins) == 2:
        half = 0.5 * float(np.log(wins[0, 1] / wins[1, 0]))
        return np.array([half, -half])
    won, met = wins.sum(axis=1), wins + wins.T
    np.fill_diagonal(met, 0.0)
    strength = np.ones(len(wins))
    for _ in range(rounds):
        update = won / (met / (strength[:, None] + strength[None, :])).sum(axis=1)
        update /= np.exp(np.log(update).mean())
        if np.abs(np.log(update / strength)).max() < tolerance:
            strength = update
            break
        strength = update
    return np.asarray(np.log(strength))
