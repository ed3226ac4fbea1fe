"""The anchored sequence and the certificate it makes: against MAPIE, and by its own rules."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController, precision
from scipy.stats import binom

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.labels import p_value
from router_models.risk_control.sequence import (
    ANCHORS,
    GRID_SIZE,
    Labelled,
    anchored_path,
    anchors,
    counts_at,
    feasible_share,
    fixed_sequence,
    quantile_grid,
    spent_delta,
    upper_bound,
)
from router_models.risk_control.thresholds import certify_threshold

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def terms(epsilon: float, delta: float = 0.1, look_index: int = 0) -> CertificateTerms:
    return CertificateTerms(epsilon, delta, "programmatic", NOW, NOW + timedelta(days=90), look_index=look_index)


def draw(n: int, seed: int, slices: int = 0) -> Labelled:
    """Uniform scores; P(wrong) falls from 40 % at 0 to 0 at 1, and is higher in later slices."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    which = rng.integers(0, max(slices, 1), n)
    wrong = rng.random(n) < 0.4 * (1 - scores) + 0.03 * which
    return Labelled.of(scores, wrong, [f"s{i}" for i in which] if slices else None)


# --- the sequence


def test_anchored_and_mapies_split_fixed_sequence_certify_alike():
    """Same data, same binomial p-values, and along MAPIE's order our kernel rejects exactly MAPIE's thresholds."""
    ours_share, theirs_share = [], []
    for seed in range(12):
        tune, cert = draw(400, seed), draw(600, 100 + seed)
        grid = quantile_grid(tune.scores, 60)  # MAPIE takes 5 ms a threshold
        path = anchored_path(tune, cert, grid, epsilon=0.15, level=0.1)

        controller = BinaryClassificationController(
            lambda s: np.column_stack([1 - s, s]),
            precision,
            0.85,
            confidence_level=0.9,
            list_predict_params=grid,
            fwer_method="split_fixed_sequence",
            best_predict_param_choice="recall",
        )
        controller.learn_fixed_sequence_order(tune.scores, (~tune.wrong).astype(int))
        controller.calibrate(cert.scores, (~cert.wrong).astype(int))
        valid = np.sort(np.asarray(controller.valid_predict_params, dtype=float))

        order = np.asarray(controller._learned_fixed_sequence, dtype=float).ravel()
        their_p = np.asarray(controller.p_values).ravel()
        rejected = fixed_sequence(their_p[::-1], len(order) - 1, 0.1)[::-1]
        assert valid == pytest.approx(np.sort(order[rejected]))
        accepted, wrong = np.array([counts_at(np.array([t]), cert) for t in order])[:, :, 0].T
        # MAPIE rounds n·(k/n) up, which now and then counts one error too many; otherwise the tails are the same.
        exact, one_more = p_value(wrong, accepted, 0.15), p_value(wrong + 1, accepted, 0.15)
        assert ((their_p >= exact * (1 - 1e-9)) & (their_p <= one_more * (1 + 1e-9))).all()
        assert np.isclose(their_p, exact).mean() > 0.4

        ours_share.append((cert.scores >= grid[np.argmax(path.rejected)]).mean() if path.rejected.any() else 0.0)
        theirs_share.append((cert.scores >= valid.min()).mean() if len(valid) else 0.0)
    assert np.mean(ours_share) >= np.mean(theirs_share) - 0.02, "the anchored order is at least as useful as MAPIE's"


def test_p_values_are_the_exact_binomial_tail():
    k, n = np.arange(0, 21), np.full(21, 50)
    assert p_value(k, n, 0.1) == pytest.approx(binom.cdf(k, n, 0.1))
    assert p_value(0, 0, 0.1) == 1.0


