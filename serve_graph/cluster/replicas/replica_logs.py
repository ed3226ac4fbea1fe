"""The log of a replica: in the configured format, with the deployment's and the replica's name in every line."""

from __future__ import annotations

from ray import serve
from ray.serve.exceptions import RayServeException

from serve_graph.config.records import LoggingConfig
from serve_graph.engines.telemetry.json_logs import set_up_logs


def log_in_replica(config: LoggingConfig | None) -> None:
    """Have this replica log as the configuration says; nothing where this process is no replica."""
    if config is None or config.format == "text":
        return
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return
    set_up_logs(config, {"deployment": context.deployment, "replica": context.replica_id.unique_id})
