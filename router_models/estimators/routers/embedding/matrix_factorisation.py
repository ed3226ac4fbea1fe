"""Matrix factorisation of models × prompts: every model a vector, every prompt a projection of its embedding.

RouteLLM's strongest family (Ong et al., arXiv 2406.18665, eq. 7): δ(m, q) = v_m · (W e_q) + b_m. Learned from grades,
σ(δ), or from preference votes, σ(δ_left − δ_right) (Bradley-Terry), or both. A new model is added by fitting its
vector and bias alone, everything else fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

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
from router_models.types import FloatArray, IntArray, Prompts

CHEAP = "cheap"


class MatrixFactorisationRouter(RouterModel):
    """Score prompts by P(acceptable) = σ(δ_model), or, with `against`, by P(wins the vote) = σ(δ_model − δ_against).

    `fit(X, y)` learns the one model 'cheap'; `fit_grades` several at once (what they share makes W better);
    `fit_votes` learns from preferences. `add_model` fits one more vector.

    Parameters
    ----------
    rank : int
        The length of the vectors.
    l2 : float
        The L2 penalty.
    steps : int
        Iterations of L-BFGS, at most.
    seed : int
        Seeds the initial weights.
    model : str
        The model that `predict` scores.
    against : str, optional
        The model that it is compared with; None = no comparison.

    References
    ----------
    Ong et al., "RouteLLM: Learning to route LLMs with preference data", arXiv 2406.18665, eq. 7.
    """

    family = "matrix-factorisation"
    card = "needs embeddings; one small matrix product per query; best with grades or votes on several models"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(
        self, rank: int = 32, l2: float = 3e-4, steps: int = 150, seed: int = 0, model: str = CHEAP,
        against: str | None = None,
    ) -> None:  # fmt: skip
        self.rank, self.l2, self.steps, self.seed, self.model, self.against = rank, l2, steps, seed, model, against
        self.models_: tuple[str, ...] | None = None
        self.projection_: FloatArray | None = None
        self.vectors_: FloatArray | None = None
        self.biases_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        return self.fit_grades(X, {self.model: check_prompts_input(X, y)})

    def fit_grades(self, X: Prompts, grades: Mapping[str, FloatArray]) -> Self:
        """Learn from the grades of several models.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings.
        grades : mapping of str to array of float, (n,)
            Grades in [0, 1] by model; NaN = not graded.

        Returns
        -------
        MatrixFactorisationRouter
            The router itself.
        """
        names = tuple(grades)
        table = np.stack([np.asarray(grades[name], dtype=np.float64) for name in names], axis=1)
        row, column = np.nonzero(np.isfinite(table))
        if table.shape[0] != len(X) or len(row) == 0:
            raise DataError(f"grades of shape {table.shape} for {len(X)} prompts")
        return self._learn(X, names, row, column, None, table[row, column])

    def fit_votes(self, X: Prompts, left: tuple[str, ...], right: tuple[str, ...], y: FloatArray) -> Self:
        """Learn from preference votes.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings.
        left, right : tuple of str
            The two models of each vote.
        y : array of float, (n,)
            1 = the left model won, 0 = the right one, .5 = a tie.

        Returns
        -------
        MatrixFactorisationRouter
            The router itself.
        """
        y = check_prompts_input(X, y)
        if not len(left) == len(right) == len(X):
            raise DataError(f"{len(X)} prompts but {len(left)} left and {len(right)} right models")
        names = tuple(sorted({*left, *right}))
        place = {name: i for i, name in enumerate(names)}
        return self._learn(
            X, names, np.arange(len(X)), np.array([place[m] for m in left]), np.array([place[m] for m in right]), y
        )

    def _learn(
        self, X: Prompts, names: tuple[str, ...], row: IntArray, model: IntArray, other: IntArray | None, y: FloatArray
    ) -> Self:
        import torch

        E = prompt_embeddings(X)
        generator = torch.Generator().manual_seed(self.seed)
        rank = min(self.rank, E.shape[1])
        W = torch.randn(E.shape[1], rank, generator=generator, dtype=torch.float64) / E.shape[1] ** 0.5
        V = torch.randn(len(names), rank, generator=generator, dtype=torch.float64) / rank**0.5
        b = torch.zeros(len(names), dtype=torch.float64)
        parameters = [W.requires_grad_(), V.requires_grad_(), b.requires_grad_()]
        embedded, target = torch.from_numpy(E), torch.from_numpy(y)
        at, one = torch.from_numpy(row), torch.from_numpy(model)
        two = None if other is None else torch.from_numpy(other)

        def loss() -> Any:
            logits = (embedded @ W) @ V.T + b
            delta = logits[at, one] if two is None else logits[at, one] - logits[at, two]
            fit = torch.nn.functional.binary_cross_entropy_with_logits(delta, target)
            return fit + self.l2 * ((W**2).sum() + (V**2).sum())

        _minimise(loss, parameters, self.steps)
        self.models_ = names
        self.projection_, self.vectors_, self.biases_ = (p.detach().numpy() for p in parameters)
        return self

    def add_model(self, name: str, X: Prompts, y: FloatArray) -> Self:
        """Describe one more model; only its vector and bias are fitted.

        Parameters
        ----------
        name : str
            The model; one of that name is replaced.
        X : Prompts
            n prompts with embeddings.
        y : array of float, (n,)
            The model's grades in [0, 1].

        Returns
        -------
        MatrixFactorisationRouter
            The router itself.
        """
        from sklearn.linear_model import LogisticRegression

        y = check_prompts_input(X, y)
        Q = prompt_embeddings(X) @ fitted(self.projection_, self.family)
        spread = np.maximum(Q.std(axis=0), 1e-9)
        model = LogisticRegression(C=0.3, max_iter=500).fit(
            np.concatenate([Q, Q]) / spread, np.repeat([1, 0], len(y)), sample_weight=np.concatenate([y, 1 - y])
        )
        names = fitted(self.models_, self.family)
        keep = [i for i, model in enumerate(names) if model != name]
        self.models_ = (*(names[i] for i in keep), name)
        self.vectors_ = np.vstack([fitted(self.vectors_, self.family)[keep], model.coef_ / spread])
        self.biases_ = np.append(fitted(self.biases_, self.family)[keep], model.intercept_)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        delta = self._logit(X, self.model)
        if self.against is not None:
            delta = delta - self._logit(X, self.against)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(delta, -30, 30))), dtype=np.float64)

    def _logit(self, X: Prompts, name: str) -> FloatArray:
        names, W = fitted(self.models_, self.family), fitted(self.projection_, self.family)
        if name not in names:
            raise DataError(f"unknown model {name!r}; this router knows: {', '.join(names)}")
        E = prompt_embeddings(X)
        if E.shape[1] != len(W):
            raise DataError(f"embeddings of width {E.shape[1]}, but this router was fitted on {len(W)}")
        i = names.index(name)
        return np.asarray(
            E @ (W @ fitted(self.vectors_, self.family)[i]) + fitted(self.biases_, self.family)[i], dtype=np.float64
        )

    def state(self) -> State:
        arrays = {
            "projection": fitted(self.projection_, self.family),
            "vectors": fitted(self.vectors_, self.family),
            "biases": fitted(self.biases_, self.family),
        }
        models = list(fitted(self.models_, self.family))
        return State(arrays, {"models": models, "model": self.model, "against": self.against})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(model=str(meta_of(state, "model")), against=meta_of(state, "against"))
        router.models_ = tuple(meta_of(state, "models"))
        router.projection_ = array_of(state, "projection").astype(np.float64)
        router.vectors_ = array_of(state, "vectors").astype(np.float64)
        router.biases_ = array_of(state, "biases").astype(np.float64)
        return router


def _minimise(loss: Any, parameters: list[Any], steps: int) -> None:
    """Minimise a smooth loss by L-BFGS on the full batch, so that equal data gives equal weights."""
    import torch

    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
