"""One measured signal behind a calibrator: the base of P(True), self-consistency and reward verifiers.

A raw self-assessment is no probability (Kadavath et al., arXiv 2207.05221: right only after calibration, and small
models overstate). So none is used raw: Platt scaling, σ(a·logit(s) + b), is learned from grades; rows where the
signal was not measured get the base rate.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, NotFittedError
from router_models.estimators.verifiers.base import VerifierModel, check_answers_input, signals_of
from router_models.estimators.verifiers.learned.logistic import Logistic, constant_logistic, folds_by_prompt, logit
from router_models.types import Answers, FloatArray


class SignalVerifier(VerifierModel):
    """Estimate P(acceptable) from the one signal a subclass names; missing or infinite values score `base_rate_`.

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    """

    signal: ClassVar[str]
    is_probability: ClassVar[bool] = True

    def __init__(self, folds: int = 5, seed: int = 0) -> None:
        self.folds = folds
        self.seed = seed
        self.model_: Logistic | None = None
        self.base_rate_ = 0.5

    def read_signal(self) -> str:
        """Return the name of the signal that is read."""
        return self.signal

    @classmethod
    def reads(cls, signal: str) -> bool:
        """Return whether an object of this class may read a signal."""
        return signal == cls.signal

    def column(self, X: Answers) -> FloatArray:
        """Return the signal as the calibrator reads it, (n, 1): log-odds of a probability, else the number itself."""
        raw = signals_of(X, (self.read_signal(),))
        raw = np.where(np.isfinite(raw), raw, np.nan)
        return logit(raw) if self.is_probability else raw

    def fit(self, X: Answers, y: FloatArray) -> Self:
        y = check_answers_input(X, y)
        column = self.column(X)
        measured = np.flatnonzero(np.isfinite(column[:, 0]))
        self.base_rate_ = float(y.mean())
        if len(np.unique(y[measured])) < 2:
            self.model_ = constant_logistic(self.base_rate_, 1)
            return self
        folds = folds_by_prompt([X.prompts.texts[i] for i in measured], y[measured], self.folds, self.seed)
        self.model_ = Logistic.fit(column[measured], y[measured], folds)
        return self

    def predict(self, X: Answers) -> FloatArray:
        if self.model_ is None:
            raise NotFittedError(f"{type(self).__name__} was used before fit")
        column = self.column(X)
        return np.where(np.isfinite(column[:, 0]), self.model_.predict(column), self.base_rate_)

    def state(self) -> State:
        if self.model_ is None:
            raise NotFittedError(f"{type(self).__name__} has no state before fit")
        inner = self.model_.state()
        meta = {"signal": self.read_signal(), "base_rate": self.base_rate_, "folds": self.folds, "seed": self.seed}
        return State(inner.arrays, {**inner.meta, **meta})

    @classmethod
    def from_state(cls, state: State) -> Self:
        if not cls.reads(str(state.meta.get("signal"))):
            raise ArtifactError(f"a calibrator of {state.meta.get('signal')!r}, not of {cls.signal!r}")
        verifier = cls(int(state.meta["folds"]), int(state.meta["seed"]))
        verifier.model_ = Logistic.from_state(state)
        verifier.base_rate_ = float(state.meta["base_rate"])
        return verifier