def test_a_score_equal_to_the_threshold_is_accepted():
    accepted, wrong = counts_at(np.array([0.2, 0.5, 0.9]), Labelled.of([0.2, 0.5, 0.5, 0.8], [1, 1, 0, 0]))
    assert accepted.tolist() == [4, 3, 0]
    assert wrong.tolist() == [2, 1, 0]


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40), st.integers(0, 99))
def test_the_accepted_set_shrinks_as_the_threshold_rises(scores, seed):
    data = Labelled.of(scores, np.random.default_rng(seed).integers(0, 2, len(scores)))
    thresholds = quantile_grid(scores)
    accepted, wrong = counts_at(thresholds, data)
    assert (np.diff(thresholds) > 0).all()
    assert accepted[0] == len(scores)
    assert (np.diff(accepted) <= 0).all()
    assert (np.diff(wrong) <= 0).all()
    assert accepted.tolist() == [(np.array(scores) >= t).sum() for t in thresholds]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 11), st.floats(0.01, 0.5))
def test_the_sequence_walks_from_the_anchor_and_stops_at_the_first_failure(p, anchor, level):
    anchor = min(anchor, len(p) - 1)
    rejected = fixed_sequence(np.array(p), anchor, level)
    expected = [False] * len(p)
    for j in range(anchor, -1, -1):
        if p[j] > level:
            break
        expected[j] = True
    assert rejected.tolist() == expected


def test_a_sequence_walks_in_fine_steps_from_one_of_twenty_starts():
    """The step decides how near to the last threshold that holds it ends; the start is no luckier than before."""
    tune, cert = draw(600, 1), draw(3000, 2)
    fine, coarse = quantile_grid(tune.scores), quantile_grid(tune.scores, ANCHORS)
    assert (len(fine), len(coarse)) == (GRID_SIZE, ANCHORS)
    assert fine[anchors(fine, tune.scores)].tolist() == coarse.tolist()
    paths = [anchored_path(tune, cert, grid, epsilon=0.15, level=0.1) for grid in (fine, coarse)]
    starts = [path.thresholds[path.anchor] for path in paths]
    ends = [path.thresholds[np.argmax(path.rejected)] for path in paths]
    assert starts[0] == starts[1]
    assert coarse[0] < ends[0] < ends[1], "fine steps go on where a coarse one is too long"


def test_a_start_is_found_on_any_thresholds():
    scores = np.linspace(0, 1, 50)
    assert anchors(np.array([0.2, 0.5, 2.0]), scores).tolist() == [0, 1, 2]
    assert anchors(np.array([-2.0, -1.0]), scores).tolist() == [0, 1], "all accept everything"
    assert anchors(np.array([0.5]), scores).tolist() == [0]


def test_the_sequence_is_vectorised_over_runs():
    p = np.array([[0.01, 0.2, 0.01], [0.01, 0.01, 0.3]])
    assert fixed_sequence(p, np.array([2, 1]), 0.1).tolist() == [[False, False, True], [True, True, False]]


def test_spent_deltas_sum_to_delta_and_a_single_certificate_has_all_of_it():
    assert spent_delta(0.1, 0) == 0.1
    assert sum(spent_delta(0.1, i) for i in range(1, 200_000)) == pytest.approx(0.1, rel=1e-4)
    with pytest.raises(DataError, match="look_index"):
        spent_delta(0.1, -1)


def test_the_upper_bound_is_clopper_pearsons():
    assert upper_bound(0, 30, 0.05) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert binom.cdf(7, 100, upper_bound(7, 100, 0.1)) == pytest.approx(0.1)
    assert upper_bound(5, 5, 0.1) == upper_bound(0, 0, 0.1) == 1.0


def test_the_feasible_share_is_what_the_oracle_accepts():
    assert feasible_share(0.28, 0.1) == pytest.approx(0.8)
    assert feasible_share(0.05, 0.1) == 1.0


# --- the certificate


def test_the_certificate_reports_the_counts_at_its_threshold():
    tune, cert = draw(500, 1), draw(800, 2)
    c = certify_threshold(tune, cert, terms(0.15))
    accepted = cert.scores >= c.threshold
    assert (c.n, c.accepted_n, c.errors) == (800, accepted.sum(), cert.wrong[accepted].sum())
    assert p_value(c.errors, c.accepted_n, 0.15) <= 0.1
    assert c.errors / c.accepted_n < c.upper <= 0.15
    assert c.promised_risk == 0.15


