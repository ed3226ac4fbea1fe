"""Which tiers of a graph are asked by batches of their provider, at which prices, and what asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from router_models.pricing.prices import Price, Tariff
from serve_graph.cli.batch.providers.anthropic_api import AnthropicBatchApi
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_api import ProviderApi
from serve_graph.cli.batch.providers.provider_engine import TierTerms
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.errors import ServeGraphError
from serve_graph.policy.bindings import price_list


def batched_tiers(config: GraphConfig, interactive: Sequence[str] = ()) -> dict[str, HostedTierConfig]:
    """The tiers whose calls are a provider's batches: behind one API, OpenAI's or Anthropic's; not `interactive`."""
    hosted = (tier for tier in config.tiers if isinstance(tier, HostedTierConfig) and len(tier.apis) == 1)
    return {tier.name: tier for tier in hosted if tier.name not in interactive}


def check_batched(config: GraphConfig, interactive: Sequence[str] = ()) -> dict[str, HostedTierConfig]:
    """As `batched_tiers`; raises ServeGraphError where there is none, or `interactive` names no hosted tier."""
    hosted = [tier.name for tier in config.tiers if isinstance(tier, HostedTierConfig)]
    if unknown := [name for name in interactive if name not in hosted]:
        raise ServeGraphError(
            f"--interactive {unknown[0]}: that is no hosted tier; there are {', '.join(hosted) or 'none'}"
        )
    if not (found := batched_tiers(config, interactive)):
        raise ServeGraphError(
            "no tier has batches of its provider: that takes `engine: openai` and one API (OpenAI's or Anthropic's), "
            "and no --interactive for it; leave --provider-batches out"
        )
    return found


def batch_prices(config: GraphConfig, interactive: Sequence[str] = ()) -> dict[str, Price]:
    """What every tier's tokens cost in a run with providers' batches."""
    found, batched = {}, batched_tiers(config, interactive)
    for tier in config.tiers:
        price = price_list(tier).at(datetime.now(UTC))
        if tier.name in batched:
            factor = price.batch_factor
            cached = factor if price.batch_cached_factor is None else price.batch_cached_factor
            price = replace(
                price,
                input_usd_per_mtok=price.input_usd_per_mtok * factor,
                output_usd_per_mtok=price.output_usd_per_mtok * factor,
                cached_input_usd_per_mtok=price.rates(0).cached_rate * cached,
            )
        found[tier.name] = price
    return found


def batch_terms(tier: HostedTierConfig) -> TierTerms:
    """What lines of a tier's batches are made under."""
    return TierTerms(tier, price_list(tier), Tariff.BATCH)


def batch_pool(
    tier: HostedTierConfig,
    ledger: ProviderLedger,
    purse: HeldMoney,
    poll_s: float,
    linger_s: float,
    tell: Callable[[str], None],
) -> BatchPool:
    """What gathers a tier's calls into batches; belongs to the event loop that is running."""
    api = tier.apis[0]
    return BatchPool(
        tier.name,
        AnthropicBatchApi(api, look_s=poll_s) if api.api == "anthropic" else ProviderApi(api),
        ledger,
        purse,
        batch_terms(tier).reply_usd,
        linger_s,
        poll_s,
        tell=tell,
        price_factor=tier.price.batch_factor,
    )
