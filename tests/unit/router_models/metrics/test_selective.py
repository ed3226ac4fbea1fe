"""Figures of keeping the best-scored answers, by hand."""

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.metrics import kept_within_weighted, risk_area_weighted

ONES = np.ones((1, 4))


def test_risk_area_of_four_answers_by_hand() -> None:
    # kept 1, 2, 3, 4 of which wrong 0, 1, 1, 2
    area = risk_area_weighted([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])(ONES)[0]
    assert area == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_a_constant_score_has_the_overall_share_wrong() -> None:
    assert risk_area_weighted(np.full(4, 0.5), [1, 0, 0, 0])(ONES)[0] == pytest.approx(0.75)


def test_kept_is_the_widest_threshold_within_the_budget() -> None:
    scores, right = [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 1]
    assert kept_within_weighted(scores, right, 0.25)(ONES)[0] == 1
    assert kept_within_weighted(scores, right, 0.2)(ONES)[0] == 0.25
    assert kept_within_weighted(scores, [0, 0, 0, 0], 0.2)(ONES)[0] == 0


def test_tied_answers_are_kept_together() -> None:
    assert kept_within_weighted([0.5, 0.5, 0.1, 0.1], [1, 0, 1, 1], 0.3)(ONES)[0] == 1
    assert kept_within_weighted([0.5, 0.5, 0.1, 0.1], [1, 0, 0, 0], 0.3)(ONES)[0] == 0


def test_weights_count_rows_as_often_as_they_were_drawn() -> None:
    scores, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0])
    weights = np.array([[2.0, 0.0, 1.0, 1.0]])
    rows = np.repeat(np.arange(4), weights[0].astype(int))
    kept = kept_within_weighted(scores, right, 0.3)
    assert kept(weights)[0] == kept_within_weighted(scores[rows], right[rows], 0.3)(ONES)[0] == 1
    # the doubled row is one step here and a tie there: the same
    area = risk_area_weighted(scores, right)(weights)[0]
    assert area == pytest.approx(risk_area_weighted(scores[rows], right[rows])(ONES)[0])


@pytest.mark.parametrize("scores", [[0.1, np.nan], [], [0.1]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError):
        risk_area_weighted(scores, [1.0, 0.0][: max(len(scores), 2)])
    with pytest.raises(DataError):
        kept_within_weighted([0.1, 0.2], [1, 0], 0.0)
