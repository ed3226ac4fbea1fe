"""`alarms list` and `lift` over a store in which one version was revoked."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.golden.run_table import AnswerGiven, GoldenTable, RecordedRun
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

ROOT = Path(__file__).parents[4]
T = TypeVar("T")


async def with_store(config: Path, work: Callable[[DecisionStore], T]) -> T:
    store = DecisionStore(load_config(config).records_url)
    try:
        return await work(store)  # type: ignore[misc, no-any-return]
    finally:
        await store.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text((ROOT / "configs" / "echo.yaml").read_text() + f"state_folder: {tmp_path}\n")
    alarms = [
        Alarm(f"router/{i}", "revoked", "overall", "2026-03-01", f"revoked by labels: {i}", True) for i in (1, 2)
    ]
    asyncio.run(with_store(path, lambda store: AlarmTable(store).raise_all(alarms)))
    return path


def ran(config: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["alarms", *words, "--config", str(config)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_alarms_are_listed_and_lifted_with_a_reason_that_is_kept(config: Path) -> None:
    assert "revoked by labels: 1" in ran(config, "list")
    lifted = ran(config, "lift", "--reason", "swapped", "--by", "ann", "--version", "router/1", "--json")
    assert [(a["version"], a["lifted_by"], a["lift_reason"]) for a in json.loads(lifted)] == [
        ("router/1", "ann", "swapped")
    ]
    assert "router/1" not in ran(config, "list")
    assert "by ann: swapped" in ran(config, "list", "--all")
    entries = asyncio.run(with_store(config, lambda store: AuditLog(store).entries()))
    assert [(e.action, e.target, e.reason, e.detail["by"]) for e in entries] == [  # type: ignore[attr-defined]
        ("alarms.lift", "router/1", "swapped", "ann")
    ]
    assert ran(config, "lift", "--reason", "all well", "--by", "bob").startswith("lifted: router/2")
    assert ran(config, "list") == "no alarm stands\n"


def test_lifting_what_does_not_stand_or_without_a_reason_is_an_error(config: Path) -> None:
    with pytest.raises(ServeGraphError, match="no alarm of router/9 stands"):
        ran(config, "lift", "--reason", "x", "--by", "ann", "--version", "router/9")
    with pytest.raises(ServeGraphError, match="need a text"):
        ran(config, "lift", "--reason", " ", "--by", "ann")


def test_tickets_are_listed_and_closed_by_themselves(config: Path) -> None:
    assert "no ticket is open" in ran(config, "tickets")
    opened = Alarm("router/1", "ticket", "distance", "2026-03-01", "the distribution changed", False)
    asyncio.run(with_store(config, lambda store: AlarmTable(store, tickets=True).raise_all([opened])))
    assert "the distribution changed" in ran(config, "tickets")
    assert "the distribution changed" not in ran(config, "list")
    closed = json.loads(ran(config, "close", "--reason", "a new client", "--by", "ann", "--json"))
    assert [(t["scope"], t["lifted_by"], t["lift_reason"]) for t in closed] == [("distance", "ann", "a new client")]
    assert "router/1" in ran(config, "list"), "the alarms still stand"
    assert "by ann: a new client" in ran(config, "tickets", "--all")
    with pytest.raises(ServeGraphError, match="no ticket is open"):
        ran(config, "close", "--reason", "again", "--by", "ann")
    entries = asyncio.run(with_store(config, lambda store: AuditLog(store).entries()))
    assert [(e.action, e.target, e.detail["figures"]) for e in entries] == [  # type: ignore[attr-defined]
        ("tickets.close", "router/1", ["distance"])
    ]


def test_runs_of_golden_tasks_are_shown_and_a_person_may_have_one_made_now(config: Path) -> None:
    with pytest.raises(ServeGraphError, match="no golden tasks are asked"):
        ran(config, "golden")
    config.write_text(config.read_text() + "golden: {tiers: [frontier]}\n")
    assert ran(config, "golden") == "no run was made yet\nfrontier: next run as soon as a graph runs\n"
    figures = [{"figure": "answers", "before": 0.03, "now": 0.87}]
    grades = {"runs": 1, "e_value": 50.0, "wrong": 7, "graded": 20, "expected": 1.25}
    found = {"asked": 20, "figures": figures, "grades": grades, "grades_limit": 100.0}
    run = RecordedRun("s", 6, "frontier", "compared", "2026-03-01T00:00:00", {"a": AnswerGiven("x", "secret")}, found)
    asyncio.run(with_store(config, lambda store: GoldenTable(store).write(run)))
    shown = ran(config, "golden", "--now")
    assert "87% (before 3%)" in shown
    assert "7 of 20 (before 1.2)  0.5 of its limit" in shown
    told = json.loads(ran(config, "golden", "--json"))
    assert told["due"] == {"frontier": ""}
    assert (told["runs"][0]["grades"]["wrong"], "secret" in json.dumps(told)) == (7, False)
