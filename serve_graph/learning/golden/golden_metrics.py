"""The `serve_graph_golden_*` metrics of one ingress replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from serve_graph.learning.golden.run_table import RecordedRun
from serve_graph.learning.judging.call_metrics import CallMetrics
from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class GoldenMetrics(CallMetrics):
    """What this replica's runs of golden tasks did and cost, and what the newest runs of all replicas found."""

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    newest: dict[str, RecordedRun] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """Yield the totals, and the figures of each tier's newest run, as metric families."""
        yield counter_family(
            "serve_graph_golden_runs",
            "Runs of golden tasks that this replica made, by tier and kind: reference, compared or failed.",
            ("tier", "kind"),
            self.runs,
        )
        yield counter_family(
            "serve_graph_golden_failed",
            "Golden tasks without an answer, by tier and why: they count as no change.",
            ("tier", "reason"),
            self.failed,
        )
        yield from self.families("serve_graph_golden", "golden tasks", "to a golden task")
        figures = GaugeMetricFamily(
            "serve_graph_golden_figure",
            "Figures of each tier's newest run, before and now: answers (share of pairs that differ), length and "
            "prompt_tokens (means), wrong (graded answers that are wrong).",
            labels=["tier", "figure", "when"],
        )
        reached = GaugeMetricFamily(
            "serve_graph_golden_evidence",
            "Evidence that answers of a tier are wrong more often than in its reference, by its limit; at 1 the alarm "
            "is raised.",
            labels=["tier"],
        )
        at = GaugeMetricFamily(
            "serve_graph_golden_run_timestamp_seconds", "When a tier's newest run ended.", labels=["tier"]
        )
        for tier, run in self.newest.items():
            for change in run.detail.get("figures", ()):
                figures.add_metric([tier, change["figure"], "before"], change["before"])
                figures.add_metric([tier, change["figure"], "now"], change["now"])
            if (grades := run.detail.get("grades")) and run.kind == "compared":
                figures.add_metric([tier, "wrong", "before"], grades["expected"])
                figures.add_metric([tier, "wrong", "now"], grades["wrong"])
                reached.add_metric([tier], grades["e_value"] / run.detail["grades_limit"])
            at.add_metric([tier], datetime.fromisoformat(run.at).timestamp())
        yield from (figures, reached, at)
