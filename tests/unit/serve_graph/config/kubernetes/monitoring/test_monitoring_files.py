"""What `serve-graph monitoring` writes: rules and dashboards over metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.kubernetes.monitoring.dashboards import DASHBOARDS, dashboard_json
from serve_graph.config.kubernetes.monitoring.files import monitoring_files
from serve_graph.config.kubernetes.monitoring.rules import ALERTS, RECORDED

ROOT = Path(__file__).parents[6]


def test_series_of_dashboards_are_recorded_or_shown() -> None:
    from tests.contract.project.kubernetes.test_rules import OPTIONAL, shown

    known = shown() | OPTIONAL | {"serve_graph_alarm_labels", "serve_graph_alarm_errors"}
    text = json.dumps([dashboard_json(one) for one in DASHBOARDS])
    assert set(re.findall(r"serve_graph:[\w:]+", text)) <= set(RECORDED)
    used = {name.removesuffix("_bucket") for name in re.findall(r"\bserve_graph_\w+", text)}
    assert {name for name in used if not name.startswith("serve_graph_engine_")} <= known


def test_panels_do_not_lie_on_one_another() -> None:
    for dashboard in DASHBOARDS:
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard_json(dashboard)["panels"]]
        assert len(set(places)) == len(places)
        assert len({panel["id"] for panel in dashboard_json(dashboard)["panels"]}) == len(places)


def test_plain_files_and_objects_say_the_same() -> None:
    plain = monitoring_files("x", kubernetes=False)
    objects = monitoring_files("x", kubernetes=True)
    assert (
        yaml.safe_load(plain[Path("rules.yaml")])["groups"]
        == (yaml.safe_load(objects[Path("rules.yaml")])["spec"]["groups"])
    )
    maps = list(yaml.safe_load_all(objects[Path("dashboards.yaml")]))
    held = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    assert held == {path.name: json.loads(text) for path, text in plain.items() if path.suffix == ".json"}


def test_the_command_writes_checks_and_finds_what_was_changed(tmp_path: Path) -> None:
    run = CliRunner().invoke
    words = ["monitoring", "--out", str(tmp_path), "--runbooks-url", "https://wiki/books/"]
    assert run(app, words).exit_code == 0
    rules = yaml.safe_load((tmp_path / "rules.yaml").read_text())["groups"][1]["rules"]
    assert rules[0]["annotations"]["runbook_url"] == "https://wiki/books/outage.html"
    assert run(app, [*words, "--check"]).exit_code == 0
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    assert run(app, [*words, "--check"]).exit_code != 0


def test_every_alert_names_a_runbook_that_says_its_name() -> None:
    books = ROOT / "docs" / "operate" / "runbooks"
    missing = [
        alert.name
        for alert in ALERTS
        if not (books / f"{alert.runbook}.md").is_file()
        or alert.name not in (books / f"{alert.runbook}.md").read_text()
    ]
    assert missing == []
