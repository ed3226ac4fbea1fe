"""Experiment 13: estimates that correct many judge labels by a few of people's (prediction-powered inference, PPI++).

Where errors are as rare as a certificate wants them, their normal bound says too little far more often than it may
(the negative control), so that nothing is certified from them: corrected labels are refused where labels are read,
and those of a judge beside people's where a certificate is made (`training.whose_labels`).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from router_models import Labelled
from router_models.data.formats.cells import to_grades
from router_models.errors import DataError
from router_models.risk_control.sequence import upper_bound

DELTA = 0.1


def ppi(wrong: np.ndarray, judged: np.ndarray, unlabelled: np.ndarray) -> float:
    """The upper bound of the risk at 1 - δ by PPI++ (Angelopoulos, Duchi and Zrnic 2023), power tuned."""
    n, more = len(wrong), len(unlabelled)
    spread = np.var(np.concatenate([judged, unlabelled]), ddof=1)
    power = np.cov(wrong, judged)[0, 1] / ((1 + n / more) * spread) if spread else 0.0
    value = power * unlabelled.mean() + (wrong - power * judged).mean()
    variance = power**2 * unlabelled.var(ddof=1) / more + np.var(wrong - power * judged, ddof=1) / n
    return float(value + norm.ppf(1 - DELTA) * np.sqrt(variance))


def test_a_bound_from_judge_labels_breaks_where_the_exact_one_of_peoples_alone_holds(
    size: Callable[[int, int], int], allowed: Callable[[int, float], int], measured: Callable[[str], None]
):
    runs, n, more, risk = size(400, 2000), 200, 5000, 0.02
    broken = exact = 0
    rng = np.random.default_rng(13)
    for _ in range(runs):
        wrong = rng.random(n + more) < risk
        judged = np.where(wrong, rng.random(n + more) < 0.8, rng.random(n + more) < 0.01).astype(float)
        broken += ppi(wrong[:n].astype(float), judged[:n], judged[n:]) < risk
        exact += upper_bound(int(wrong[:n].sum()), n, DELTA) < risk
    measured(f"risk .02, 200 labels, {more} of a judge: PPI++ too low in {broken} of {runs}, exact in {exact}")
    assert broken > allowed(runs, DELTA)
    assert exact <= allowed(runs, DELTA)


def test_corrected_labels_are_refused_where_labels_are_read():
    wrong, judged, audited = np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0])
    corrected = judged + audited / 0.1 * (wrong - judged)
    with pytest.raises(DataError, match="0 \\(right\\) or 1 \\(wrong\\)"):
        Labelled.of(np.ones(3), corrected)
    with pytest.raises(DataError, match="is not in \\[0, 1\\]"):
        to_grades(pd.Series(1 - corrected, name="cheap"), None)
