"""Limits in time that take out slow answers, and a share: said where the promise is, and none is made under them."""

from typing import Any

import pytest

from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy, cut_short, whole_try_s
from tests.unit.router_models.versions.made_version import version

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}


def config(deadline_s: float | None = None, **policy: Any) -> GraphConfig:
    tiers = [
        {"engine": "echo", "name": name, "price": PRICE, "timeout_s": timeout_s}
        for name, timeout_s in (("cheap", 20), ("frontier", 60))
    ]
    return GraphConfig.model_validate(
        {"tiers": tiers, "policy": {"timeout_s": 2, **policy}, "http": {"deadline_s": deadline_s}}
    )


@pytest.mark.parametrize(
    ("limits", "joint", "why"),
    [
        ({}, False, None),
        ({"deadline_s": 24}, False, None),
        ({"deadline_s": 23}, False, "nothing under http.deadline_s: 23 s, where a try may take 24 s"),
        ({"deadline_s": 24}, True, "nothing under http.deadline_s: 24 s, where a try may take 86 s"),
        ({"deadline_s": 86}, True, None),
        ({"first_token_s": 2}, False, "nothing of streams under policy.first_token_s: 2 s, where a try may take 24 s"),
        ({"first_token_s": 24}, False, None),
    ],
)
def test_a_limit_shorter_than_a_try_is_named_where_the_promise_is(
    limits: dict[str, float], joint: bool, why: str | None
) -> None:
    assert cut_short(config(**limits), joint=joint) == why


def test_a_try_takes_what_its_tier_router_and_verifier_may_take() -> None:
    assert whole_try_s(config(), joint=False) == 24
    assert whole_try_s(config(), joint=True) == 86, "the last tier after it, and its verdict"


def test_a_configured_share_is_said_where_the_promise_is() -> None:
    knows, knows_not = version(score_quantiles=(0.0, 1.0)), version()
    served = ServedPolicy.of(knows, "router/1", "P <= 0.1", config(share=0.3))
    assert served.promise == "nothing, but of requests with a quality_floor, under policy.share 0.3: P <= 0.1"
    assert served.headline == ()
    without = ServedPolicy.of(knows_not, "router/1", "P <= 0.1", config(share=0.3))
    assert "policy.share 0.3 is without effect" in without.promise
    assert ServedPolicy.of(knows, "router/1", "P <= 0.1", config()).promise == "P <= 0.1"
