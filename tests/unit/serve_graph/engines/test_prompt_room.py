from typing import Any

import pytest

from router_models.types import Decision, Query
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.prompt_room import longest_prompt_bytes
from serve_graph.gateway.context_length import Room, fit_context

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def config(**cheap: Any) -> GraphConfig:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    return GraphConfig.model_validate({"tiers": [{**tiers[0], **cheap}, {**tiers[1], "context_tokens": 1_000_000}]})


@pytest.mark.parametrize("limit", [300, 1024, 16384])
def test_the_longest_prompt_that_is_tried_is_the_longest_that_the_rule_about_contexts_leaves_there(limit: int) -> None:
    graph = config(context_tokens=limit)
    rooms = {tier.name: Room(tier.context_limit, tier.default_max_tokens) for tier in graph.tiers}
    most = longest_prompt_bytes(graph)
    assert most is not None

    def goes_to(size: int) -> str:
        return fit_context(Decision("cheap", "so"), Query.from_prompt("x" * size), rooms, graph.tier_names).tier

    assert goes_to(most) == "cheap"
    assert goes_to(most + 5) == "frontier"


def test_a_tier_without_room_for_any_prompt_tries_none() -> None:
    assert longest_prompt_bytes(config(context_tokens=100)) == 0
