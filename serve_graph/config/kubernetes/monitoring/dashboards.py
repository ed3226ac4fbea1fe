"""Grafana dashboards over what `/metrics` shows and the recording rules make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from serve_graph.config.kubernetes.monitoring.rules import tier_rate

Unit = Literal["short", "percentunit", "currencyUSD", "reqps", "s", "dtdurations"]
COLUMNS, WIDTH, HEIGHT = 2, 12, 8
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a title and its series, each an expression with how it is called in the legend."""

    title: str
    series: tuple[tuple[str, str], ...]
    unit: Unit = "short"
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page of panels; `name` is its file's."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def growth_by(metric: str, label: str, window: str = "5m") -> str:
    """How fast a counter of the whole graph grows, by a label."""
    return f"sum by ({label}) (max by (ray_io_cluster, {label}) (rate({metric}[{window}])))"


DASHBOARDS: tuple[Dashboard, ...] = (
    Dashboard(
        "overview",
        "serve-graph: traffic, cost and quality",
        (
            Panel(
                "Requests a second by outcome",
                (("sum by (outcome) (serve_graph:requests:rate5m)", "{{outcome}}"),),
                "reqps",
            ),
            Panel(
                "Requests a second by status",
                (("sum by (status) (serve_graph:requests:rate5m)", "{{status}}"),),
                "reqps",
            ),
            Panel(
                "Escalated, uncovered, refused",
                (
                    ("serve_graph:escalated:share1h", "escalated, of tried cheap answers"),
                    ("serve_graph:uncovered:share1h", "unlike what was certified"),
                    ("serve_graph:refused:share5m", "refused before a decision"),
                ),
                "percentunit",
                1.0,
            ),
            Panel(
                "Refused a second by status", ((growth_by("serve_graph_refused_total", "code"), "{{code}}"),), "reqps"
            ),
            Panel("Dollars an hour by tier", (("3600 * serve_graph:cost_usd:rate1h", "{{tier}}"),), "currencyUSD"),
            Panel(
                "Dollars for 1,000 requests",
                (
                    ("1000 * serve_graph:cost_usd_per_request:mean1h", "now"),
                    ("1000 * (serve_graph:cost_usd_per_request:mean1h offset 1d)", "a day ago"),
                ),
                "currencyUSD",
            ),
        ),
    ),
    Dashboard(
        "promise",
        "serve-graph: certificates, alarms, rollouts",
        (
            Panel(
                "Time until a certificate ends",
                (("min by (certificate) (serve_graph_certificate_seconds_left)", "{{certificate}}"),),
                "dtdurations",
            ),
            Panel(
                "Valid certificates",
                (("min by (certificate) (serve_graph_certificate_valid)", "{{certificate}}"),),
                at_most=1.0,
            ),
            Panel(
                "Tests of the promise, as a share of their limit",
                (("max by (kind) (serve_graph_alarm_level)", "{{kind}}"),),
                "percentunit",
            ),
            Panel(
                "Labels of served answers",
                (
                    ("max(serve_graph_alarm_labels)", "labels"),
                    ("max(serve_graph_alarm_errors)", "against the promise"),
                ),
            ),
            Panel(
                "Requests not covered, by why",
                ((growth_by("serve_graph_uncovered_requests_total", "reason", "1h"), "{{reason}}"),),
                "reqps",
            ),
            Panel(
                "Distance of prompts from the training data, 90th percentile",
                (
                    (
                        "histogram_quantile(0.9, sum by (le, version) (max by (ray_io_cluster, le, version) "
                        "(rate(serve_graph_prompt_distance_bucket[1h]))))",
                        "{{version}}",
                    ),
                ),
            ),
            Panel(
                "The candidate's share of traffic",
                (("max by (kind, version) (serve_graph_rollout_weight)", "{{kind}} {{version}}"),),
                "percentunit",
                1.0,
            ),
            Panel("Open tickets", (("max by (kind) (serve_graph_tickets_open)", "{{kind}}"),)),
        ),
    ),
    Dashboard(
        "tiers",
        "serve-graph: tiers and engines",
        (
            Panel(
                "Calls a second by tier", ((growth_by("serve_graph_engine_calls_total", "tier"), "{{tier}}"),), "reqps"
            ),
            Panel("Tokens a second", ((growth_by("serve_graph_tokens_total", "tier, kind"), "{{tier}} {{kind}}"),)),
            Panel(
                "Requests at work and waiting",
                (
                    ("max by (tier) (serve_graph_engine_in_flight)", "{{tier}} at work"),
                    ("max by (tier) (serve_graph_engine_queued)", "{{tier}} waiting"),
                ),
            ),
            Panel(
                "Refused a second because a tier was full",
                ((tier_rate("serve_graph_engine_refused", "5m"), "{{tier}}"),),
                "reqps",
            ),
            Panel(
                "Hosted APIs: calls, failures, 429s a second",
                (
                    (tier_rate("serve_graph_engine_deployment_calls", "5m"), "{{tier}} calls"),
                    (tier_rate("serve_graph_engine_deployment_failures", "5m"), "{{tier}} failures"),
                    (tier_rate("serve_graph_engine_deployment_throttled_total", "5m"), "{{tier}} 429"),
                ),
                "reqps",
            ),
            Panel(
                "Hosted deployments that rest or refuse",
                (
                    ("max by (tier) (serve_graph_engine_deployments_resting)", "{{tier}} rest"),
                    ("max by (tier) (serve_graph_engine_deployments_refusing)", "{{tier}} refuse the key"),
                ),
            ),
            Panel(
                "Accepted drafts of speculation",
                (("serve_graph:speculation:accepted_share15m", "{{tier}}"),),
                "percentunit",
                1.0,
            ),
            Panel(
                "Requests running in the engines",
                (("max by (tier) (serve_graph_engine_num_requests_running)", "{{tier}}"),),
            ),
        ),
    ),
    Dashboard(
        "operations",
        "serve-graph: records, budgets",
        (
            Panel(
                "Records that wait for the store",
                (
                    ("max(serve_graph_records_spooled)", "waiting"),
                    ("max(serve_graph_records_held)", "of them in memory only"),
                ),
            ),
            Panel(
                "For how long the store has lacked a record",
                (("max(serve_graph_records_waiting_seconds)", "oldest"),),
                "s",
            ),
            Panel("Records lost", (("max(serve_graph_records_lost_total)", "lost"),)),
            Panel(
                "The key nearest to the end of its budget",
                (("max by (period) (serve_graph_budget_spent_share)", "{{period}}"),),
                "percentunit",
            ),
            Panel(
                "Calls without usage data a second",
                ((growth_by("serve_graph_unmetered_calls_total", "tier"), "{{tier}}"),),
                "reqps",
            ),
        ),
    ),
)
"""Every dashboard."""


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana imports it; the data source is chosen on the page."""
    return {
        "uid": f"serve-graph-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["serve-graph"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}]
        },
        "panels": [_panel(i, panel) for i, panel in enumerate(dashboard.panels)],
    }


def _panel(i: int, panel: Panel) -> dict[str, Any]:
    bounds = {"min": 0} | ({} if panel.at_most is None else {"max": panel.at_most})
    targets = [
        {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend}
        for n, (expr, legend) in enumerate(panel.series)
    ]
    return {
        "id": i + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": {"x": i % COLUMNS * WIDTH, "y": i // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, **bounds}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def config_maps() -> list[dict[str, Any]]:
    """The dashboards as ConfigMaps, with the label by which Grafana's sidecar finds them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"dashboard-{one.name}", "labels": {"grafana_dashboard": "1"}},
            "data": {f"serve-graph-{one.name}.json": json.dumps(dashboard_json(one), indent=1) + "\n"},
        }
        for one in DASHBOARDS
    ]
