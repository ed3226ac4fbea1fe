"""Recording and alert rules: one source for Prometheus' operator on Kubernetes and for a plain Prometheus.

Each ingress replica answers `/metrics` for the whole graph, so that pods which are scraped say the same: `max by
(ray_io_cluster, …)` takes one of them, and a sum adds the two clusters of a release that is under way. Where one
address is scraped there is no such label, and the same expressions hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RUNBOOKS_URL = "https://docs.serve-graph.example/operate/runbooks"
"""Where runbooks are published; yours to replace (`serve-graph monitoring --runbooks-url`)."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: when it fires, after how long, how grave it is, what it says, and where it is written what to do."""

    name: str
    expr: str
    summary: str
    runbook: str
    severity: Literal["critical", "warning"] = "warning"
    wait: str | None = None


def once(labels: str, inner: str) -> str:
    """One of the replicas that all say the same, with these labels."""
    return f"max by (ray_io_cluster, {labels}) ({inner})"


def tier_rate(counter: str, window: str) -> str:
    """How fast a tier's counter grows, per second."""
    return f"sum by (tier) ({once('tier', f'rate({counter}[{window}])')})"


REQUESTS = "serve_graph_requests_total"
ALL = "tier, outcome, version, status"
RECORDED: dict[str, str] = {
    "serve_graph:requests:rate5m": f"sum by ({ALL}) ({once(ALL, f'rate({REQUESTS}[5m])')})",
    "serve_graph:refused:share5m": (
        f"sum({once('code', 'rate(serve_graph_refused_total[5m])')})"
        f" / (sum({once('code', 'rate(serve_graph_refused_total[5m])')})"
        f" + (sum({once(ALL, f'rate({REQUESTS}[5m])')}) or vector(0)))"
    ),
    "serve_graph:escalated:share1h": (
        f'sum({once(ALL, f"""rate({REQUESTS}{{outcome="escalated"}}[1h])""")})'
        f' / sum({once(ALL, f"""rate({REQUESTS}{{outcome=~"accepted|escalated"}}[1h])""")})'
    ),
    "serve_graph:uncovered:share1h": (
        f"sum({once('reason', 'rate(serve_graph_uncovered_requests_total[1h])')})"
        f" / sum({once(ALL, f'rate({REQUESTS}[1h])')})"
    ),
    "serve_graph:cost_usd:rate1h": f"sum by (tier) ({once('tier', 'rate(serve_graph_cost_usd_total[1h])')})",
    "serve_graph:cost_usd_per_request:mean1h": (
        f"sum({once('tier', 'rate(serve_graph_cost_usd_total[1h])')}) / sum({once(ALL, f'rate({REQUESTS}[1h])')})"
    ),
    "serve_graph:speculation:accepted_share15m": (
        f"{tier_rate('serve_graph_engine_spec_decode_num_accepted_tokens_total', '15m')}"
        f" / {tier_rate('serve_graph_engine_spec_decode_num_draft_tokens_total', '15m')}"
    ),
}
"""Series that are computed from others, by name."""

