"""The environment of the graph's pods: Ray's settings, and secrets by reference alone."""

from __future__ import annotations

from typing import Any

from serve_graph.config.kubernetes.graph_settings import ClusterGraph, hosted_apis
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.config.tiers.scaling import LOAD_TOLD

SECRET = "serve-graph"
"""The Secret that holds, by the variable's name, every value that the configuration leaves open."""


def environment(graph: ClusterGraph, models_folder: str, home: str) -> list[dict[str, Any]]:
    """Environment variables of a container, plain ones first; no value of a secret is among them.

    `models_folder`: where Hugging Face's hub keeps what it downloads; `home`: a folder that may be written to.
    """
    plain = ray_environment(graph) | {
        "HOME": home,
        "HF_HOME": models_folder,
        "VLLM_CACHE_ROOT": f"{home}/vllm",
        "XDG_CACHE_HOME": f"{home}/cache",
    }
    named = [{"name": name, "value": value} for name, value in plain.items()]
    return named + [secret_variable(name) for name in secret_names(graph)] + _hub_token(graph)


def ray_environment(graph: ClusterGraph) -> dict[str, str]:
    """What Ray and Ray Serve read when they start: the same settings as `serve-graph up` makes."""
    http = graph.config.http
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if http.haproxy else "0",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(http.replica_message_bytes),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        **LOAD_TOLD,
    }


def secret_names(graph: ClusterGraph) -> list[str]:
    """The variables whose values are secrets: those in the configuration's text, and keys of hosted tiers."""
    keys = {api.api_key_env for api in hosted_apis(graph.config) if api.api_key_file is None}
    return sorted({*graph.variables, *keys})


def secret_variable(name: str, *, optional: bool = False) -> dict[str, Any]:
    """A variable whose value is in the Secret under its own name."""
    reference: dict[str, Any] = {"name": SECRET, "key": name}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _hub_token(graph: ClusterGraph) -> list[dict[str, Any]]:
    """Gated models need a token of the hub; others do not."""
    engines = [t for t in graph.config.every_tier if isinstance(t, VllmTierConfig)]
    return [secret_variable("HF_TOKEN", optional=True)] if any(tier.weights.hub for tier in engines) else []
