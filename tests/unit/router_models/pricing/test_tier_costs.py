from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts, calls_of, check_ladder, token_ratio_recorded


def price(sent: str = "1", made: str = "2", cached: str | None = None) -> Price:
    return Price(Decimal(sent), Decimal(made), None if cached is None else Decimal(cached))


def table(**columns: list[float]) -> OutcomeTable:
    prompts = ["one two", "three four five", "six"]
    return table_of(
        parse_columns(pd.DataFrame({"prompt": prompts, "a": [1, 0, 1], "b": [1.0, 1, 0]} | columns), ("a", "b"))
    )


def test_recorded_tokens_are_priced_as_they_are() -> None:
    seen = calls_of(
        table(a_prompt_tokens=[100, 200, 300], a_completion_tokens=[10, 20, 30]),
        "a",
        TierCosts(price(), token_ratio=3),
    )
    assert seen.usd == pytest.approx(np.array([120, 240, 360]) / 1e6)
    assert seen.tokens_basis == "recorded"


def test_cached_batched_and_dearer_tokenizers_change_the_price() -> None:
    terms = TierCosts(
        price("1", "2", "0.1"),
        batch_factor=0.5,
        batch_share=0.4,
        token_ratio=1.5,
        input_tokens=1000,
        output_tokens=100,
        cached_share=0.5,
    )
    seen = calls_of(table(), "a", terms)
    whole = (750 * 1 + 750 * 0.1 + 150 * 2) / 1e6
    assert seen.usd == pytest.approx([whole * 0.8] * 3)
    assert "1000 tokens × 1.5" in seen.tokens_basis


def test_characters_stand_in_for_tokens_only_with_a_stated_ratio() -> None:
    terms = TierCosts(price(), chars_per_token=4, output_tokens=5)
    assert [u.prompt_tokens for u in calls_of(table(), "a", terms).usage] == [2, 4, 1]
    with pytest.raises(DataError, match="prompt_tokens of tier 'a': record them, or assume input tokens"):
        calls_of(table(), "a", TierCosts(price()))


def test_missing_latencies_are_unknown_or_assumed_never_zero() -> None:
    terms = TierCosts(price(), input_tokens=1, output_tokens=1)
    assert calls_of(table(), "a", terms).seconds is None
    assumed = TierCosts(price(), input_tokens=1, output_tokens=1, latency_p50_s=1.0, latency_p95_s=4.0)
    big = table_of(parse_columns(pd.DataFrame({"prompt": [f"p{i}" for i in range(2001)], "a": 1.0, "b": 0.0})))
    seconds = calls_of(big, "a", assumed).seconds
    assert seconds is not None
    assert np.quantile(seconds, [0.5, 0.95]) == pytest.approx([1.0, 4.0], rel=0.02)


def test_tokenizers_are_compared_where_both_counted() -> None:
    both = table(a_prompt_tokens=[100, 100, 100], b_prompt_tokens=[110, 120, 130])
    assert token_ratio_recorded(both, "b", "a") == pytest.approx(1.2)
    assert token_ratio_recorded(table(), "b", "a") is None


@pytest.mark.parametrize(
    ("cheap_usd", "frontier_usd", "cheap_right", "message"),
    [
        (0.0, 0.0, 0.5, "costs nothing"),
        (2.0, 1.0, 0.5, "dearer and no better"),
        (2.0, 1.0, 0.9, "the other way round"),
        (1.0, 1.0, 0.5, "dearer and no better"),
    ],
)
def test_a_ladder_that_cannot_save_is_refused(
    cheap_usd: float, frontier_usd: float, cheap_right: float, message: str
) -> None:
    usd = {"cheap": np.array([cheap_usd]), "frontier": np.array([frontier_usd])}
    with pytest.raises(DataError, match=message):
        check_ladder(usd, {"cheap": np.array([cheap_right]), "frontier": np.array([0.8])}, "cheap", "frontier")


def test_a_free_cheap_tier_is_fine() -> None:
    usd = {"cheap": np.array([0.0]), "frontier": np.array([1.0])}
    check_ladder(usd, {"cheap": np.array([0.5]), "frontier": np.array([0.8])}, "cheap", "frontier")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_share": 1.5},
        {"cached_share": -0.1},
        {"token_ratio": 0.0},
        {"chars_per_token": float("nan")},
        {"output_tokens": -1.0},
        {"latency_p50_s": 1.0},
        {"latency_p50_s": 2.0, "latency_p95_s": 1.0},
    ],
)
def test_impossible_terms_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError):
        TierCosts(price(), **wrong)
