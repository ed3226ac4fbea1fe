"""The `serve_graph_judge_*` metrics of one ingress replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router_models.types import Call
from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class JudgeMetrics(Collector):
    """What the judge of live answers did and what it cost: apart from what requests do and cost."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_usd: dict[str, Decimal] = field(default_factory=dict)
    waiting: int = 0

    def add_call(self, line: Call) -> None:
        """Count one call of the judge's, or of the last tier for its answer."""
        self.calls[(line.tier, line.what)] += 1
        self.tokens[(line.tier, "prompt")] += line.usage.prompt_tokens
        self.tokens[(line.tier, "completion")] += line.usage.completion_tokens
        self.cost_usd[line.tier] = self.cost_usd.get(line.tier, Decimal(0)) + line.cost_usd

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
        yield counter_family(
            "serve_graph_judge_calls",
            "Calls for judging, by tier and purpose: judging, or answer (the last tier's, to compare with).",
            ("tier", "what"),
            self.calls,
        )
        yield counter_family(
            "serve_graph_judge_tokens", "Tokens of those calls, by kind.", ("tier", "kind"), self.tokens
        )
        yield counter_family(
            "serve_graph_judge_cost_usd",
            "Money spent on judging, in US dollars, by tier: no request's cost, and no key's.",
            ("tier",),
            {(tier,): usd for tier, usd in self.cost_usd.items()},
        )
        yield GaugeMetricFamily("serve_graph_judge_waiting", "Answers that wait for the judge.", self.waiting)
