"""The `serve_graph_*` metrics of `/metrics`. Labels are tier, outcome, version and the like, never text or users.

A replica counts in exact numbers (money as Decimal). They are converted for prometheus_client when the page is
requested, together with the current state of the spool, the engines and the certificates.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router_models.types import DecisionRecord
from serve_graph.engines.telemetry.engine_metrics import engine_families

DISTANCE_EDGES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Upper edges of the distance histogram: 0 = typical of the training data, 1 and above = unlike it."""


RECENT_REQUESTS = 1000
"""The requests that a replica's share of uncovered ones is computed over."""


@dataclass(eq=False)
class RequestMetrics(Collector):
    """Running totals of one ingress replica, updated with every record it writes."""

    requests: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_usd: dict[str, Decimal] = field(default_factory=dict)
    distances: Counter[tuple[str, float]] = field(default_factory=Counter)
    distance_sum: dict[str, float] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    spilled: Counter[str] = field(default_factory=Counter)
    unmetered: Counter[tuple[str, str]] = field(default_factory=Counter)
    uncovered: Counter[str] = field(default_factory=Counter)
    recent: deque[str | None] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))
    unrecorded: int = 0
    feedback: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    intents: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, record: DecisionRecord, *, checked: bool = False) -> None:
        """Count one record; `checked`: the request was compared with what the served version was certified on."""
        if checked:
            reason = record.evidence.get("uncovered")
            self.recent.append(reason)
            if reason is not None:
                self.uncovered[reason] += 1
        self.requests[(record.tier, record.outcome, record.version, record.status)] += 1
        if record.distance is not None and math.isfinite(record.distance):
            edge = next((edge for edge in DISTANCE_EDGES if record.distance <= edge), math.inf)
            self.distances[(record.version, edge)] += 1
            self.distance_sum[record.version] = self.distance_sum.get(record.version, 0.0) + record.distance
        self.spilled[record.tier] += "spilled" in record.evidence
        if (intent := record.evidence.get("intent", {}).get("intent")) is not None:
            self.intents[(intent, record.tier)] += 1
        if "rollout" in record.evidence:
            self.arms[record.evidence["rollout"]["arm"]] += 1
        for call in record.calls:
            self.calls[call.tier] += 1
            self.tokens[(call.tier, "prompt")] += call.usage.prompt_tokens
            self.tokens[(call.tier, "completion")] += call.usage.completion_tokens
        for line in chain(record.calls, record.overhead):
            self.cost_usd[line.tier] = self.cost_usd.get(line.tier, Decimal(0)) + line.cost_usd
            self.unmetered[(line.tier, line.what)] += not line.metered

    def add_feedback(self, kind: str) -> None:
        """Count one piece of feedback that was taken."""
        self.feedback[kind] += 1

    def coverage(self) -> dict[str, Any]:
        """Return how many of the last `RECENT_REQUESTS` checked were not covered, and why, in JSON's types."""
        reasons = Counter(reason for reason in self.recent if reason is not None)
        found, checked = sum(reasons.values()), len(self.recent)
        share = found / checked if checked else None
        return {"requests": checked, "uncovered": found, "share": share, "reasons": dict(sorted(reasons.items()))}

    def collect(self) -> Iterator[Metric]:
        """Yield the totals as metric families; Decimals become the nearest float."""
        yield counter_family(
            "serve_graph_requests",
            "Requests with a decision record, by the tier that answered, outcome, router version and HTTP status.",
            ("tier", "outcome", "version", "status"),
            self.requests,
        )
        yield counter_family(
            "serve_graph_engine_calls",
            "Calls made to each tier, including failed ones.",
            ("tier",),
            {(tier,): n for tier, n in self.calls.items()},
        )
        yield counter_family("serve_graph_tokens", "Tokens of those calls, by kind.", ("tier", "kind"), self.tokens)
        yield counter_family(
            "serve_graph_cost_usd",
            "Money spent, in US dollars, by tier, routing and verifying included.",
            ("tier",),
            {(tier,): usd for tier, usd in self.cost_usd.items()},
        )
        yield counter_family(
            "serve_graph_unmetered_calls",
            "Calls without usage data, whose tokens the cost omits, by kind of call.",
            ("tier", "what"),
            +self.unmetered,
        )
        yield counter_family(
            "serve_graph_uncovered_requests",
            "Requests that the served version's certificate does not cover, by what of them it was not proved on.",
            ("reason",),
            {(reason,): n for reason, n in self.uncovered.items()},
        )
        yield self._distance_family()
        yield counter_family(
            "serve_graph_refused",
            "Requests rejected before a decision, by HTTP status; they have no record.",
            ("code",),
            {(str(code),): n for code, n in self.refused.items()},
        )
        yield counter_family(
            "serve_graph_spilled",
            "Answers served on overload under their own certificate, by tier.",
            ("tier",),
            {(tier,): n for tier, n in self.spilled.items() if n},
        )
        yield counter_family(
            "serve_graph_rollout_requests",
            "Requests that came while a rollout was under way, by the arm that answered: stable or candidate.",
            ("arm",),
            {(arm,): n for arm, n in self.arms.items()},
        )
        yield counter_family(
            "serve_graph_intent_requests",
            "Requests that an intent of the catalogue matched, by the intent and the tier that answered.",
            ("intent", "tier"),
            self.intents,
        )
        yield counter_family(
            "serve_graph_feedback",
            "Feedback taken on decisions, by kind; each time a voice changes its word as well.",
            ("kind",),
            {(kind,): n for kind, n in self.feedback.items()},
        )

    def _distance_family(self) -> Metric:
        """Return the histogram of the routed prompts' distance from the training data: shows drift without labels."""
        text = "Distance of routed prompts from the training data: 0 is typical, 1 and above is unlike it."
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
    """Values read when the page is requested; see `render_metrics`."""

    spooled: int
    engines: Mapping[str, Mapping[str, float]]
    escalation_caps: int
    held: int
    lost: int
    certificates: Mapping[str, float | None]
    alarms: Mapping[str, float]
    revoked: bool
    waiting_s: float

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "serve_graph_records_spooled", "Decision records that are not in the store yet.", self.spooled
        )
        yield GaugeMetricFamily(
            "serve_graph_records_waiting_seconds",
            "For how long the store has lacked a record, a killed replica's included; 0: it has all.",
            self.waiting_s,
        )
        yield GaugeMetricFamily(
            "serve_graph_records_held",
            "Spooled records that are in memory only and would be lost if the process is killed.",
            self.held,
        )
        yield CounterMetricFamily(
            "serve_graph_records_lost",
            "Decision records that were lost: neither spool nor memory had room.",
            self.lost,
        )
        yield CounterMetricFamily(
            "serve_graph_escalation_caps",
            "Requests refused because too many requests of their key were escalated.",
            self.escalation_caps,
        )
        valid = GaugeMetricFamily(
            "serve_graph_certificate_valid",
            "Whether a certificate is valid: 1 or 0; 0 as well where its version may not be served.",
            labels=["certificate"],
        )
        left = GaugeMetricFamily(
            "serve_graph_certificate_seconds_left",
            "Seconds until a certificate expires, where the time is known.",
            labels=["certificate"],
        )
        for name, seconds in sorted(self.certificates.items()):
            valid.add_metric([name], float(seconds != 0))
            if seconds is not None:
                left.add_metric([name], seconds)
        yield valid
        yield left
        if self.alarms:
            yield from self._alarm_families()
        yield from engine_families(self.engines)

    def _alarm_families(self) -> Iterator[Metric]:
        revoked = "Whether labels of served answers have put the graph into its safe mode, the last tier: 1 or 0."
        yield GaugeMetricFamily("serve_graph_certificate_revoked", revoked, float(self.revoked))
        labels = "Labels that the served certificate is watched by, since the last lifting of an alarm."
        yield GaugeMetricFamily("serve_graph_alarm_labels", labels, self.alarms["labels"])
        against = "Those of them that count against its promise."
        yield GaugeMetricFamily("serve_graph_alarm_errors", against, self.alarms["errors"])
        level = GaugeMetricFamily(
            "serve_graph_alarm_level",
            "The greatest value of each test of the promise, as a share of its limit: 1 raises the alarm.",
            labels=["kind"],
        )
        for kind in ("drift", "revoked"):
            level.add_metric([kind], self.alarms[kind])
        yield level


