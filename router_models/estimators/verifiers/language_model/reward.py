"""A reward model as a verifier: any callable (prompt, answer) → number, behind a calibrator."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import numpy as np

from router_models.errors import DataError
from router_models.estimators.verifiers.language_model.signal import SignalVerifier
from router_models.types import Answers, FloatArray


class RewardModel(Protocol):
    """Score one exchange; higher is better, on any scale. NaN or infinite = could not be scored."""

    def __call__(self, prompt: str, answer: str) -> float: ...


class RewardVerifier(SignalVerifier):
    """Calibrate a reward: σ(a·reward + b).

    The reward comes from the batch's signal `reward` where that is given, else from `reward_model`. The model itself
    is not part of the stored state: set it again with `with_model` after loading.

    Parameters
    ----------
    folds : int
        Inner folds that choose the penalty.
    seed : int
        Seeds the folds.
    reward_model : callable, optional
        Scores (prompt, answer); higher is better, on any scale.
    """

    family = "reward"
    card = "needs the signal reward or a reward model to ask: whatever that model costs, once per answer"
    needs_signals: ClassVar[tuple[str, ...]] = ("reward",)
    signal = "reward"
    is_probability = False

    def __init__(self, folds: int = 5, seed: int = 0, reward_model: RewardModel | None = None) -> None:
        super().__init__(folds, seed)
        self.reward_model = reward_model

    def with_model(self, reward_model: RewardModel) -> Self:
        """Set the reward model that scores batches without the signal `reward`; returns self."""
        self.reward_model = reward_model
        return self

    def column(self, X: Answers) -> FloatArray:
        if self.signal in X.signals:
            return super().column(X)
        if self.reward_model is None:
            raise DataError("this verifier needs the signal reward, or a reward model (`with_model`) to compute it")
        pairs = zip(X.prompts.texts, X.texts, strict=True)
        rewards = np.array([float(self.reward_model(p, a)) for p, a in pairs], dtype=np.float64)
        return np.where(np.isfinite(rewards), rewards, np.nan)[:, None]
