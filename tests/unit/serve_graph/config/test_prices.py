from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from router_models.pricing.prices import Tariff, prices_digest_input
from router_models.risk_control.certificates.binding import binding_hashes
from router_models.types import Usage
from serve_graph.config.graph import GraphConfig
from serve_graph.config.prices import PriceConfig
from serve_graph.policy.bindings import price_lists, tier_prices

PLAIN = {"input_usd_per_mtok": "0.01", "output_usd_per_mtok": "0.02"}


def context(price: dict[str, Any], *changes: dict[str, Any], **more: Any) -> GraphConfig:
    tier = {"name": "frontier", "engine": "echo", "price": price, "price_changes": changes}
    return GraphConfig.model_validate({"tiers": [tier], **more})


def test_another_currency_is_reported_at_its_stated_rate() -> None:
    price = PriceConfig.model_validate(
        {"currency": "EUR", "usd_per_unit": "1.08", "input_per_mtok": "2", "output_per_mtok": 8, "gpu_per_s": "0.001"}
    )
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (Decimal("2.16"), Decimal("8.64"))
    assert (price.gpu_usd_per_s, price.cached_input_usd_per_mtok) == (Decimal("0.00108"), None)


def test_long_prompts_have_rates_of_their_own_in_the_same_currency() -> None:
    given = {"currency": "EUR", "usd_per_unit": "2", "input_per_mtok": "1", "output_per_mtok": 4}
    long = {"over_tokens": 100, "input_per_mtok": 3, "output_per_mtok": "5", "cached_input_per_mtok": None}
    tier = {"name": "frontier", "engine": "echo", "price": given | {"long_prompts": long, "priority_factor": 2}}
    price = tier_prices(GraphConfig.model_validate({"tiers": [tier]}))["frontier"]
    assert price.cost(Usage(100, 1)) == Decimal("0.000208")
    assert price.cost(Usage(101, 1)) == Decimal("0.000616")
    assert price.cost(Usage(101, 1), tariff=Tariff.PRIORITY) == Decimal("0.001232")


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"currency": "EUR", "input_per_mtok": 1, "output_per_mtok": 1}, "need usd_per_unit"),
        ({"currency": "EUR", "usd_per_unit": 1, **PLAIN}, "without usd in their names"),
        ({"usd_per_unit": 2, **PLAIN}, "for another currency"),
        ({"input_per_mtok": 1, "output_per_mtok": 1}, "Field required"),
        ({"currency": "EUR", "usd_per_unit": "x", "input_per_mtok": 1, "output_per_mtok": 1}, "must be numbers"),
        ({**PLAIN, "batch_factor": 2}, "less than or equal"),
        ({**PLAIN, "batch_cached_factor": 2}, "less than or equal"),
        ({**PLAIN, "long_prompts": {**PLAIN}}, "over_tokens"),
        (
            {"currency": "EUR", "usd_per_unit": 1, "input_per_mtok": 1, "output_per_mtok": 1}
            | {"long_prompts": {"over_tokens": 1, **PLAIN}},
            "without usd in their names",
        ),
        ({**PLAIN, "gpu_shared_by": 0}, "greater than or equal"),
        ({**PLAIN, "input_usd_per_mtok": "inf"}, "finite"),
        ({**PLAIN, "valid_from": "2026-01-01T00:00:00"}, "timezone"),
    ],
)
def test_a_price_that_is_none_is_refused(price: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PriceConfig.model_validate(price)


def test_the_price_in_force_is_the_one_that_certificates_are_made_for() -> None:
    dearer = {"input_usd_per_mtok": "0.03", "output_usd_per_mtok": "0.02", "valid_from": "2026-06-01T00:00:00Z"}
    config = context(PLAIN, dearer)
    before, after = (
        tier_prices(config, datetime(2026, month, 1, tzinfo=UTC))["frontier"].input_usd_per_mtok for month in (5, 6)
    )
    assert (before, after) == (Decimal("0.01"), Decimal("0.03"))
    hashes = {
        binding_hashes({"prices": prices_digest_input(tier_prices(config, datetime(2026, month, 1, tzinfo=UTC)))})[
            "prices"
        ]
        for month in (5, 6)
    }
    assert len(hashes) == 2


@pytest.mark.parametrize("moments", [[None], ["2026-06-01T00:00:00Z", "2026-05-01T00:00:00Z"]])
def test_changes_need_moments_in_order(moments: list[str | None]) -> None:
    with pytest.raises(ValidationError, match="valid_from"):
        context(PLAIN, *({**PLAIN, "valid_from": moment} for moment in moments))


def test_a_replicas_second_is_divided_among_the_calls_it_serves() -> None:
    config = context({**PLAIN, "gpu_usd_per_s": "0.0008", "gpu_shared_by": 16})
    assert price_lists(config)["frontier"].first.engine_usd_per_s == Decimal("0.00005")


def test_sessions_do_not_outlive_the_prompt_cache() -> None:
    with pytest.raises(ValidationError, match="outlives"):
        context(PLAIN, sessions={"ttl_s": 301})
    assert context(PLAIN, sessions={"ttl_s": 0}).sessions.ttl_s == 0
