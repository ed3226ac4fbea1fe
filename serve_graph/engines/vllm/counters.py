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
