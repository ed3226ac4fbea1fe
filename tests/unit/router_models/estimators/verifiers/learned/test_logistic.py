"""The regression under the verifiers finds what scikit-learn finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from router_models.estimators.verifiers.learned.logistic import STRENGTHS, Logistic, mean_log_loss, sigmoid


def drawn(seed: int, n: int, d: int, fractional: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of which the first decides and the last repeats it, grades, and folds."""
    chance = np.random.default_rng(seed)
    F = chance.normal(size=(n, d))
    y = (chance.random(n) < sigmoid(2 * F[:, 0])).astype(np.float64)
    y[:20] = np.arange(20) % 2
    F[:, -1] = 3 * F[:, 0]
    return F, 0.8 * y + 0.1 if fractional else y, np.arange(n) // 2 % 5


def by_scikit_learn(F: np.ndarray, y: np.ndarray, folds: np.ndarray, strength: float) -> float:
    """The out-of-fold log-loss of one strength; a fractional grade counts as both classes with its weight."""
    Z = np.clip((F - F.mean(axis=0)) / F.std(axis=0), -5, 5)
    out = np.empty(len(y))
    for fold in np.unique(folds):
        rest = folds != fold
        model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-8, max_iter=200)
        labels, twice = np.repeat([1, 0], rest.sum()), np.concatenate([Z[rest], Z[rest]])
        model.fit(twice, labels, sample_weight=np.concatenate([y[rest], 1 - y[rest]]))
        out[~rest] = model.predict_proba(Z[~rest])[:, 1]
    return mean_log_loss(y, out)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), n=st.integers(60, 300), d=st.integers(2, 8), fractional=st.booleans())
def test_the_strength_is_the_one_of_least_loss_out_of_its_fold(seed: int, n: int, d: int, fractional: bool) -> None:
    F, y, folds = drawn(seed, n, d, fractional)
    losses = {strength: by_scikit_learn(F, y, folds, strength) for strength in STRENGTHS}
    chosen = Logistic.fit(F, y, folds).strength
    assert losses[chosen] == pytest.approx(min(losses.values()), abs=1e-6)


def test_columns_that_part_the_classes_are_fitted_as_well() -> None:
    y = np.arange(200) % 2 * 1.0
    fitted = Logistic.fit((200 * y - 100)[:, None], y, np.arange(200) // 2 % 5)
    assert fitted.strength == STRENGTHS[-1]
    assert (np.round(fitted.predict(np.array([[-100.0], [100.0]]))) == [0, 1]).all()
