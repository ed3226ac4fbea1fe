"""A share's exact interval, against scipy's own and at its ends."""

import pytest
from scipy.stats import binomtest

from router_models.metrics.intervals import exact_share


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 40), (1, 3), (7, 40), (40, 40)])
def test_a_share_has_the_interval_of_clopper_and_pearson(hits: int, n: int) -> None:
    found, expected = exact_share(hits, n), binomtest(hits, n).proportion_ci(method="exact")
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
