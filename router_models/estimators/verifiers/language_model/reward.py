"""A reward or cross-encoder model as a verifier: its score of an answer, on any scale, behind a calibrator."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.verifiers.language_model.signal import SignalVerifier
from router_models.types import Answers, FloatArray
from router_models.types.exchange import verifier_of


class RewardModel(Protocol):
    """Score one exchange; higher is better, on any scale. NaN or infinite = could not be scored."""

    def __call__(self, prompt: str, answer: str) -> float: ...


class RewardVerifier(SignalVerifier):
    """Calibrate a reward: σ(a·reward + b).

    The reward is the score of the verifier model that the batch holds (`reward:NAME`; DataError where `fit` finds
    several), or the batch's signal `reward`, or comes from `reward_model`. The last is not part of the stored state:
    set it again with `with_model` after loading.

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
    card = "needs the score of one verifier model (reward:NAME): whatever that model costs, once per answer"
    needs_signals: ClassVar[tuple[str, ...]] = ("reward",)
    signal = "reward"
    is_probability = False

    def __init__(self, folds: int = 5, seed: int = 0, reward_model: RewardModel | None = None) -> None:
        super().__init__(folds, seed)
        self.reward_model = reward_model
        self.signal_: str | None = None

    @property
    def wants_signals(self) -> tuple[str, ...]:
        return (self.read_signal(),)

    def read_signal(self) -> str:
        return self.signal_ or self.signal

    @classmethod
    def reads(cls, signal: str) -> bool:
        return signal == cls.signal or verifier_of(signal) is not None

    def fit(self, X: Answers, y: FloatArray) -> Self:
        scores = [name for name in X.signals if verifier_of(name) is not None]
        if len(scores) > 1:
            raise DataError(f"a reward verifier reads one model's score; the batch holds {', '.join(scores)}")
        self.signal_ = scores[0] if scores else None
        return super().fit(X, y)

    @classmethod
    def from_state(cls, state: State) -> Self:
        verifier = super().from_state(state)
        signal = str(state.meta["signal"])
        verifier.signal_ = None if signal == cls.signal else signal
        return verifier

    def with_model(self, reward_model: RewardModel) -> Self:
        """Set the reward model that scores batches without the signal `reward`; returns self."""
        self.reward_model = reward_model
        return self

    def column(self, X: Answers) -> FloatArray:
        if self.read_signal() in X.signals or self.signal_ is not None:
            return super().column(X)
        if self.reward_model is None:
            raise DataError("this verifier needs the signal reward, or a reward model (`with_model`) to compute it")
        pairs = zip(X.prompts.texts, X.texts, strict=True)
        rewards = np.array([float(self.reward_model(p, a)) for p, a in pairs], dtype=np.float64)
        return np.where(np.isfinite(rewards), rewards, np.nan)[:, None]
