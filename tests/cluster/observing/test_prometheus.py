"""A real Prometheus scrapes a real graph, and every series of rules and dashboards is in what it scraped."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from shutil import which
from typing import Any

import httpx
import pytest
import yaml

from serve_graph.cli.local.launch import free_port
from serve_graph.config.kubernetes.monitoring.dashboards import DASHBOARDS, dashboard_json
from serve_graph.config.kubernetes.monitoring.rules import ALERTS, RECORDED, rule_groups
from tests.cluster.graphs.running_graph import RunningGraph, until

pytestmark = pytest.mark.skipif(
    which("prometheus") is None, reason="Prometheus (Debian's package prometheus) is not installed"
)
NOT_HERE = {
    "serve_graph_engine_spec_decode_num_accepted_tokens_total": "vLLM's, with speculation",
    "serve_graph_engine_spec_decode_num_draft_tokens_total": "vLLM's, with speculation",
    "serve_graph_engine_deployment_calls": "hosted tiers'",
    "serve_graph_engine_deployment_failures": "hosted tiers'",
    "serve_graph_engine_deployment_throttled_total": "hosted tiers'",
    "serve_graph_engine_deployments_resting": "hosted tiers'",
    "serve_graph_engine_deployments_refusing": "hosted tiers'",
    "serve_graph_rollout_state": "while a rollout is under way",
    "serve_graph_rollout_weight": "while a rollout is under way",
    "serve_graph_budget_spent_share": "where keys have budgets",
    "serve_graph_certificate_valid": "where a version is certified",
    "serve_graph_certificate_seconds_left": "where a certificate ends",
    "serve_graph_certificate_revoked": "where labels of a certified version are watched",
    "serve_graph_alarm_level": "where labels of a certified version are watched",
    "serve_graph_alarm_labels": "where labels of a certified version are watched",
    "serve_graph_alarm_errors": "where labels of a certified version are watched",
    "serve_graph_uncovered_requests_total": "once a request was not covered by a certificate",
    "serve_graph_unmetered_calls_total": "once an answer came without usage",
    "serve_graph_prompt_distance_bucket": "where the router measures it",
    "serve_graph_tickets_open": "while one is open",
}
"""Series that this graph of echo engines and a built-in version has no sample of, and why."""


@pytest.fixture(scope="module")
def prometheus(graph: RunningGraph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups()}))
    scrape = {"job_name": "serve-graph", "static_configs": [{"targets": [graph.url.removeprefix("http://")]}]}
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s", "scrape_timeout": "2s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    words = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*words, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _is_ready(url), 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def asked(url: str, path: str, **params: str) -> Any:
    return httpx.get(f"{url}/api/v1/{path}", params=params, timeout=20).json()["data"]


def used() -> set[str]:
    """Every series that a rule or a panel reads."""
    text = json.dumps([*RECORDED.values(), *(alert.expr for alert in ALERTS)])
    text += json.dumps([dashboard_json(one) for one in DASHBOARDS])
    return set(re.findall(r"\bserve_graph_\w+", text))


def test_every_series_that_is_read_was_scraped(graph: RunningGraph, prometheus: str) -> None:
    for said in ("hello", "hello [echo:unsure]", "hello [cheap:fail]"):
        graph.chat(said)
    graph.client.post("/v1/chat/completions", json={"model": "nobody", "messages": []})
    assert used() >= NOT_HERE.keys()
    wanted = used() - NOT_HERE.keys()
    try:
        until(lambda: wanted <= set(asked(prometheus, "label/__name__/values")), 60)
    finally:
        assert wanted - set(asked(prometheus, "label/__name__/values")) == set()


def test_its_rules_work_on_what_it_scraped(graph: RunningGraph, prometheus: str) -> None:
    def healths() -> list[str]:
        return [rule["health"] for group in asked(prometheus, "rules")["groups"] for rule in group["rules"]]

    until(lambda: set(healths()) == {"ok"}, 60)
    assert len(healths()) == len(RECORDED) + len(ALERTS)
    for _ in range(30):
        graph.chat("hello")

    def total() -> float:
        found = asked(prometheus, "query", query="sum(serve_graph_requests_total)")["result"]
        return float(found[0]["value"][1]) if found else 0.0

    until(lambda: total() == len(graph.names_so_far()), 60)
    recorded = "sum(serve_graph:requests:rate5m) > 0"
    until(lambda: bool(asked(prometheus, "query", query=recorded)["result"]), 60)
