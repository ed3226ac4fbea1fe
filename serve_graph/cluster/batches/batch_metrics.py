"""What is counted of batches: lines by how they ended, and batches that have not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class BatchMetrics(Collector):
    """Totals of one ingress replica. `ended`: lines and batches by result; `under_way`: lines now."""

    lines: Counter[tuple[str]] = field(default_factory=Counter)
    batches: Counter[tuple[str]] = field(default_factory=Counter)
    retries: Counter[tuple[str]] = field(default_factory=Counter)
    lost: int = 0
    under_way: int = 0
    places: int = 0
    held: Mapping[str, int] = field(default_factory=dict)

    def collect(self) -> Iterable[Metric]:
        yield counter_family(
            "serve_graph_batch_lines", "Requests of batches that ended, by result.", ("result",), self.lines
        )
        yield counter_family(
            "serve_graph_batches", "Batches that this replica ended, by status.", ("status",), self.batches
        )
        yield counter_family(
            "serve_graph_batch_retries", "Requests of batches that were put off, by why.", ("reason",), self.retries
        )
        yield counter_family(
            "serve_graph_batch_leases_lost", "Batches that another replica took over.", (), {(): self.lost}
        )
        gauges = {
            "serve_graph_batch_lines_under_way": ("Requests of batches in progress.", self.under_way),
            "serve_graph_batch_places": ("Requests of batches that may be in progress now.", self.places),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        held = GaugeMetricFamily("serve_graph_batches_held", "Batches that this replica works on.", labels=("status",))
        for status, count in sorted(self.held.items()):
            held.add_metric([status], count)
        yield held
