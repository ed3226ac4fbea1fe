"""What a replica tells of itself: its log, with its name in every line, and the spans of what it answers."""

from __future__ import annotations

import logging

from ray import serve
from ray.serve.exceptions import RayServeException

from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import LoggingConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig
from serve_graph.engines.telemetry.json_logs import set_up_logs
from serve_graph.engines.telemetry.tracing import Tracer, check_tracing

logger = logging.getLogger(__name__)


def this_replica() -> dict[str, str]:
    """The names of this process's deployment and replica; empty where it is no replica."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return {}
    return {"deployment": context.deployment, "replica": context.replica_id.unique_id}


def log_in_replica(config: LoggingConfig | None) -> None:
    """Have this replica log as the configuration says; nothing where this process is no replica."""
    if config is not None and config.format != "text" and (place := this_replica()):
        set_up_logs(config, place)
        logger.info("a replica of %s begins", place["deployment"])


def tracer_of(config: GraphConfig) -> Tracer | None:
    """What begins the traces of this replica's requests; None where none are."""
    if config.tracing is None:
        return None
    check_tracing(config.tracing)
    from serve_graph.engines.telemetry.otel import OtelTracer, TierModel

    tiers = {tier.name: TierModel(*served_by(tier)) for tier in config.every_tier}
    return OtelTracer(config.tracing, tiers, this_replica())


def served_by(tier: AnyTierConfig) -> tuple[str, str]:
    """Who serves a tier's model, and what they call it."""
    if isinstance(tier, HostedTierConfig):
        first = tier.apis[0]
        return first.api, first.model or tier.name
    return tier.engine, tier.name
