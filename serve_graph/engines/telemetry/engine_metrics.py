"""The `serve_graph_engine_*` metrics: vLLM's own counters and what the graph knows about a tier."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily

OURS = {
    "in_flight": "Requests in progress at the tier for this ingress replica.",
    "queued": "Requests waiting for admission to the tier.",
    "refused": "Requests refused because the tier was saturated, since this replica started.",
    "deployment_calls": "Calls made to the tier's hosted deployments, since it started.",
    "deployment_failures": "Calls to the hosted deployments that failed, since the tier started.",
    "deployment_throttled_total": "Calls that a hosted deployment refused with 429, since the tier started.",
    "deployments_resting": "Hosted deployments whose circuit breaker is open.",
    "deployments_refusing": "Hosted deployments that refuse the tier's key, account or model.",
    "num_requests_running": "Requests in progress in the engine.",
}
COUNTS_WITHOUT_SUFFIX = {"refused", "deployment_calls", "deployment_failures"}
"""Counters whose public names lack the `_total` that the format requires of a counter: shown as untyped."""


def engine_families(engines: Mapping[str, Mapping[str, float]]) -> Iterable[Metric]:
    """Yield one family per counter, with a sample per tier and, for speculation, per position ("name[2]")."""
    families: dict[str, Metric] = {}
    for tier, counters in sorted(engines.items()):
        for key, value in sorted(counters.items()):
            base, _, position = key.partition("[")
            name = re.sub(r"[^a-zA-Z0-9_]", "_", base.removeprefix("vllm:"))
            family = families.setdefault(name, _family(name, base))
            labels = {"tier": tier} | ({"position": position.rstrip("]")} if position else {})
            family.add_sample(f"serve_graph_engine_{name}", labels, value)
    return [families[name] for name in sorted(families)]


def is_count(name: str) -> bool:
    """Whether a counter of an engine only grows; the others are gauges. `name` may have a position: `name[2]`."""
    base = name.partition("[")[0]
    return base.endswith("_total") or base in COUNTS_WITHOUT_SUFFIX


def _family(name: str, base: str) -> Metric:
    text, full = OURS.get(name, f"The engine's own {base}."), f"serve_graph_engine_{name}"
    if name.endswith("_total"):
        return CounterMetricFamily(full, text)
    return UnknownMetricFamily(full, text) if name in COUNTS_WITHOUT_SUFFIX else GaugeMetricFamily(full, text)
