"""What the cheap tier says before it answers, beside what the prompt's words say: one calibrated estimate.

The base estimate is the linear router's, out of fold; the signals (P(yes), the first token's entropy) are further
columns of one L2 logistic regression. A model that attempts the question knows what no reader of prompts can
(Kadavath et al., arXiv 2207.05221).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, DataError
from router_models.estimators.routers.base import RouterModel, check_prompts_input, fitted
from router_models.estimators.routers.combined.stacked import folds_by_text, out_of_fold
from router_models.estimators.routers.text.linear import LinearRouter
from router_models.estimators.verifiers.learned.logistic import Logistic, logit
from router_models.estimators.verifiers.learned.nested_state import join_states, split_state
from router_models.types import FloatArray, Prompts
from router_models.types.exchange import BEFORE_NAMES

PROBABILITIES = frozenset({"p_yes"})


class AskedFirstRouter(RouterModel):
    """Fit one logistic regression over the linear router's score and the signals that the training prompts have.

    `signals_` are those with a measured value; `predict` needs the same (DataError names what is missing), with NaN
    for single values that were not measured.

    Parameters
    ----------
    folds : int
        Folds for the base router's out-of-fold scores, and those that choose the penalty.
    seed : int
        Seeds the folds.
    """

    family = "asked-first"
    card = "needs embeddings and what the cheap tier says before it answers (p_yes, first_token_entropy): a token each"
    apart = "asks the cheap tier about every prompt, which recorded outcomes need not hold"
    reads = ("prompt", "embedding", "metadata", "p_yes", "first_token_entropy")
    needs_embeddings = True
    needs_signals = BEFORE_NAMES

    def __init__(self, folds: int = 4, seed: int = 0) -> None:
        self.folds, self.seed = folds, seed
        self.signals_: tuple[str, ...] = ()
        self.base_: LinearRouter | None = None
        self.model_: Logistic | None = None

    @property
    def wants_signals(self) -> tuple[str, ...]:
        return self.signals_

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        self.signals_ = tuple(n for n in BEFORE_NAMES if n in X.signals and np.isfinite(X.signals[n]).any())
        if not self.signals_:
            raise DataError(f"the router {self.family} needs one of the signals {', '.join(BEFORE_NAMES)}")
        fold = folds_by_text(X.texts, self.folds, self.seed)
        scores = out_of_fold([LinearRouter], X, y, fold)[:, 0]
        self.base_ = LinearRouter().fit(X, y)
        self.model_ = Logistic.fit(self._columns(X, scores), y, fold)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        base = fitted(self.base_, self.family)
        return fitted(self.model_, self.family).predict(self._columns(X, base.predict(X)))

    @property
    def labels_read(self) -> tuple[str, ...]:
        return () if self.base_ is None else self.base_.labels_read

    def distance(self, X: Prompts) -> FloatArray | None:
        return fitted(self.base_, self.family).distance(X)

    def _columns(self, X: Prompts, base: FloatArray) -> FloatArray:
        if missing := [name for name in self.signals_ if name not in X.signals]:
            raise DataError(f"the router {self.family} needs the signal(s) {', '.join(missing)}")
        raw = [np.asarray(X.signals[name], dtype=np.float64) for name in self.signals_]
        raw = [np.where(np.isfinite(column), column, np.nan) for column in raw]
        read = [logit(c) if n in PROBABILITIES else c for n, c in zip(self.signals_, raw, strict=True)]
        return np.column_stack([logit(base), *read])

    def state(self) -> State:
        parts = {"base": fitted(self.base_, self.family).state(), "model": fitted(self.model_, self.family).state()}
        return join_states(parts, {"signals": list(self.signals_), "folds": self.folds, "seed": self.seed})

    @classmethod
    def from_state(cls, state: State) -> Self:
        parts, own = split_state(state)
        try:
            router = cls(int(own["folds"]), int(own["seed"]))
            router.signals_ = tuple(own["signals"])
        except KeyError as error:
            raise ArtifactError(f"not a stored router of the family {cls.family}: {error!r}") from error
        router.base_ = LinearRouter.from_state(parts["base"])
        router.model_ = Logistic.from_state(parts["model"])
        return router
