"""Calibrators with few parameters: the right choice below a thousand labels.

Platt (1999) with his smoothed targets; temperature (Guo et al. 2017, arXiv 1706.04599); L2 logistic regression where
there are several features. Measured in docs: these beat isotonic and Venn-Abers on log-loss below n = 1000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, logit

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.calibrators.base import P_MIN, ScoreCalibrator, calibration_targets, columns_of, logit_of
from router_models.types import FloatArray

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


class PlattCalibrator(ScoreCalibrator):
    """Fit p = σ(a·logit(s) + b), a ≥ 0, by maximum likelihood on Platt's smoothed targets.

    Where the best slope is negative (the score ranks in reverse on this data) a is 0 and every score is mapped to the
    base rate: a calibrator must not silently reverse a ranking.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    family = "platt"

    def __init__(self) -> None:
        self.slope_: float | None = None
        self.intercept_: float | None = None

    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        x = logit_of(scores)
        t = smoothed_targets(calibration_targets(y, len(x)))
        slope, intercept = fit_line(x, t)
        if slope <= 0:
            slope, intercept = 0.0, float(logit(t.mean()))
        self.slope_, self.intercept_ = slope, intercept
        return self

    def predict(self, scores: ArrayLike) -> FloatArray:
        if self.slope_ is None or self.intercept_ is None:
            raise NotFittedError("PlattCalibrator: call fit first")
        return inside(expit(self.slope_ * logit_of(scores) + self.intercept_))

    def state(self) -> State:
        return State(meta={"family": self.family, "slope": self.slope_, "intercept": self.intercept_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_family(cls, state)
        self = cls()
        self.slope_, self.intercept_ = float(state.meta["slope"]), float(state.meta["intercept"])
        return self


class TemperatureCalibrator(ScoreCalibrator):
    """Fit p = σ(logit(s) / T): one parameter, for scores that are probabilities and fewer than a hundred labels.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", 2017, arXiv 1706.04599.
    """

    family = "temperature"

    def __init__(self) -> None:
        self.temperature_: float | None = None

    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        from scipy.optimize import minimize_scalar

        x = logit_of(scores)
        t = calibration_targets(y, len(x))

        def loss(log_temperature: float) -> float:
            z = x * np.exp(-log_temperature)
            return -float(np.mean(t * log_expit(z) + (1 - t) * log_expit(-z)))

        self.temperature_ = float(np.exp(minimize_scalar(loss, bounds=(-4.0, 6.0), method="bounded").x))
        return self

    def predict(self, scores: ArrayLike) -> FloatArray:
        if self.temperature_ is None:
            raise NotFittedError("TemperatureCalibrator: call fit first")
        return inside(expit(logit_of(scores) / self.temperature_))

    def state(self) -> State:
        return State(meta={"family": self.family, "temperature": self.temperature_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_family(cls, state)
        self = cls()
        self.temperature_ = float(state.meta["temperature"])
        return self


class LogisticCalibrator(ScoreCalibrator):
    """Fit p = σ(w·z + b) on k standardised features z.

    Infinite features are clipped to the finite range of the training data. Not monotone in any one feature.

    Parameters
    ----------
    C : float
        The inverse of the L2 penalty.
    """

    family = "logistic"

    def __init__(self, C: float = 1.0) -> None:
        self.C = C
        self.weights_: FloatArray | None = None

    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        X = columns_of(scores)
        t = calibration_targets(y, len(X))
        finite = np.where(np.isfinite(X), X, np.nan)
        empty = np.isnan(finite).all(axis=0)
        if empty.any():
            raise DataError(f"feature column(s) {np.flatnonzero(empty).tolist()} hold no finite value")
        self.low_, self.high_ = np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
        X = np.clip(X, self.low_, self.high_)
        self.mean_ = X.mean(axis=0)
        spread = X.std(axis=0)
        self.scale_ = np.where(spread > 1e-12, spread, 1.0)
        fitted = fit_logistic((X - self.mean_) / self.scale_, t, C=self.C)
        self.weights_ = np.asarray(fitted.coef_[0], dtype=np.float64)
        self.intercept_ = float(fitted.intercept_[0])
        return self

    def predict(self, scores: ArrayLike) -> FloatArray:
        if self.weights_ is None:
            raise NotFittedError("LogisticCalibrator: call fit first")
        X = columns_of(scores)
        if X.shape[1] != len(self.weights_):
            raise DataError(f"fitted on {len(self.weights_)} features, got {X.shape[1]}")
        Z = (np.clip(X, self.low_, self.high_) - self.mean_) / self.scale_
        return inside(expit(Z @ self.weights_ + self.intercept_))

    def state(self) -> State:
        if self.weights_ is None:
            raise NotFittedError("LogisticCalibrator: call fit first")
        arrays = {
            "weights": self.weights_,
            "mean": self.mean_,
            "scale": self.scale_,
            "low": self.low_,
            "high": self.high_,
        }
        return State(arrays, {"family": self.family, "C": self.C, "intercept": self.intercept_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_family(cls, state)
        self = cls(float(state.meta["C"]))
        self.weights_, self.intercept_ = state.arrays["weights"], float(state.meta["intercept"])
        self.mean_, self.scale_ = state.arrays["mean"], state.arrays["scale"]
        self.low_, self.high_ = state.arrays["low"], state.arrays["high"]
        return self


def fit_line(x: FloatArray, t: FloatArray) -> tuple[float, float]:
    """Maximum likelihood slope and intercept of σ(a·x + b) for targets t within (0, 1); slope 0 for constant x.

    Newton's method with halved steps: two parameters do not need an optimiser's machinery, and experiments fit
    thousands of these. The smoothed targets keep the optimum finite even where the classes are separable.
    """
    spread = float(x.std())
    if spread < 1e-12:
        return 0.0, float(logit(t.mean()))
    Z = np.column_stack([(x - x.mean()) / spread, np.ones_like(x)])
    w = np.array([0.0, float(logit(t.mean()))])

    def loss(w: FloatArray) -> float:
        z = Z @ w
        return -float(np.sum(t * log_expit(z) + (1 - t) * log_expit(-z)))

    best = loss(w)
    for _ in range(100):
        p = expit(Z @ w)
        curvature = Z.T @ (Z * (p * (1 - p))[:, None]) + 1e-10 * np.eye(2)
        step = np.linalg.solve(curvature, Z.T @ (t - p))
        scale = 1.0
        while (after := loss(w + scale * step)) > best and scale > 1e-6:
            scale /= 2
        if best - after < 1e-10 * (1 + best):
            break
        w, best = w + scale * step, after
    return float(w[0] / spread), float(w[1] - w[0] * x.mean() / spread)


def fit_logistic(X: FloatArray, t: FloatArray, *, C: float) -> LogisticRegression:
    """Fit logistic regression to fractional targets t: each row enters as right with weight t, as wrong with 1 - t."""
    from sklearn.linear_model import LogisticRegression

    n = len(X)
    model = LogisticRegression(C=C, max_iter=2000)
    return model.fit(np.vstack([X, X]), np.repeat([1, 0], n), sample_weight=np.concatenate([t, 1 - t]))


def smoothed_targets(t: FloatArray) -> FloatArray:
    """Return Platt's targets: (N₊+1)/(N₊+2) for right, 1/(N₋+2) for wrong; mixed for fractional grades."""
    right, wrong = t.sum(), (1 - t).sum()
    return np.asarray(t * (right + 1) / (right + 2) + (1 - t) / (wrong + 2), dtype=np.float64)


def inside(p: FloatArray) -> FloatArray:
    """Clip probabilities away from 0 and 1, so that a log-loss stays finite."""
    return np.clip(np.asarray(p, dtype=np.float64), P_MIN, 1 - P_MIN)


def check_family(cls: type[ScoreCalibrator], state: State) -> None:
    """Raise ArtifactError where a stored state belongs to another family of calibrators."""
    found = state.meta.get("family")
    if found != cls.family:
        raise ArtifactError(f"a {cls.family!r} calibrator cannot load the state of {found!r}")