HOSTED_CALLS = "serve_graph_engine_deployment_calls"
ROLLOUT_STATE = "serve_graph_rollout_state"
ALERTS: tuple[Alert, ...] = (
    Alert(
        "ServeGraphAway",
        "absent(serve_graph_records_spooled)",
        "Nothing answers /metrics of the graph",
        "outage",
        "critical",
        "5m",
    ),
    Alert(
        "ServeGraphFailing",
        'sum(serve_graph:requests:rate5m{status=~"5.."}) / sum(serve_graph:requests:rate5m) > 0.05',
        "{{ $value | humanizePercentage }} of requests fail",
        "outage",
        "critical",
        "5m",
    ),
    Alert(
        "ServeGraphFallingBack",
        'sum(serve_graph:requests:rate5m{outcome="fallback"}) / sum(serve_graph:requests:rate5m) > 0.05',
        "{{ $value | humanizePercentage }} of requests fall back: router, verifier or a tier fails",
        "outage",
        wait="10m",
    ),
    Alert(
        "ServeGraphEscalating",
        "serve_graph:escalated:share1h > 0.22",
        "{{ $value | humanizePercentage }} of tried cheap answers are escalated",
        "escalation",
        wait="30m",
    ),
    Alert(
        "ServeGraphUncovered",
        "serve_graph:uncovered:share1h > 0.2",
        "{{ $value | humanizePercentage }} of requests are unlike those that were certified",
        "uncovered",
        wait="30m",
    ),
    Alert(
        "ServeGraphRefusing",
        "serve_graph:refused:share5m > 0.05",
        "{{ $value | humanizePercentage }} of requests are refused before a decision",
        "refusals",
        wait="10m",
    ),
    Alert(
        "ServeGraphBudgetNearlySpent",
        "max by (period) (serve_graph_budget_spent_share) > 0.9",
        "A key has spent {{ $value | humanizePercentage }} of its {{ $labels.period }}'s budget",
        "refusals",
    ),
    Alert(
        "ServeGraphTierSaturated",
        f"{tier_rate('serve_graph_engine_refused', '5m')} > 0",
        "Tier {{ $labels.tier }} is full and refuses requests",
        "refusals",
        wait="10m",
    ),
    Alert(
        "ServeGraphCertificateEnds",
        "min by (certificate) (serve_graph_certificate_seconds_left > 0) < 7 * 86400",
        "The certificate {{ $labels.certificate }} ends in {{ $value | humanizeDuration }}",
        "certificate",
    ),
    Alert(
        "ServeGraphCertificateVoid",
        "min by (certificate) (serve_graph_certificate_valid) == 0",
        "The certificate {{ $labels.certificate }} does not hold: what it allowed is not done",
        "certificate",
        wait="10m",
    ),
    Alert(
        "ServeGraphCertificateRevoked",
        "max(serve_graph_certificate_revoked) == 1",
        "Labels contradict the served certificate; the graph is in its safe mode",
        "quality-alarm",
        "critical",
    ),
    Alert(
        "ServeGraphQualityAlarmNear",
        "max by (kind) (serve_graph_alarm_level) > 0.8",
        "A test of the promise ({{ $labels.kind }}) is at {{ $value | humanizePercentage }} of its limit",
        "quality-alarm",
    ),
    Alert(
        "ServeGraphCostJump",
        "serve_graph:cost_usd_per_request:mean1h > 1.5 * (serve_graph:cost_usd_per_request:mean1h offset 1d)",
        "A request costs ${{ $value | humanize }}, over half as much again as a day ago",
        "cost-jump",
        wait="30m",
    ),
    Alert(
        "ServeGraphRolloutStuck",
        f'max by (kind, version) ({ROLLOUT_STATE}{{state=~"Paused|Promoting"}}) == 1',
        "The {{ $labels.kind }} of version {{ $labels.version }} waits for somebody",
        "canary",
        wait="1d",
    ),
    Alert(
        "ServeGraphCanaryInconclusive",
        f'max by (kind, version) ({ROLLOUT_STATE}{{kind="canary", state="Progressing"}}) == 1',
        "The {{ $labels.kind }} of version {{ $labels.version }} has not come to an end in three days",
        "canary",
        wait="3d",
    ),
    Alert(
        "ServeGraphStoreAway",
        "max(serve_graph_records_waiting_seconds) > 600 or max(serve_graph_records_spooled) > 1000",
        "Decision records wait for the store, which is away or too slow",
        "store",
        wait="10m",
    ),
    Alert(
        "ServeGraphRecordsLost",
        "max(increase(serve_graph_records_lost_total[15m])) > 0",
        "Decision records were lost",
        "store",
        "critical",
    ),
    Alert(
        "ServeGraphSpeculationCollapsed",
        "serve_graph:speculation:accepted_share15m < 0.2",
        "Tier {{ $labels.tier }} accepts {{ $value | humanizePercentage }} of its drafts",
        "speculation",
        wait="30m",
    ),
    Alert(
        "ServeGraphHostedTierFailing",
        f"{tier_rate('serve_graph_engine_deployment_failures', '5m')} / {tier_rate(HOSTED_CALLS, '5m')} > 0.1",
        "{{ $value | humanizePercentage }} of calls to the API of tier {{ $labels.tier }} fail",
        "outage",
        wait="10m",
    ),
    Alert(
        "ServeGraphHostedTierThrottled",
        f"{tier_rate('serve_graph_engine_deployment_throttled_total', '5m')} / {tier_rate(HOSTED_CALLS, '5m')} > 0.02",
        "The API of tier {{ $labels.tier }} answers {{ $value | humanizePercentage }} of calls with 429",
        "outage",
        wait="10m",
    ),
    Alert(
        "ServeGraphHostedTierRefused",
        "max by (tier) (serve_graph_engine_deployments_refusing) > 0",
        "An API refuses the key, account or model of tier {{ $labels.tier }}",
        "outage",
        "critical",
        "5m",
    ),
)
"""Every alert."""


def rule_groups(runbooks_url: str = RUNBOOKS_URL) -> list[dict[str, Any]]:
    """The groups of a plain Prometheus' file of rules."""
    base = runbooks_url.rstrip("/")
    return [
        {"name": "serve-graph.records", "rules": [{"record": name, "expr": expr} for name, expr in RECORDED.items()]},
        {
            "name": "serve-graph.alerts",
            "rules": [
                {
                    "alert": alert.name,
                    "expr": alert.expr,
                    **({} if alert.wait is None else {"for": alert.wait}),
                    "labels": {"severity": alert.severity},
                    "annotations": {"summary": alert.summary, "runbook_url": f"{base}/{alert.runbook}.html"},
                }
                for alert in ALERTS
            ],
        },
    ]


def prometheus_rule(runbooks_url: str = RUNBOOKS_URL) -> dict[str, Any]:
    """The same for Prometheus' operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "serve-graph"},
        "spec": {"groups": rule_groups(runbooks_url)},
    }