def test_a_later_round_spends_less_and_never_accepts_more():
    tune, cert = draw(500, 1), draw(800, 2)
    first, third = (certify_threshold(tune, cert, terms(0.15, look_index=i)) for i in (0, 3))
    assert third.level == pytest.approx(spent_delta(0.1, 3))
    assert third.delta == 0.1
    assert third.threshold >= first.threshold


def test_another_utility_chooses_another_certified_threshold():
    tune, cert = draw(500, 1), draw(2000, 2)
    grid = quantile_grid(tune.scores)
    lenient = certify_threshold(tune, cert, terms(0.15), grid=grid)
    strict = certify_threshold(tune, cert, terms(0.15), grid=grid, utility=grid)
    assert strict.threshold > lenient.threshold
    with pytest.raises(DataError, match="utility"):
        certify_threshold(tune, cert, terms(0.15), utility=[1.0])
    with pytest.raises(DataError, match="ascending"):
        certify_threshold(tune, cert, terms(0.15), grid=[0.5, 0.2])


def test_slices_each_get_their_share_of_delta_and_their_own_line():
    tune, cert = draw(1500, 3, slices=4), draw(3000, 4, slices=4)
    c = certify_threshold(tune, cert, terms(0.15))
    assert set(c.slices) == {"s0", "s1", "s2", "s3"}
    for name, promise in c.slices.items():
        assert promise.level == pytest.approx(0.025)
        if promise.certified:
            rows = np.array([s == name for s in cert.slices]) & (cert.scores >= c.threshold)
            assert (promise.trials, promise.errors) == (rows.sum(), cert.wrong[rows].sum())
            assert p_value(promise.errors, promise.trials, 0.15) <= 0.025
    assert c.accepted_n == sum(p.trials for p in c.slices.values())
    own = certify_threshold(tune, cert, terms(0.15), common_threshold=False)
    assert own.threshold is None
    assert own.accepted_n >= c.accepted_n


def test_a_slice_without_labels_is_listed_and_never_accepted():
    tune, cert = draw(1500, 3, slices=2), draw(2000, 4, slices=2)
    tune = Labelled.of(np.append(tune.scores, 0.99), np.append(tune.wrong, False), (*tune.slices, "rare"))
    c = certify_threshold(tune, cert, terms(0.15))
    assert c.threshold_for("rare") == np.inf
    assert not c.slices["rare"].certified
    with pytest.raises(DataError, match="both TUNE and CERT or for neither"):
        certify_threshold(tune, draw(100, 1), terms(0.15))


def test_too_few_labels_are_counted_and_infeasible_budgets_explained():
    tune = draw(500, 5)
    with pytest.raises(NotCertifiedError, match="too few labels") as caught:
        certify_threshold(tune, draw(5, 6), terms(0.15))
    assert caught.value.labels_missing > 0
    noise = Labelled.of(tune.scores, np.random.default_rng(7).random(500) < 0.3)
    with pytest.raises(NotCertifiedError, match="infeasible") as caught:
        certify_threshold(noise, noise, terms(0.05))
    assert caught.value.labels_missing is None


def test_unusable_labels_and_scores_are_refused():
    with pytest.raises(DataError, match="equally long"):
        Labelled.of([0.1, 0.2], [0])
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        Labelled.of([0.1, np.nan], [0, 1])
    with pytest.raises(DataError, match=r"0 \(right\) or 1"):
        Labelled.of([0.1, 0.2], [0.5, 1])
    with pytest.raises(DataError, match="needs TUNE and CERT"):
        certify_threshold(draw(10, 0), draw(0, 0), terms(0.1))
    with pytest.raises(DataError, match="epsilon"):
        certify_threshold(draw(10, 0), draw(10, 0), terms(1.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_certificate_does_not_depend_on_the_order_of_the_rows(seed):
    tune, cert = draw(300, seed), draw(400, seed + 1)
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(300), rng.permutation(400)
    results = []
    for t, c in ((tune, cert), (Labelled(tune.scores[i], tune.wrong[i]), Labelled(cert.scores[j], cert.wrong[j]))):
        try:
            results.append(certify_threshold(t, c, terms(0.15)))
        except NotCertifiedError as error:
            results.append(error.reason)
    assert results[0] == results[1]