def metric_families(
    metrics: RequestMetrics,
    spooled: int,
    engines: Mapping[str, Mapping[str, float]],
    escalation_caps: int = 0,
    *,
    held: int = 0,
    lost: int = 0,
    certificates: Mapping[str, float | None] = MappingProxyType({}),
    alarms: Mapping[str, float] = MappingProxyType({}),
    revoked: bool = False,
    waiting_s: float = 0.0,
    others: Iterable[Collector | None] = (),
) -> list[Metric]:
    """Return the metrics of one ingress replica as they are now, without those of other libraries.

    Parameters
    ----------
    metrics : RequestMetrics
        The totals of this replica.
    spooled, held, lost : int
        Records that the store does not have yet, those of them in memory only, and records that were lost.
    engines : mapping of tier to counters
        Each tier's own counters (`serve_graph_engine_*`); empty for a tier that does not answer.
    escalation_caps : int
        Requests refused because of their key's share of escalations.
    certificates : mapping of name to seconds
        Remaining validity of each certificate; 0 = void, None = no expiry known.
    alarms : mapping of name to value
        `labels`, `errors`, `drift`, `revoked`: what the promise is watched by; empty where nothing is watched.
    revoked : bool
        Whether alarms have put the graph into its safe mode.
    waiting_s : float
        For how long the store has lacked a record.
    others : iterable of Collector
        The totals of what works beside requests: judge, comparisons, rollout, tickets; None is left out.

    Returns
    -------
    list of Metric
        Every family once.
    """
    lost += metrics.unrecorded
    now = _ValuesNow(spooled, engines, escalation_caps, held, lost, certificates, alarms, revoked, waiting_s)
    collectors = (metrics, now, *(other for other in others if other is not None))
    return [family for collector in collectors for family in collector.collect()]


def render_metrics(*args: Any, **kwargs: Any) -> str:
    """Render what `metric_families` returns for these arguments in Prometheus' text format."""
    return render_families(metric_families(*args, **kwargs))


@dataclass(frozen=True, eq=False)
class _Families(Collector):
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def render_families(families: Iterable[Metric]) -> str:
    """Render metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(tuple(families)))
    return generate_latest(registry).decode()


def counter_family(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int | Decimal]) -> Metric:
    """Return a counter with a sample for each key of `values`: its labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], float(value))
    return family
