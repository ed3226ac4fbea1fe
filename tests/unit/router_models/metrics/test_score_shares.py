"""Thresholds by shares, and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import ArtifactError, DataError
from router_models.metrics.score_shares import ScoreShares
from router_models.versions.router_version import RouterVersion
from tests.unit.router_models.versions.made_version import version

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=300)


@given(SCORES, st.floats(0, 1))
def test_no_more_than_the_share_lies_below_its_threshold(scores: list[float], share: float) -> None:
    """Up to a step between two quantiles: where many scores are equal they are above together."""
    shares = ScoreShares.of(scores)
    below = shares.share_below(scores, share)
    assert 0 <= below <= share + 0.01 + 1 / len(scores)
    assert shares.share_below(scores, 0) == 0
    assert shares.share_below(scores, 1) == 1


@pytest.mark.parametrize("tied", [1 / 3, 2 / 3])
def test_equal_scores_stay_together_above_their_threshold(tied: float) -> None:
    """Three in five prompts have one score: rounded, its sixth digit would decide for all of them."""
    scores = np.r_[np.full(600, tied), np.linspace(0, 0.1, 100), np.linspace(0.9, 1, 300)]
    shares = ScoreShares.of(scores)
    for share in (0.05, 0.3, 0.55):
        assert shares.share_below(scores, share) == pytest.approx(min(share, 0.1), abs=0.011)
        assert shares.certified_share(share) == pytest.approx(min(share, 0.1), abs=0.011)


def test_no_share_has_a_threshold_outside_the_scores() -> None:
    shares = ScoreShares.of(np.linspace(0.5, 1, 100))
    assert (shares.share_of(0.4), shares.share_of(1.1)) == (None, None)
    assert shares.share_of(0.75) == pytest.approx(0.5)


def test_different_scores_are_shared_as_asked() -> None:
    scores = np.random.default_rng(1).beta(2, 1, 5000)
    shares = ScoreShares.of(scores)
    others = np.random.default_rng(2).beta(2, 1, 5000)
    for share in (0.05, 0.3, 0.5, 0.9):
        assert shares.share_below(others, share) == pytest.approx(share, abs=0.03)
        assert shares.share_of(shares.threshold(share)) == pytest.approx(share, abs=1e-9)


@given(SCORES, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_has_a_lower_threshold(scores: list[float], a: float, b: float) -> None:
    shares = ScoreShares.of(scores)
    assert shares.threshold(min(a, b)) <= shares.threshold(max(a, b))


@pytest.mark.parametrize("bad", [[], [float("nan")], [0.5, float("inf")]])
def test_what_has_no_quantiles_is_refused(bad: list[float]) -> None:
    with pytest.raises(DataError, match="scores"):
        ScoreShares.of(bad)


def test_what_is_not_known_or_no_share_is_refused() -> None:
    with pytest.raises(DataError, match="not known"):
        ScoreShares().threshold(0.5)
    with pytest.raises(DataError, match="not known"):
        ScoreShares().share_of(0.5)
    with pytest.raises(DataError, match="between 0 and 1"):
        ScoreShares((0.0, 1.0)).threshold(1.5)


def test_a_version_keeps_its_quantiles_and_one_of_before_has_none(tmp_path: Path) -> None:
    version(score_quantiles=(0.1, 0.4, 0.9)).save(tmp_path / "v")
    assert RouterVersion.load(tmp_path / "v").score_quantiles == (0.1, 0.4, 0.9)
    policy = json.loads((tmp_path / "v" / "policy.json").read_text())
    del policy["score_quantiles"]
    assert ScoreShares.of_values(policy.get("score_quantiles", ())).quantiles == ()


@pytest.mark.parametrize("bad", [(0.5,), (0.5, 0.4), (0.1, float("nan"))])
def test_stored_quantiles_that_are_none_are_refused(bad: tuple[float, ...], tmp_path: Path) -> None:
    version(score_quantiles=bad).save(tmp_path / "v")
    with pytest.raises(ArtifactError, match=r"quantiles|not a router version|JSON"):
        RouterVersion.load(tmp_path / "v")
