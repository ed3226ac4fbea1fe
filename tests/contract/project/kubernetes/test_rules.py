"""Rules and monitors name metrics, ports and pods that there are."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

from serve_graph.config.kubernetes.monitoring.files import monitoring_files
from serve_graph.engines.telemetry.engine_metrics import OURS
from tests.contract.project.kubernetes.kustomize import ROOT, of_kind, overlay, pod_templates, selects

RULES = yaml.safe_load((ROOT / "k8s" / "base" / "rules.yaml").read_text())["spec"]["groups"]
EXPRESSIONS = {rule.get("alert") or rule["record"]: rule["expr"] for group in RULES for rule in group["rules"]}
RECORDED = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
OPTIONAL = {"serve_graph_certificate_revoked", "serve_graph_alarm_level"}
"""Shown where labels are watched, which a page that has just begun is not."""


def shown() -> set[str]:
    """The names on the reference page of metrics, which is made from the code."""
    folder = ROOT / "docs" / "site"
    spec = importlib.util.spec_from_file_location("docs_site_generate_metrics", folder / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
        return set(re.findall(r"^\| `(serve_graph_\w+)`", module.metrics(), re.MULTILINE))
    finally:
        sys.path.remove(str(folder))


def test_every_metric_in_a_rule_is_one_that_the_graph_shows() -> None:
    known = shown() | {f"serve_graph_engine_{name}" for name in OURS} | OPTIONAL
    used = {name for text in EXPRESSIONS.values() for name in re.findall(r"\bserve_graph_\w+", text)}
    engines = {name for name in used - known if name.startswith("serve_graph_engine_")}
    assert used - known - engines == set()
    assert {name.removeprefix("serve_graph_engine_") for name in engines} == {
        "spec_decode_num_accepted_tokens_total",
        "spec_decode_num_draft_tokens_total",
    }


def test_the_engines_counters_are_vllms_own() -> None:
    vllm = importlib.util.find_spec("vllm")
    if vllm is None or vllm.origin is None:
        pytest.skip("vLLM is not installed")
    source = (Path(vllm.origin).parent / "v1" / "spec_decode" / "metrics.py").read_text()
    for name in ("accepted", "draft"):
        assert f'"vllm:spec_decode_num_{name}_tokens"' in source


def test_recorded_series_are_recorded_before_they_are_used() -> None:
    used = {name for text in EXPRESSIONS.values() for name in re.findall(r"\bserve_graph:[\w:]+", text)}
    assert used <= RECORDED


def test_the_metric_that_is_optional_is_one_in_the_code() -> None:
    text = (ROOT / "serve_graph" / "records" / "metrics.py").read_text()
    assert all(f'"{name}"' in text for name in OPTIONAL)


def test_every_alert_says_how_bad_it_is_and_what_it_is() -> None:
    alerts = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
    assert len(alerts) >= 12
    assert {rule["labels"]["severity"] for rule in alerts} == {"critical", "warning"}
    assert all(rule["annotations"]["summary"] for rule in alerts)


def test_every_monitor_scrapes_a_port_of_a_pod_that_there_is() -> None:
    objects = overlay("gpu")
    for monitor in of_kind(objects, "PodMonitor"):
        chosen = [
            template
            for template in pod_templates(objects).values()
            if selects(monitor["spec"]["selector"], template["metadata"]["labels"])
        ]
        assert chosen, monitor["metadata"]["name"]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for template in chosen:
                ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
                assert endpoint["port"] in ports


def test_rules_and_dashboards_are_what_this_release_makes() -> None:
    head = "serve-graph monitoring --kubernetes --out k8s/base"
    for path, text in monitoring_files(head, kubernetes=True).items():
        assert (ROOT / "k8s" / "base" / path).read_text() == text, f"run `{head}`"
