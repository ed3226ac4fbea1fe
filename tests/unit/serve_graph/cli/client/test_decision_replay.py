"""`decisions replay`: a version on kept decisions, with kept answers, those a graph is asked for, and labels."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.starter import Task
from router_models.types import Call, DecisionRecord, Usage
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.cli import app
from serve_graph.cli.client.ask import api_client
from serve_graph.cli.client.decision_replay import AskedAnswers, VersionReplay, replay_lines
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import GradersConfig
from serve_graph.errors import ServeGraphError
from serve_graph.learning.retraining.decision_replay import DecisionReplay
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import PRICE, echo_graph, registered_version, sealed_version

NOW = datetime.now(UTC)
TRIES_CHEAP, SENDS_UP = 0.7, 0.2
Records = Callable[..., DecisionRecord]


def kept(a_record: Records, answers: bool = True) -> list[DecisionRecord]:
    """A cheap answer that was accepted, and a request that went to the last tier; in English and in German."""
    rows = [("dec-1", "cheap", "accepted", "What is the sum of it?"), ("dec-2", "frontier", "routed", "Was ist das?")]
    return [
        a_record(
            name, tier=tier, outcome=outcome, prompt=prompt, cost_usd=Decimal("0.001"), status=200,
            calls=(Call(tier, Usage(10, 5), 0.1, Decimal("0.001")),),
            evidence={
                "asked": {"messages": [{"role": "user", "content": prompt}], "parameters": {}},
                **({"answer": f"{tier} said"} if answers else {}),
            },
        )
        for name, tier, outcome, prompt in rows
    ]  # fmt: skip


async def write(config: GraphConfig, records: list[DecisionRecord], *labels: Feedback) -> None:
    store = DecisionStore(config.records_url)
    await store.write_many(records)
    await FeedbackTable(store).write(list(labels))
    await store.close()


def replayed(config: GraphConfig, folder: Path, p_ok: float, answers: Any = None) -> DecisionReplay:
    version = replace(RouterVersion.load(sealed_version(config, folder / str(p_ok), NOW, p_ok)), name="router/2")

    async def run() -> DecisionReplay:
        store = DecisionStore(config.records_url)
        try:
            from serve_graph.cli.client.decision_replay import NoAnswers

            return await VersionReplay(version, config, answers or NoAnswers()).run(store, 100, lambda _: None)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture
def config(tmp_path: Path) -> GraphConfig:
    made = echo_graph(tmp_path)
    made.state_folder.mkdir()
    return made


def paths(found: DecisionReplay) -> dict[str, tuple[str, str, str | None]]:
    return {one.decision: (*one.after, one.missing) for one in found.decisions}


def test_kept_answers_are_used_and_the_others_are_counted_as_missing(
    config: GraphConfig, tmp_path: Path, a_record: Records
) -> None:
    asyncio.run(write(config, kept(a_record)))
    tries = replayed(config, tmp_path, TRIES_CHEAP)
    assert paths(tries) == {
        "dec-1": ("cheap", "accepted", None),
        "dec-2": ("cheap", "routed", "missing"),
    }
    sends = replayed(config, tmp_path, SENDS_UP)
    assert paths(sends) == {"dec-1": ("frontier", "routed", "missing"), "dec-2": ("frontier", "routed", None)}
    assert sends.missing() == {("frontier", "missing"): 1}
    assert {part.name for part in sends.slices()} == {"en", "de"}
    said = "\n".join(replay_lines(sends, 0, 3))
    assert "not known to the end: 1, for want of an answer of frontier (missing): --ask URL --budget-usd" in said


def test_without_answers_every_path_that_needs_one_is_missing(
    config: GraphConfig, tmp_path: Path, a_record: Records
) -> None:
    asyncio.run(write(config, kept(a_record, answers=False)))
    assert replayed(config, tmp_path, TRIES_CHEAP).missing() == {("cheap", "missing"): 2}


def test_where_prompts_are_not_kept_it_says_so(config: GraphConfig, tmp_path: Path, a_record: Records) -> None:
    asyncio.run(write(config, [a_record("dec-1")]))
    with pytest.raises(ServeGraphError, match=r"no record holds a prompt.*keep_prompts"):
        replayed(config, tmp_path, SENDS_UP)


def test_missing_answers_are_asked_for_as_long_as_the_money_lasts(
    config: GraphConfig, tmp_path: Path, a_record: Records, endpoint: Callable[..., Any]
) -> None:
    """The first costs 0.0002 by the graph's own bill; nothing is asked for that may exceed what is left."""
    asyncio.run(write(config, [*kept(a_record), replace(kept(a_record)[0], id="dec-3")]))
    at = endpoint(frontier=FakeEngine("frontier says"))
    client = api_client("http://test", http_client=at.client())
    asked = AskedAnswers(client, Decimal("0.00035"), lambda tier, query: Decimal("0.0002"))
    found = replayed(config, tmp_path, SENDS_UP, asked)
    assert sorted(missing or "known" for *_, missing in paths(found).values()) == ["known", "known", "missing"]
    assert (asked.asked, asked.left_usd) == (1, Decimal("0.00015"))
    assert at.record.requested_model == "frontier"
    assert found.whole().flips == 1


