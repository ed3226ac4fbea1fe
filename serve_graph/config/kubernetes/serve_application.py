"""The RayService's `serveConfigV2`: our builder, its arguments, and which workers hold what runs no engine."""

from __future__ import annotations

from typing import Any

import yaml

from serve_graph.config.graph import GraphConfig
from serve_graph.config.kubernetes.graph_settings import CONFIG_FILE, CONFIG_FOLDER
from serve_graph.config.kubernetes.worker_groups import PER_REPLICA, SERVING_GROUP, serving_deployments

IMPORT_PATH = "serve_graph.app:build_app"
APPLICATION = "serve-graph"


def serve_config(config: GraphConfig) -> dict[str, Any]:
    """Ray Serve's declarative configuration of the graph, as `serve deploy` and KubeRay take it.

    Autoscaling, queues and time limits are the builder's, from the same file; here is only what places replicas.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": config.http.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": {"config": f"{CONFIG_FOLDER}/{CONFIG_FILE}"},
                "deployments": _placed(config),
            }
        ],
    }


def serve_config_text(config: GraphConfig) -> str:
    """`serve_config` as the text that a RayService holds."""
    return yaml.safe_dump(serve_config(config), sort_keys=False, width=119)


def _placed(config: GraphConfig) -> list[dict[str, Any]]:
    """Every deployment that runs no engine, kept off the workers of the engines, which may be scaled to zero.

    One that the builder may not bind is left out: Ray Serve refuses options of a deployment that is not there.
    """
    cpus = {name: scaling.num_cpus for name, scaling in serving_deployments(config).items()}
    follows = config.policy.follow_s is not None
    if config.policy.version not in ("none", "builtin"):
        if follows:
            cpus["controller"] = 0
        else:
            cpus = {name: number for name, number in cpus.items() if name not in ("router", "verifier")}
    return [
        {"name": name, "ray_actor_options": {"num_cpus": number, "resources": {SERVING_GROUP: PER_REPLICA}}}
        for name, number in cpus.items()
    ]
