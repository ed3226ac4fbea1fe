"""The `serve_graph_judge_*` metrics of one ingress replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from serve_graph.learning.judging.call_metrics import CallMetrics
from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class JudgeMetrics(CallMetrics):
    """What the judge of live answers did and what it cost: apart from what requests do and cost."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    waiting: int = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the totals as metric families."""
        yield counter_family(
            "serve_graph_judge_verdicts",
            "Served answers that the judge graded, by the request's outcome and the verdict: right, wrong or tie.",
            ("outcome", "verdict"),
            self.verdicts,
        )
        yield counter_family(
            "serve_graph_judge_shed",
            "Answers drawn for the judge that it was not asked about, by why: its queue was full, its tier busy, the "
            "day's budget spent, or the answer nothing that it reads.",
            ("reason",),
            {(reason,): n for reason, n in self.shed.items()},
        )
        yield counter_family(
            "serve_graph_judge_failed",
            "Answers without a label because the judge, or the last tier asked for its answer, failed, by why; "
            "unparsable: its reply held no verdict.",
            ("reason",),
            {(reason,): n for reason, n in self.failed.items()},
        )
        yield from self.families("serve_graph_judge", "judging", "the last tier's, to compare with")
        yield GaugeMetricFamily("serve_graph_judge_waiting", "Answers that wait for the judge.", self.waiting)
