"""The `serve_graph_comparisons_*` metrics of one ingress replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from serve_graph.learning.judging.call_metrics import CallMetrics
from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class ComparisonMetrics(CallMetrics):
    """What comparing the versions of a rollout did and what it cost: apart from what requests do and cost."""

    made: Counter[str] = field(default_factory=Counter)
    ungraded: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    waiting: int = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the totals as metric families."""
        yield counter_family(
            "serve_graph_comparisons",
            "Requests that both versions of a rollout decided, by what came of it: alike (the same answer by the same "
            "path), same_answer (by another path), graded, tie (equally good to the judge), or ungraded.",
            ("result",),
            {(result,): n for result, n in self.made.items()},
        )
        yield counter_family(
            "serve_graph_comparisons_ungraded",
            "Comparisons whose answers differ and have no grades, by why.",
            ("reason",),
            {(reason,): n for reason, n in self.ungraded.items()},
        )
        yield counter_family(
            "serve_graph_comparisons_shed",
            "Requests drawn to be compared that were not, by why: their queue was full, tiers or the judge were busy, "
            "or their likely cost was not left of the day's budget.",
            ("reason",),
            {(reason,): n for reason, n in self.shed.items()},
        )
        yield from self.families("serve_graph_comparisons", "comparing", "what only a comparison needs")
        yield GaugeMetricFamily("serve_graph_comparisons_waiting", "Requests that wait to be compared.", self.waiting)
