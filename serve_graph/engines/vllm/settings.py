"""Convert a vLLM tier's configuration to `ray.serve.llm`'s LLMConfig, without importing vLLM at import."""

from __future__ import annotations

from typing import Any

from serve_graph.config.records import TracingConfig
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.config.tiers.parts import LoraSection


def llm_config(
    tier: VllmTierConfig, model_source: str, *, pooling: bool = False, tracing: TracingConfig | None = None
) -> Any:
    """Build the LLMConfig of a tier, or with `pooling` of an embedder.

    Engine arguments and speculation are passed through. `model_source` is a folder or hub id (see
    `weights.resolve_weights`). vLLM's metrics stay in the replica's own Prometheus registry, from which `/metrics`
    collects them.
    """
    from ray.serve.llm import LLMConfig

    return LLMConfig(**llm_settings(tier, model_source, pooling=pooling, tracing=tracing))


def llm_settings(
    tier: VllmTierConfig, model_source: str, *, pooling: bool = False, tracing: TracingConfig | None = None
) -> dict[str, Any]:
    """Return LLMConfig's arguments as plain data.

    With `tracing` the engine sends its own spans to the same collector. No certificate is bound to that: the arguments
    that it is bound to are `engine_arguments`.
    """
    scaling = tier.scaling
    traced, traced_env = ({}, {}) if tracing is None else engine_tracing(tier, tracing)
    bundles = tier.placement_bundles or ([{"CPU": 0.5}] if tier.accelerator == "cpu" else None)
    return {
        "model_loading_config": {"model_id": tier.name, "model_source": model_source},
        "engine_kwargs": ({"runner": "pooling"} if pooling else {}) | traced | engine_arguments(tier),
        "accelerator_config": {"kind": tier.accelerator},
        "accelerator_type": tier.accelerator_type,
        "placement_group_config": None if bundles is None else {"bundles": bundles},
        "runtime_env": {"env_vars": traced_env | dict(tier.env)},
        "log_engine_metrics": False,
        "lora_config": None if tier.lora is None else _lora_config(tier.lora),
        "deployment_config": {
            "autoscaling_config": scaling.autoscaling(None if pooling or scaling.is_fixed else "TierScaling"),
            "max_ongoing_requests": scaling.max_ongoing_requests,
            "max_queued_requests": scaling.max_queued_requests,
            "graceful_shutdown_timeout_s": scaling.drain_s,
            "graceful_shutdown_wait_loop_s": min(scaling.drain_s, 0.5),
        }
        | (
            {"request_router_config": prefix_routing(scaling.target_ongoing_requests)}
            if tier.request_router == "prefix"
            else {}
        ),
    }


PREFIX_ROUTER = "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router.PrefixCacheAffinityRouter"
"""The class's import path. `ray.serve.llm.request_router` exports the same class, but importing that package imports
vLLM, which would cost the routing ingress half a gigabyte of memory and a slower start.
"""


def prefix_routing(ahead: float) -> Any:
    """Ray Serve's prefix-aware request router: prefers the replica with most of a prompt's prefix in its cache.

    A replica with over `ahead` more waiting requests than another is not preferred. Ray's default (2.60) has no limit.
    """
    from ray.serve.config import RequestRouterConfig

    return RequestRouterConfig(
        request_router_class=PREFIX_ROUTER, request_router_kwargs={"imbalanced_threshold": ahead}
    )


MENDED_SAMPLING = "serve_graph.engines.vllm.cpu_sampling.MendedSampling"
"""What a worker of vLLM's CPU build imports where it speculates."""

MENDED_ADAPTERS = "serve_graph.engines.vllm.cpu_adapters.MendedAdapters"
"""What it imports where it applies adapters; it mends sampling as well."""


def engine_arguments(tier: VllmTierConfig) -> dict[str, Any]:
    """Return vLLM's arguments: those that our sections imply, and `engine_kwargs` over them.

    A certificate is bound to all of them.
    """
    kwargs: dict[str, Any] = {"disable_log_stats": False, "enable_prompt_tokens_details": True}  # of cached tokens
    if tier.lora is not None:
        kwargs |= {"enable_lora": True, "max_lora_rank": tier.lora.max_rank}
        if tier.lora.max_in_batch > 1:
            kwargs["max_loras"] = tier.lora.max_in_batch
    if tier.weights.revision is not None:
        kwargs["revision"] = tier.weights.revision
        if "tokenizer" not in tier.engine_kwargs:  # another repository has other revisions
            kwargs["tokenizer_revision"] = tier.weights.revision
    kwargs |= tier.engine_kwargs
    if tier.speculation is not None:
        kwargs["speculative_config"] = dict(tier.speculation)
    if tier.accelerator == "cpu" and (tier.lora is not None or tier.speculation is not None):
        kwargs.setdefault("worker_extension_cls", MENDED_SAMPLING if tier.lora is None else MENDED_ADAPTERS)
    return kwargs


def engine_tracing(tier: VllmTierConfig, tracing: TracingConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """Return vLLM's argument and the environment by which an engine's spans go to the graph's collector, over HTTP."""
    names = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": tracing.service_name}
    return {"otlp_traces_endpoint": tracing.traces_url}, {
        **names,
        "OTEL_RESOURCE_ATTRIBUTES": f"serve_graph.tier={tier.name}",
    }


def _lora_config(lora: LoraSection) -> dict[str, Any]:
    """Convert our section to Ray's LoraConfig, for remote stores only; the deployment loads local folders."""
    return {
        "dynamic_lora_loading_path": lora.loading_path if lora.local_path is None else None,
        "max_num_adapters_per_replica": lora.max_adapters_per_replica,
        "download_timeout_s": lora.download_timeout_s,
        "max_download_tries": lora.max_download_tries,
    }
