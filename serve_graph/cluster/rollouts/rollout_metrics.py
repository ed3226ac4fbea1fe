"""The `serve_graph_rollout_*` gauges: what an ingress replica was told of the rollout that is under way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve_graph.policy.served_version import ServedRollout


@dataclass(frozen=True, eq=False)
class RolloutMetrics(Collector):
    """The rollout under way; None: none is, and the gauges have no sample."""

    rollout: ServedRollout | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        weight = GaugeMetricFamily(
            "serve_graph_rollout_weight",
            "The candidate's share of traffic, 0 to 1, by kind and version; a shadow's is 0.",
            labels=["kind", "version"],
        )
        state = GaugeMetricFamily(
            "serve_graph_rollout_state",
            "1 for the state of the rollout under way: Progressing, Paused or Promoting.",
            labels=["kind", "version", "state"],
        )
        if (tried := self.rollout) is not None:
            weight.add_metric([tried.kind, tried.candidate.name], tried.weight)
            state.add_metric([tried.kind, tried.candidate.name, tried.state], 1.0)
        yield weight
        yield state