def test_labels_grade_both_sides_where_they_speak_of_the_last_tier(
    config: GraphConfig, tmp_path: Path, a_record: Records, endpoint: Callable[..., Any]
) -> None:
    wrong = Feedback("dec-1", "label", "human", "2026-03-01", 0.0, last_tier_right=True, by_admin=True)
    right = Feedback("dec-2", "label", "programmatic", "2026-03-01", 1.0, by_admin=True)
    asyncio.run(write(config, kept(a_record), wrong, right))
    at = endpoint()
    client = api_client("http://test", http_client=at.client())
    whole = replayed(config, tmp_path, SENDS_UP, AskedAnswers(client, Decimal(1), lambda *_: Decimal(0))).whole()
    assert (whole.graded, whole.gained, whole.lost) == (2, 1, 0)


def test_answers_to_known_tasks_are_graded_by_their_program_and_it_is_named(
    config: GraphConfig, tmp_path: Path, a_record: Records, endpoint: Callable[..., Any]
) -> None:
    """Whatever labels say of the same decision; others are graded by their labels."""
    asked = {"accepted": ["frontier"]}
    known = Task("q1", "what is  THE sum of it?", "", 1, "en", "mentions", asked, "frontier", None)
    (tmp_path / "known.jsonl").write_text(json.dumps(known.to_json()))
    named = config.model_copy(update={"graders": GradersConfig(tasks=(tmp_path / "known.jsonl",))})
    label = Feedback("dec-1", "label", "human", "2026-03-01", 1.0, by_admin=True)
    asyncio.run(write(named, kept(a_record), label, replace(label, decision="dec-2")))
    client = api_client("http://test", http_client=endpoint().client())
    found = replayed(named, tmp_path, SENDS_UP, AskedAnswers(client, Decimal(1), lambda *_: Decimal(0)))
    assert {one.decision: (one.right, one.grader) for one in found.decisions} == {
        "dec-1": ((0.0, 1.0), "mentions"),
        "dec-2": ((1.0, 1.0), "label"),
    }
    assert found.shown()["graders"] == {"mentions": 1, "label": 1}
    assert "graded by program: 1 by mentions" in "\n".join(replay_lines(found, 0, 0))


def test_the_command_replays_a_registered_version_and_notes_who_read_prompts(
    tmp_path: Path, a_record: Records, new_registry: Callable[[Path], str]
) -> None:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    data = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "tracking_uri": new_registry(tmp_path / "m.db")}
    graph, path = GraphConfig.model_validate(data), tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(data))
    graph.state_folder.mkdir()
    registered_version(graph, tmp_path / "v", NOW, SENDS_UP)
    asyncio.run(write(graph, kept(a_record)))
    words = ["decisions", "replay", "--version", "1", "--config", str(path)]
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (told["version"], told["asked"], told["all"]["n"], told["all"]["missing"]) == (
        "serve-graph-router/1",
        0,
        2,
        1,
    )
    assert told["missing"] == [{"tier": "frontier", "why": "missing", "n": 1}]
    assert "What is the sum" not in json.dumps(told), "no prompts"
    [entry] = json.loads(CliRunner().invoke(app, ["audit", "--json", "--config", str(path)]).stdout)
    assert (entry["action"], entry["detail"]["decisions"]) == ("decisions.prompts", 2)
    alone = CliRunner().invoke(app, [*words, "--ask", "http://localhost:8000"])
    assert "--ask and --budget-usd go together" in str(alone.exception)
