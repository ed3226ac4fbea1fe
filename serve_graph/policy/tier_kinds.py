"""What comes with a tier's answers, by its configuration: the kinds of the table of signals."""

from __future__ import annotations

from router_models.estimators.signals import TierKind
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig, VllmTierConfig


def tier_kinds(config: GraphConfig) -> dict[str, TierKind]:
    """Every tier's kind, by name."""
    return {tier.name: tier_kind(tier) for tier in config.tiers}


def tier_kind(tier: AnyTierConfig) -> TierKind:
    """One tier's kind. A hosted tier has logprobs where every one of its APIs is asked for them.

    Anthropic's API returns none, and neither does one whose `parameters` say that it does not take `logprobs`.
    """
    if isinstance(tier, VllmTierConfig):
        return TierKind.VLLM
    if not isinstance(tier, HostedTierConfig):
        return TierKind.ECHO
    asked = all(api.api == "openai" and api.parameters.get("logprobs", "logprobs") is not None for api in tier.apis)
    return TierKind.HOSTED_LOGPROBS if asked else TierKind.HOSTED
