"""A tier's kind follows from its configuration."""

from typing import Any

import pytest

from router_models.estimators.signals import TierKind
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.tier_kinds import tier_kinds

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
HOSTED = {"engine": "openai", "model": "m"}


@pytest.mark.parametrize(
    ("tier", "kind"),
    [
        ({"engine": "vllm", "weights": {"hub": "org/model"}}, TierKind.VLLM),
        ({"engine": "echo"}, TierKind.ECHO),
        (HOSTED, TierKind.HOSTED_LOGPROBS),
        (HOSTED | {"parameters": {"logprobs": None}}, TierKind.HOSTED),
        (HOSTED | {"parameters": {"logprobs": "log_probabilities"}}, TierKind.HOSTED_LOGPROBS),
        (HOSTED | {"api": "anthropic"}, TierKind.HOSTED),
        (
            {
                "engine": "openai",
                "deployments": [
                    {"name": "a", "model": "m"},
                    {"name": "b", "model": "m", "parameters": {"logprobs": None}},
                ],
            },
            TierKind.HOSTED,
        ),
    ],
    ids=["vllm", "echo", "openai", "without logprobs", "other name", "anthropic", "one of two without"],
)
def test_a_tier_has_the_kind_that_its_engine_and_api_make(tier: dict[str, Any], kind: TierKind) -> None:
    last = {"name": "frontier", "engine": "echo", "price": PRICE}
    graph = GraphConfig.model_validate({"tiers": [{"name": "cheap", "price": PRICE, **tier}, last]})
    assert tier_kinds(graph) == {"cheap": kind, "frontier": TierKind.ECHO}
