"""`decisions show` and `export` over a store that holds one decision."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.records.comparisons import Comparison, ComparisonsTable
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore

ROOT = Path(__file__).parents[4]


@pytest.fixture
def config(tmp_path: Path, a_record: Callable[..., DecisionRecord]) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text((ROOT / "configs" / "echo.yaml").read_text() + f"state_folder: {tmp_path}\n")
    record = a_record("dec-1", cost_usd=Decimal("1E-7"))
    record = replace(record, calls=tuple(replace(call, cost_usd=Decimal("2E-8")) for call in record.calls))

    async def keep() -> None:
        store = DecisionStore(load_config(path).records_url)
        await store.write_many([record])
        label = Feedback("dec-1", "label", "human", "2026-03-01", 0.0, labeller="ann", by_admin=True)
        await FeedbackTable(store).write([label])
        grades = {"stable_right": 1.0, "candidate_right": 0.0, "stable_harm": False, "candidate_harm": True}
        paths = ("cheap", "cheap", "accepted", "accepted", Decimal("1E-7"), Decimal("2E-7"))
        row = Comparison("rol-1", "dec-1", "2026-03-01", "stable", 0.05, "ab", 1.0, False, False, *paths, **grades)
        await ComparisonsTable(store).write([row])
        await store.close()

    asyncio.run(keep())
    return path


def test_a_decision_is_explained_with_plain_money(config: Path) -> None:
    shown = CliRunner().invoke(app, ["decisions", "show", "dec-1", "--config", str(config)])
    assert shown.exit_code == 0
    assert "$0.0000001." in shown.stdout
    assert "E-" not in shown.stdout


def test_a_decision_is_shown_with_what_was_said_of_it(config: Path) -> None:
    shown = CliRunner().invoke(app, ["decisions", "show", "dec-1", "--config", str(config)])
    assert "Feedback: label wrong (human, ann), 2026-03-01." in shown.stdout
    told = "Compared in rol-1: stable: accepted cheap, candidate: accepted cheap; right: stable (None), 2026-03-01."
    assert told in shown.stdout
    page = json.loads(CliRunner().invoke(app, ["decisions", "show", "dec-1", "--json", "-c", str(config)]).stdout)
    assert [one["stable_right"] for one in page["comparisons"]] == [1.0]
    assert [(one["kind"], one["value"], one["labeller"]) for one in page["feedback"]] == [("label", 0.0, "ann")]


def test_decisions_are_exported_as_json_lines(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    done = CliRunner().invoke(app, ["decisions", "export", "--out", str(out), "--config", str(config)])
    assert "1 decision " in done.stdout
    row = json.loads(out.read_text())
    assert row["cost_usd"] == "0.0000001"
    assert [one["kind"] for one in row["feedback"]] == ["label"]
    assert [(one["rollout"], one["candidate_harm"], one["stable_usd"]) for one in row["comparisons"]] == [
        ("rol-1", True, "0.0000001")
    ]


def test_an_unknown_decision_is_one_clear_error(config: Path) -> None:
    found = CliRunner().invoke(app, ["decisions", "show", "dec-9", "--config", str(config)])
    assert isinstance(found.exception, ServeGraphError)


def test_who_read_and_exported_decisions_is_in_the_audit_log(config: Path, tmp_path: Path) -> None:
    for words in (["show", "dec-1"], ["export", "--out", str(tmp_path / "d.jsonl")], ["bill"]):
        assert CliRunner().invoke(app, ["decisions", *words, "--config", str(config)]).exit_code == 0
    entries = json.loads(CliRunner().invoke(app, ["audit", "--json", "--config", str(config)]).stdout)
    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("decisions.export", "decisions"),
        ("decisions.read", "dec-1"),
    ]
    assert entries[0]["detail"]["decisions"] == 1


def test_how_far_a_judge_agrees_with_people_is_shown(config: Path) -> None:
    def asked(*words: str) -> str:
        return CliRunner().invoke(app, ["decisions", "agreement", *words, "--config", str(config)]).stdout

    assert "no answer has a label of a person and one of a judge" in asked()

    async def judge() -> None:
        store = DecisionStore(load_config(config).records_url)
        name = "judge:frontier/m"
        label = Feedback("dec-1", "label", name, "2026-03-02", 0.0, labeller=name, by_admin=True, probability=0.05)
        await FeedbackTable(store).write([label])
        await store.close()

    asyncio.run(judge())
    assert "judge:frontier/m: 1 answer labelled by people too, agreement 1.000 [" in asked()
    [told] = json.loads(asked("--json"))
    assert (told["judge"], told["n"], told["both_wrong"], told["kappa"]) == ("judge:frontier/m", 1, 1, None)
    assert json.loads(asked("--json", "--version", "another/1")) == []
    shown = CliRunner().invoke(app, ["decisions", "show", "dec-1", "--config", str(config)]).stdout
    assert "Feedback: label wrong (judge:frontier/m), 2026-03-02." in shown
