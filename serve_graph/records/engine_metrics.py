"""What engines count themselves, as `serve_graph_engine_*`: vLLM's own figures and what the graph knows of a tier."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily

OURS = {
    "in_flight": "Requests that the tier is at work on for this ingress replica.",
    "queued": "Requests that wait for a place at the tier.",
    "refused": "Requests refused because the tier was saturated, since this replica began.",
    "deployment_calls": "Calls made to the tier's hosted deployments, since it began.",
    "deployment_failures": "Calls to them that failed, since it began.",
    "deployments_resting": "Hosted deployments that rest now after failing.",
    "num_requests_running": "Requests that the engine is at work on.",
}
COUNTS_WITHOUT_SUFFIX = {"refused", "deployment_calls", "deployment_failures"}
"""They only grow, but their public names lack the `_total` that the format wants of a counter: shown as untyped."""


def engine_families(engines: Mapping[str, Mapping[str, float]]) -> Iterable[Metric]:
    """One family a counter, with a sample for each tier and, of speculation, each position ("name[2]")."""
    families: dict[str, Metric] = {}
    for tier, counters in sorted(engines.items()):
        for key, value in sorted(counters.items()):
            base, _, position = key.partition("[")
            name = re.sub(r"[^a-zA-Z0-9_]", "_", base.removeprefix("vllm:"))
            family = families.setdefault(name, _family(name, base))
            labels = {"tier": tier} | ({"position": position.rstrip("]")} if position else {})
            family.add_sample(f"serve_graph_engine_{name}", labels, value)
    return [families[name] for name in sorted(families)]


def _family(name: str, base: str) -> Metric:
    text, full = OURS.get(name, f"The engine's own {base}."), f"serve_graph_engine_{name}"
    if name.endswith("_total"):
        return CounterMetricFamily(full, text)
    return UnknownMetricFamily(full, text) if name in COUNTS_WITHOUT_SUFFIX else GaugeMetricFamily(full, text)
