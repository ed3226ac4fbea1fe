"""The `serve_graph_*` metrics of `/metrics`. Labels are tier, outcome, version and the like; never text or users.

What a replica counts itself is kept in exact numbers (money as Decimal) and handed to prometheus_client when the page
is asked for, together with what others know then: the spool, the engines, the certificates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router_models.types import DecisionRecord
from serve_graph.records.engine_metrics import engine_families

DISTANCE_EDGES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Upper edges of the distance histogram: 0 = typical of the training data, from 1 on unlike it."""


@dataclass(eq=False)
class RequestMetrics(Collector):
    """Running totals of one ingress replica, fed with every record it writes."""

    requests: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_usd: dict[str, Decimal] = field(default_factory=dict)
    distances: Counter[tuple[str, float]] = field(default_factory=Counter)
    distance_sum: dict[str, float] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    spilled: Counter[str] = field(default_factory=Counter)
    unmetered: Counter[tuple[str, str]] = field(default_factory=Counter)
    unrecorded: int = 0

    def add(self, record: DecisionRecord) -> None:
        """Count one record."""
        self.requests[(record.tier, record.outcome, record.version, record.status)] += 1
        if record.distance is not None and math.isfinite(record.distance):
            edge = next((edge for edge in DISTANCE_EDGES if record.distance <= edge), math.inf)
            self.distances[(record.version, edge)] += 1
            self.distance_sum[record.version] = self.distance_sum.get(record.version, 0.0) + record.distance
        self.spilled[record.tier] += "spilled" in record.evidence
        for call in record.calls:
            self.calls[call.tier] += 1
            self.tokens[(call.tier, "prompt")] += call.usage.prompt_tokens
            self.tokens[(call.tier, "completion")] += call.usage.completion_tokens
        for line in record.bill:
            self.cost_usd[line.tier] = self.cost_usd.get(line.tier, Decimal(0)) + line.cost_usd
            self.unmetered[(line.tier, line.what)] += not line.metered

    def collect(self) -> Iterator[Metric]:
        """The totals as families of metrics; Decimals become the nearest float."""
        yield _counter(
            "serve_graph_requests",
            "Requests with a decision record, by the tier that answered, outcome, router version and HTTP status.",
            ("tier", "outcome", "version", "status"),
            self.requests,
        )
        yield _counter(
            "serve_graph_engine_calls",
            "Calls that decisions made to a tier, failed ones included.",
            ("tier",),
            {(tier,): n for tier, n in self.calls.items()},
        )
        yield _counter("serve_graph_tokens", "Tokens of those calls, by kind.", ("tier", "kind"), self.tokens)
        yield _counter(
            "serve_graph_cost_usd",
            "Money spent, in US dollars, by tier, routing and verifying included.",
            ("tier",),
            {(tier,): usd for tier, usd in self.cost_usd.items()},
        )
        yield _counter(
            "serve_graph_unmetered_calls",
            "Calls whose tokens nobody counted, which the cost leaves out, by what became of them.",
            ("tier", "what"),
            +self.unmetered,
        )
        yield self._distance_family()
        yield _counter(
            "serve_graph_refused",
            "Requests turned away before a decision, by HTTP status; they have no record.",
            ("code",),
            {(str(code),): n for code, n in self.refused.items()},
        )
        yield _counter(
            "serve_graph_spilled",
            "Answers served on overload under a promise of their own, by tier.",
            ("tier",),
            {(tier,): n for tier, n in self.spilled.items() if n},
        )

    def _distance_family(self) -> Metric:
        """How far from the training data the routed prompts lay: a sign of drift that needs no labels."""
        text = "Distance of routed prompts from the training data: 0 is typical, from 1 on unlike it."
        family = HistogramMetricFamily("serve_graph_prompt_distance", text, labels=["version"])
        for version, total in sorted(self.distance_sum.items()):
            buckets, count = [], 0
            for edge in (*DISTANCE_EDGES, math.inf):
                count += self.distances[(version, edge)]
                buckets.append(("+Inf" if math.isinf(edge) else f"{edge:g}", float(count)))
            family.add_metric([version], buckets, total)
        return family


@dataclass(frozen=True, eq=False)
class _ValuesNow(Collector):
    """What is read when the page is asked for; `render_metrics` says what each is."""

    spooled: int
    engines: Mapping[str, Mapping[str, float]]
    escalation_caps: int
    held: int
    lost: int
    certificates: Mapping[str, float | None]

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "serve_graph_records_spooled", "Decision records that the store does not hold yet.", self.spooled
        )
        yield GaugeMetricFamily(
            "serve_graph_records_held", "Those of them that are in memory only: a kill would lose them.", self.held
        )
        yield CounterMetricFamily("serve_graph_records_lost", "Decision records that fitted nowhere.", self.lost)
        yield CounterMetricFamily(
            "serve_graph_escalation_caps",
            "Requests refused because their key had used up its share of escalations.",
            self.escalation_caps,
        )
        valid = GaugeMetricFamily(
            "serve_graph_certificate_valid", "Whether a certificate holds: 1 or 0.", labels=["certificate"]
        )
        left = GaugeMetricFamily(
            "serve_graph_certificate_seconds_left",
            "Seconds for which a certificate still holds, where its end is known.",
            labels=["certificate"],
        )
        for name, seconds in sorted(self.certificates.items()):
            valid.add_metric([name], float(seconds != 0))
            if seconds is not None:
                left.add_metric([name], seconds)
        yield valid
        yield left
        yield from engine_families(self.engines)


def render_metrics(
    metrics: RequestMetrics,
    spooled: int,
    engines: Mapping[str, Mapping[str, float]],
    escalation_caps: int = 0,
    *,
    held: int = 0,
    lost: int = 0,
    certificates: Mapping[str, float | None] = MappingProxyType({}),
) -> str:
    """The page in Prometheus' text format, from a registry of its own: nothing of this process's other libraries.

    Parameters
    ----------
    metrics : RequestMetrics
        What this replica counted.
    spooled, held, lost : int
        Records the store does not hold yet, those of them in memory only, and records that fitted nowhere.
    engines : mapping of tier to counters
        Each tier's own counters (`serve_graph_engine_*`); empty where a tier does not answer.
    escalation_caps : int
        Requests refused because their key had used up its share of escalations.
    certificates : mapping of name to seconds
        How long each still holds; 0 = it is void, None = no end is known.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    now = _ValuesNow(spooled, engines, escalation_caps, held, lost + metrics.unrecorded, certificates)
    registry.register(now)
    return generate_latest(registry).decode()


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int | Decimal]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], float(value))
    return family
