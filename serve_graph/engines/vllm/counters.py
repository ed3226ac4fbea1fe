"""vLLM's own metrics of one replica."""

from __future__ import annotations


def engine_counters() -> dict[str, float]:
    """Return the Prometheus counters and gauges of this process, `vllm:…` → value, summed over engines."""
    from prometheus_client import REGISTRY

    found: dict[str, float] = {}
    for metric in REGISTRY.collect():
        if metric.name.startswith("vllm:") and metric.type in ("counter", "gauge"):
            for sample in metric.samples:
                if not sample.name.endswith("_created"):
                    position = sample.labels.get("position")
                    key = sample.name if position is None else f"{sample.name}[{position}]"
                    found[key] = found.get(key, 0.0) + sample.value
    return found


KV_CACHE = "kv_cache_use"
"""The statistic of a replica that the autoscaling of its tier reads."""


def kv_cache_use() -> float:
    """Return the part of the KV cache that is in use, 0 to 1; of several engines the fullest's."""
    from prometheus_client import REGISTRY

    gauges = [metric for metric in REGISTRY.collect() if metric.name == "vllm:kv_cache_usage_perc"]
    return max((sample.value for gauge in gauges for sample in gauge.samples), default=0.0)
