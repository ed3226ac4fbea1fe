"""Every score calibrator under one contract, and the choice among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from router_models.data.artifacts import State, load_state, save_state
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.calibrators.base import P_MIN
from router_models.estimators.calibrators.parametric import fit_line, smoothed_targets
from router_models.estimators.calibrators.scores import (
    CALIBRATORS,
    IsotonicCalibrator,
    LogisticCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    VennAbersCalibrator,
    calibrator_from_state,
    candidates,
    choose_calibrator,
)
from router_models.metrics import log_loss, smooth_calibration_error

ONE_SCORE = [name for name in CALIBRATORS if name != "logistic"]


def overconfident(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are twice as sure as they should be, and whether the answer was right."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.8, 1.2, n)
    return expit(2 * z), (rng.random(n) < expit(z)).astype(float)


@pytest.mark.parametrize("family", CALIBRATORS)
class TestEveryCalibrator:
    def test_predicts_probabilities_strictly_inside_zero_and_one(self, family):
        s, y = overconfident(300)
        p = CALIBRATORS[family]().fit(s, y).predict(np.array([0.0, 1e-9, 0.5, 1 - 1e-9, 1.0]))
        assert p.shape == (5,)
        assert ((p >= P_MIN) & (p <= 1 - P_MIN)).all()

    def test_never_lowers_the_probability_when_the_score_rises(self, family):
        s, y = overconfident(300)
        p = CALIBRATORS[family]().fit(s, y).predict(np.linspace(0, 1, 400))
        assert (np.diff(p) >= -1e-12).all()

    def test_improves_log_loss_and_calibration_on_unseen_answers(self, family):
        s, y = overconfident(2000)
        s_new, y_new = overconfident(5000, seed=1)
        p = CALIBRATORS[family]().fit(s, y).predict(s_new)
        assert log_loss(p, y_new) < log_loss(s_new, y_new)
        assert smooth_calibration_error(p, y_new) < 0.5 * smooth_calibration_error(s_new, y_new)

    def test_predicts_equally_after_a_round_trip_through_a_folder(self, family, tmp_path):
        s, y = overconfident(200)
        fitted = CALIBRATORS[family]().fit(s, y)
        save_state(tmp_path, "calibrator", fitted.state())
        again = calibrator_from_state(load_state(tmp_path, "calibrator"))
        assert type(again) is type(fitted)
        assert (again.predict(s) == fitted.predict(s)).all()

    def test_is_deterministic(self, family):
        s, y = overconfident(200)
        assert (CALIBRATORS[family]().fit(s, y).predict(s) == CALIBRATORS[family]().fit(s, y).predict(s)).all()

    def test_takes_infinite_confidences_for_certain_and_refuses_nan(self, family):
        s, y = overconfident(200)
        s[:3], s[3] = np.inf, -np.inf
        fitted = CALIBRATORS[family]().fit(s, y)
        assert np.isfinite(fitted.predict(np.array([np.inf, -np.inf, 0.3]))).all()
        s[5] = np.nan
        with pytest.raises(DataError, match="1 of 200 rows hold a NaN"):
            CALIBRATORS[family]().fit(s, y)
        with pytest.raises(DataError, match="NaN"):
            fitted.predict(np.array([np.nan]))

    def test_refuses_one_class_unequal_lengths_and_odd_grades(self, family):
        s, _ = overconfident(50)
        for grades, message in (
            (np.ones(50), "both right and wrong"),
            (np.ones(49), "50 scores but grades"),
            (np.full(50, 2.0), "lie in"),
            (np.full(50, np.nan), "NaN"),
        ):
            with pytest.raises(DataError, match=message):
                CALIBRATORS[family]().fit(s, grades)

    def test_asks_to_be_fitted_first(self, family):
        with pytest.raises(NotFittedError):
            CALIBRATORS[family]().predict(np.array([0.5]))

    def test_refuses_the_state_of_another_family(self, family):
        with pytest.raises(ArtifactError, match="cannot load the state"):
            CALIBRATORS[family].from_state(State(meta={"family": "other"}))

    def test_learns_from_fractional_grades(self, family):
        s, y = overconfident(400)
        half = 0.5 * y + 0.25
        p = CALIBRATORS[family]().fit(s, half).predict(s)
        assert p.mean() == pytest.approx(half.mean(), abs=0.05)


@pytest.mark.parametrize("family", ONE_SCORE)
def test_calibrators_of_confidences_refuse_log_probabilities_and_several_columns(family):
    with pytest.raises(DataError, match=r"lie in \[0, 1\]"):
        CALIBRATORS[family]().fit(np.array([-3.0, -0.1]), np.array([0.0, 1.0]))
    with pytest.raises(DataError, match="one score"):
        CALIBRATORS[family]().fit(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))


def test_platt_reaches_the_optimum_that_scikit_learn_finds():
    rng = np.random.default_rng(2)
    for n in (15, 200, 2000):
        x = rng.normal(2, 3, n)
        t = smoothed_targets((rng.random(n) < expit(0.4 * x - 0.5)).astype(float))
        model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
        model.fit(np.concatenate([x, x])[:, None], np.repeat([1, 0], n), sample_weight=np.concatenate([t, 1 - t]))
        assert fit_line(x, t) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), rel=1e-4)


def test_platt_stays_finite_on_perfectly_separated_scores_and_on_a_constant():
    p = PlattCalibrator().fit([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]).predict([0.0, 0.5, 1.0])
    assert np.isfinite(p).all()
    assert PlattCalibrator().fit(np.full(10, 0.7), [1] * 6 + [0] * 4).predict([0.7])[0] == pytest.approx(0.6, abs=0.02)


def test_platt_does_not_turn_a_backwards_score_round():
    s, y = overconfident(500)
    p = PlattCalibrator().fit(s, 1 - y).predict(np.array([0.01, 0.99]))
    assert p[0] == p[1] == pytest.approx(1 - y.mean(), abs=0.01)


def test_temperature_halves_the_logit_of_scores_twice_too_sure():
    s, y = overconfident(20_000)
    assert TemperatureCalibrator().fit(s, y).temperature_ == pytest.approx(2.0, abs=0.1)


def test_logistic_combines_features_better_than_the_best_of_them():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(3000, 3))
    y = (rng.random(3000) < expit(z @ [1.0, 0.8, 0.0])).astype(float)
    both = LogisticCalibrator().fit(z[:1000], y[:1000]).predict(z[1000:])
    first = LogisticCalibrator().fit(z[:1000, :1], y[:1000]).predict(z[1000:, :1])
    assert log_loss(both, y[1000:]) < log_loss(first, y[1000:]) - 0.02
    with pytest.raises(DataError, match="fitted on 3 features"):
        LogisticCalibrator().fit(z, y).predict(z[:, :2])


def test_logistic_survives_a_constant_feature_and_names_an_empty_one():
    X, y = np.column_stack([np.arange(10.0), np.full(10, 3.0)]), np.repeat([0, 1], 5)
    assert np.isfinite(LogisticCalibrator().fit(X, y).predict(X)).all()
    X[:, 1] = np.inf
    with pytest.raises(DataError, match=r"\[1\] hold no finite value"):
        LogisticCalibrator().fit(X, y)


def test_isotonic_equals_scikit_learns():
    s, y = overconfident(500)
    grid = np.linspace(0.01, 0.99, 50)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(s, y).predict(grid)
    assert IsotonicCalibrator().fit(s, y).predict(grid) == pytest.approx(np.clip(theirs, P_MIN, 1 - P_MIN))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 25))
def test_venn_abers_equals_its_definition(seed, n):
    rng = np.random.default_rng(seed)
    s, y = rng.integers(1, 10, n) / 10, rng.integers(0, 2, n).astype(float)
    if y.min() == y.max():
        return
    asked = np.array([0.02, 0.1, 0.35, 0.5, 0.55, 0.9, 0.97])
    low, high = VennAbersCalibrator().fit(s, y).interval(asked)
    for i, score in enumerate(asked):
        for label, found in ((0, low[i]), (1, high[i])):
            model = IsotonicRegression().fit(np.append(s, score), np.append(y, label))
            assert found == pytest.approx(model.predict([score])[0], abs=1e-9)


def test_the_number_of_labels_decides_which_families_compete():
    assert candidates(50) == (TemperatureCalibrator, PlattCalibrator)
    assert candidates(100) == candidates(999) == (PlattCalibrator,)
    assert set(candidates(1000)) == {PlattCalibrator, IsotonicCalibrator, VennAbersCalibrator}
    assert candidates(50, features=4) == candidates(5000, features=4) == (LogisticCalibrator,)


def test_the_choice_is_platt_where_its_form_is_true_and_not_where_it_is_far_off():
    s, y = overconfident(1500)
    assert isinstance(choose_calibrator(s, y), PlattCalibrator)
    rng = np.random.default_rng(4)
    s = rng.random(3000)
    y = (rng.random(3000) < np.where(s < 0.5, 0.2, 0.9)).astype(float)
    assert isinstance(choose_calibrator(s, y), IsotonicCalibrator | VennAbersCalibrator)


def test_few_labels_get_a_temperature_unless_the_score_is_no_probability():
    s, y = overconfident(80)
    assert isinstance(choose_calibrator(s, y), TemperatureCalibrator)
    rng = np.random.default_rng(5)
    length = 0.1 * rng.random(80)
    assert isinstance(choose_calibrator(length, rng.random(80) < 0.85), PlattCalibrator)


def test_too_few_of_one_class_to_compare_on_gives_the_default():
    assert isinstance(choose_calibrator([0.2, 0.4, 0.6, 0.8], [0, 1, 1, 1]), TemperatureCalibrator)


def test_an_unknown_stored_family_is_named():
    with pytest.raises(ArtifactError, match="'spline'"):
        calibrator_from_state(State(meta={"family": "spline"}))
