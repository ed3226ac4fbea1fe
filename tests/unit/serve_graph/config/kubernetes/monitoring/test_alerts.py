"""Every alert fires where it should and stays quiet where it should not, by Prometheus' own `promtool`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from serve_graph.config.kubernetes.monitoring.rules import ALERTS, RECORDED, rule_groups

NEEDS = "promtool (Debian's package prometheus) is not installed"
by_promtool = pytest.mark.skipif(which("promtool") is None, reason=NEEDS)
Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """Series by which an alert fires at `at`, and series by which it does not; values are per minute."""

    at: str
    fires: Series
    quiet: Series


def requests(values: str, outcome: str = "accepted", status: str = "200", **labels: str) -> Series:
    said = {"tier": "cheap", "outcome": outcome, "version": "v/1", "status": status, **labels}
    return {f"serve_graph_requests_total{{{_labels(said)}}}": values}


def one(name: str, values: str, **labels: str) -> Series:
    return {f"{name}{{{_labels(labels)}}}" if labels else name: values}


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f'{key}="{value}"' for key, value in labels.items())


def engine(name: str, values: str, tier: str = "frontier") -> Series:
    return one(f"serve_graph_engine_{name}", values, tier=tier)


TWO_PODS = {"ray_io_cluster": "a", "pod": "1"}, {"ray_io_cluster": "a", "pod": "2"}
STATE = "serve_graph_rollout_state"
CASES: dict[str, Case] = {
    "ServeGraphAway": Case("10m", one("up", "0x20"), one("serve_graph_records_spooled", "0x20")),
    "ServeGraphFailing": Case(
        "15m",
        requests("0+90x20") | requests("0+10x20", status="503"),
        requests("0+99x20") | requests("0+1x20", status="503"),
    ),
    "ServeGraphFallingBack": Case(
        "20m",
        requests("0+90x30") | requests("0+10x30", "fallback"),
        requests("0+99x30") | requests("0+1x30", "fallback"),
    ),
    "ServeGraphEscalating": Case(
        "2h",
        requests("0+70x130") | requests("0+30x130", "escalated"),
        requests("0+92x130") | requests("0+8x130", "escalated") | requests("0+900x130", "forced"),
    ),
    "ServeGraphUncovered": Case(
        "2h",
        requests("0+100x130") | one("serve_graph_uncovered_requests_total", "0+30x130", reason="temperature"),
        requests("0+100x130") | one("serve_graph_uncovered_requests_total", "0+10x130", reason="temperature"),
    ),
    "ServeGraphRefusing": Case(
        "20m",
        requests("0+90x30") | one("serve_graph_refused_total", "0+10x30", code="429"),
        requests("0+99x30") | one("serve_graph_refused_total", "0+1x30", code="429"),
    ),
    "ServeGraphBudgetNearlySpent": Case(
        "5m",
        one("serve_graph_budget_spent_share", "0.95x10", period="day"),
        one("serve_graph_budget_spent_share", "0.8x10", period="month"),
    ),
    "ServeGraphTierSaturated": Case("20m", engine("refused", "0+6x30"), engine("refused", "40x30")),
    "ServeGraphCertificateEnds": Case(
        "1m",
        one("serve_graph_certificate_seconds_left", "518400x5", certificate="answers"),
        one("serve_graph_certificate_seconds_left", "1000000x5", certificate="answers"),
    ),
    "ServeGraphCertificateVoid": Case(
        "15m",
        one("serve_graph_certificate_valid", "0x20", certificate="answers"),
        one("serve_graph_certificate_valid", "1x20", certificate="answers"),
    ),
    "ServeGraphCertificateRevoked": Case(
        "1m", one("serve_graph_certificate_revoked", "1x5"), one("serve_graph_certificate_revoked", "0x5")
    ),
    "ServeGraphQualityAlarmNear": Case(
        "1m",
        one("serve_graph_alarm_level", "0.9x5", kind="drift"),
        one("serve_graph_alarm_level", "0.5x5", kind="drift"),
    ),
    "ServeGraphCostJump": Case(
        "27h",
        requests("0+60x1700") | one("serve_graph_cost_usd_total", "0+1x1440 1440+3x260", tier="frontier"),
        requests("0+60x1700") | one("serve_graph_cost_usd_total", "0+1x1700", tier="frontier"),
    ),
    "ServeGraphRolloutStuck": Case(
        "26h",
        one(STATE, "1x1600", kind="canary", version="v/2", state="Paused"),
        one(STATE, "1x60 _x1540", kind="canary", version="v/2", state="Paused"),
    ),
    "ServeGraphCanaryInconclusive": Case(
        "80h",
        one(STATE, "1x4900", kind="canary", version="v/2", state="Progressing"),
        one(STATE, "1x600 _x4300", kind="canary", version="v/2", state="Progressing"),
    ),
    "ServeGraphStoreAway": Case(
        "15m", one("serve_graph_records_spooled", "2000x20"), one("serve_graph_records_spooled", "10x20")
    ),
    "ServeGraphRecordsLost": Case(
        "10m", one("serve_graph_records_lost_total", "0x5 5x10"), one("serve_graph_records_lost_total", "5x20")
    ),
    "ServeGraphSpeculationCollapsed": Case(
        "60m",
        engine("spec_decode_num_accepted_tokens_total", "0+10x70")
        | engine("spec_decode_num_draft_tokens_total", "0+100x70"),
        engine("spec_decode_num_accepted_tokens_total", "0+60x70")
        | engine("spec_decode_num_draft_tokens_total", "0+100x70"),
    ),
    "ServeGraphHostedTierFailing": Case(
        "20m",
        engine("deployment_failures", "0+20x30") | engine("deployment_calls", "0+100x30"),
        engine("deployment_failures", "0+2x30") | engine("deployment_calls", "0+100x30"),
    ),
    "ServeGraphHostedTierThrottled": Case(
        "20m",
        engine("deployment_throttled_total", "0+5x30") | engine("deployment_calls", "0+100x30"),
        engine("deployment_throttled_total", "0+1x30") | engine("deployment_calls", "0+100x30"),
    ),
    "ServeGraphHostedTierRefused": Case(
        "10m", engine("deployments_refusing", "1x20"), engine("deployments_refusing", "0x20")
    ),
}

TAKE_DAYS = {"ServeGraphCostJump", "ServeGraphRolloutStuck", "ServeGraphCanaryInconclusive"}


def promtool(folder: Path, *words: str) -> str:
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(folder: Path, tests: list[dict[str, Any]], every: str = "1m") -> None:
    groups = rule_groups()
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    # without an order promtool takes one by chance, and an alert may come before what is recorded for it
    order = [group["name"] for group in groups]
    data = {"rule_files": ["rules.yaml"], "group_eval_order": order, "evaluation_interval": every, "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(data))


def one_test(series: Series, name: str, at: str, firing: int) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": firing}] if firing else [],
            }
        ],
    }


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}


@by_promtool
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert f"{len(ALERTS) + len(RECORDED)} rules found" in promtool(tmp_path, "check", "rules", "rules.yaml")


@by_promtool
@pytest.mark.parametrize("takes_days", [False, True])
def test_every_alert_fires_and_stays_quiet(takes_days: bool, tmp_path: Path) -> None:
    tests = [
        one_test(series, name, case.at, firing)
        for name, case in CASES.items()
        for series, firing in ((case.fires, 1), (case.quiet, 0))
        if (name in TAKE_DAYS) == takes_days
    ]
    write(tmp_path, tests, "10m" if takes_days else "1m")  # every minute of days would take promtool half a minute
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_a_graph_that_refuses_everything_is_told_of(tmp_path: Path) -> None:
    """Since its start it has answered nobody, so that there is no series of requests."""
    refused = one("serve_graph_refused_total", "0+10x30", code="401")
    write(tmp_path, [one_test(refused, "ServeGraphRefusing", "20m", 1)])
    promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_a_certificate_that_does_not_hold_ends_no_more(tmp_path: Path) -> None:
    over = one("serve_graph_certificate_seconds_left", "0x20", certificate="answers")
    void = one("serve_graph_certificate_valid", "0x20", certificate="answers")
    tests = [
        one_test(over | void, "ServeGraphCertificateEnds", "15m", 0),
        one_test(over | void, "ServeGraphCertificateVoid", "15m", 1),
    ]
    write(tmp_path, tests)
    promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_a_store_that_is_away_from_a_quiet_graph_is_told_of(tmp_path: Path) -> None:
    """Three records wait, and do for an hour; on another day as many, but each for a moment."""
    three = one("serve_graph_records_spooled", "3x70")
    away = three | one("serve_graph_records_waiting_seconds", "0+60x70")
    there = three | one("serve_graph_records_waiting_seconds", "0.2x70")
    names = ((away, "19m", 0), (away, "21m", 1), (there, "60m", 0))
    write(tmp_path, [one_test(series, "ServeGraphStoreAway", at, firing) for series, at, firing in names])
    promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_a_shadow_has_no_end_to_come_to(tmp_path: Path) -> None:
    shadow = one(STATE, "1x4900", kind="shadow", version="v/2", state="Progressing")
    write(tmp_path, [one_test(shadow, "ServeGraphCanaryInconclusive", "80h", 0)], "10m")
    promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_pods_that_say_the_same_count_once_and_clusters_add_up(tmp_path: Path) -> None:
    counted = {}
    for labels in (*TWO_PODS, {"ray_io_cluster": "b", "pod": "3"}):
        counted |= requests("0+60x20", **labels)
    test = one_test(counted, "ServeGraphFailing", "10m", 0)
    expected = (
        '{__name__="serve_graph:requests:rate5m", tier="cheap", outcome="accepted", version="v/1", status="200"}'
    )
    test["promql_expr_test"] = [
        {
            "expr": "serve_graph:requests:rate5m",
            "eval_time": "10m",
            "exp_samples": [{"labels": expected, "value": 2}],
        }
    ]
    write(tmp_path, [test])
    promtool(tmp_path, "test", "rules", "tests.yaml")


@by_promtool
def test_a_case_that_is_wrong_is_found(tmp_path: Path) -> None:
    case = CASES["ServeGraphFailing"]
    write(tmp_path, [one_test(case.quiet, "ServeGraphFailing", case.at, 1)])
    done = subprocess.run(["promtool", "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
