"""`decisions estimate`: what a version of a canary would have earned, by feedback and the logged propensities."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from serve_graph.cli import app
from serve_graph.cli.versions.rollouts import of_rollouts
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.policy.rollout import Rollout
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import echo_graph_file, registered_version

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    new_registry(folder / "state" / "mlflow.db")
    path = echo_graph_file(folder, {"cheap": (1, 2), "frontier": (1, 2)})
    for n, alias in ((1, "stable"), (2, None), (3, None)):
        registered_version(load_config(path), folder / str(n), datetime.now(UTC), 0.5 + n / 10, alias)
    return path


@pytest.fixture
def config(made: Path) -> Path:
    for path in (made.parent / "state").glob("decisions.db*"):
        path.unlink()
    return made


class Canary:
    """A canary's decisions with feedback on them: the candidate is right in .9, the stable version in .7."""

    def __init__(self, config: Path, a_record: Callable[..., DecisionRecord], kind: str = "canary") -> None:
        self.graph = load_config(config)
        at = BEGAN.isoformat(timespec="milliseconds")
        steps: Any = (5.0, 50.0) if kind == "canary" else ()
        self.rollout = Rollout.begin("serve-graph-router", STABLE, CANDIDATE, at=at, by="ann", steps=steps)
        self.a_record, self.rng, self.n = a_record, np.random.default_rng(3), 0
        self.records: list[DecisionRecord] = []
        self.said: list[Feedback] = []

    def served(self, n: int, weight: float, kind: str = "label", units: int | None = None) -> None:
        """So many answers at a weight, each graded."""
        for i in range(n):
            self.n += 1
            unit = f"u{self.n if units is None else i % units}"
            drawn = self.rng.random() if units is None else (hash_of(unit) % 97) / 97
            arm = "candidate" if drawn < weight else "stable"
            right = float(self.rng.random() < (0.9 if arm == "candidate" else 0.7))
            name, at = f"dec-{self.n:05}", (BEGAN + timedelta(seconds=self.n)).isoformat(timespec="milliseconds")
            assigned = {"id": self.rollout.id, "arm": arm, "weight": weight, "unit": unit}
            propensity = weight if arm == "candidate" else 1 - weight
            fields = {"created_at": at, "evidence": {"rollout": assigned}, "propensity": propensity}
            self.records.append(self.a_record(name, prompt_chars=int(self.rng.integers(5, 500)), **fields))
            self.said.append(Feedback(name, kind, "human", at, right, labeller="ann", by_admin=True, first_at=at))

    def kept(self) -> None:
        async def write() -> None:
            store = DecisionStore(self.graph.records_url)
            await store.write_many(self.records)
            await FeedbackTable(store).write(self.said)
            await store.close()

        from serve_graph.policy.rollout.audited import change_entry
        from serve_graph.policy.rollout.transitions import Happened, RolloutEvent

        event = RolloutEvent(Happened.PAUSE, self.rollout.begun_at, "ann", "begun")
        entry = change_entry(self.rollout, self.rollout, event)
        assert of_rollouts(self.graph, lambda table: table.begin(self.rollout, entry))
        asyncio.run(write())


def hash_of(unit: str) -> int:
    return int(unit[1:]) * 7919


def estimate(config: Path, version: str, *words: str) -> dict[str, Any]:
    given = ["decisions", "estimate", "--version", version, *words, "--json", "--config", str(config)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(config: Path, version: str, *words: Sequence[str]) -> str:
    done = CliRunner().invoke(app, ["decisions", "estimate", "--version", version, *words, "--config", str(config)])  # type: ignore[list-item]
    assert done.exit_code == 1
    said = done.output if not isinstance(done.exception, ServeGraphError) else str(done.exception)
    return " ".join(said.split())


def test_each_version_of_a_canary_is_estimated_from_what_chance_gave_it(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """At a tenth of the traffic what was served earns .72; the candidate would have earned .9, the stable one .7."""
    canary = Canary(config, a_record)
    canary.served(2500, 0.1)
    canary.kept()
    candidate, stable = estimate(config, "2"), estimate(config, "1")
    assert (candidate["version"], candidate["rollout"], candidate["n"]) == (CANDIDATE, canary.rollout.id, 2500)
    for found, truth in ((candidate, 0.9), (stable, 0.7)):
        assert found["value"]["low"] < truth < found["value"]["high"]
        assert found["value"]["high"] - found["value"]["low"] < 0.12
    assert candidate["gain"]["low"] > 0.05
    assert candidate["effective_n"] < stable["effective_n"]
    words = CliRunner().invoke(app, ["decisions", "estimate", "--version", "2", "--config", str(config)]).stdout
    assert f"{CANDIDATE} by label (human), in {canary.rollout.id}: mean grade 0." in words


def test_decisions_of_steps_that_hardly_explore_are_left_out_whoever_answered_and_counted(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    canary = Canary(config, a_record)
    canary.served(300, 0.01)
    canary.served(600, 0.5)
    canary.served(200, 1.0)
    canary.served(100, 0.5, kind="text")
    canary.kept()
    found = estimate(config, "2")
    assert found["n"] == 600
    assert found["left_out"] == {
        "while a version had less than 5% of the traffic": 500,
        "without a label by human": 100,
        "of a session, key or prompt that counts already": 0,
    }


def test_grades_that_are_missing_for_what_they_would_have_said_are_told_and_bounded(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """Of the candidate three in four wrong answers lack their label: what is estimated is more than it earned."""
    canary = Canary(config, a_record)
    canary.served(2000, 0.5)
    arm_of = {one.id: one.evidence["rollout"]["arm"] for one in canary.records}
    earned = float(np.mean([one.value or 0.0 for one in canary.said if arm_of[one.decision] == "candidate"]))
    more = earned - float(np.mean([one.value or 0.0 for one in canary.said]))
    canary.said = [
        one for i, one in enumerate(canary.said) if one.value or i % 4 == 0 or arm_of[one.decision] == "stable"
    ]
    canary.kept()
    found = estimate(config, "2")
    missing = found["missing"]
    assert found["value"]["low"] > earned
    assert missing["value"]["low"] < earned < found["value"]["high"] <= missing["value"]["high"]
    assert missing["gain"]["low"] < more < missing["gain"]["high"]
    assert not missing["by_chance"]
    assert missing["found"]["action"] < 0.001
    words = CliRunner().invoke(app, ["decisions", "estimate", "--version", "2", "--config", str(config)]).stdout
    assert "NOT missing by chance (by version, p = " in words
    assert f"whatever the {2000 - len(canary.said)} missing grades are: mean grade [0." in words


def test_labels_that_were_all_given_in_the_random_share_lack_nothing_outside_it(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    canary = Canary(config, a_record)
    canary.served(4000, 0.5)
    canary.said = [one for one in canary.said if up_for_labelling(one.decision, 0.05)]
    canary.kept()
    found = estimate(config, "2")
    assert found["n"] == len(canary.said)
    assert found["left_out"]["not drawn to be graded"] == 4000 - len(canary.said)
    shares = found["missing"]["shares"]
    assert sum(one["n"] for one in shares) == sum(one["graded"] for one in shares) == len(canary.said)
    assert found["missing"]["value"]["low"] == pytest.approx(found["value"]["low"])


def test_of_a_session_one_answer_counts(config: Path, a_record: Callable[..., DecisionRecord]) -> None:
    canary = Canary(config, a_record)
    canary.served(900, 0.5, units=300)
    canary.kept()
    found = estimate(config, "2")
    assert (found["n"], found["left_out"]["of a session, key or prompt that counts already"]) == (300, 600)


def test_what_explored_with_less_than_five_percent_is_refused(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    canary = Canary(config, a_record)
    canary.served(400, 0.01)
    canary.kept()
    assert f"none of 400 decisions of {canary.rollout.id} was made while both versions had 5% of" in refused(
        config, "2"
    )


def test_too_few_grades_and_grades_of_another_kind_are_refused(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    canary = Canary(config, a_record)
    canary.served(60, 0.5)
    canary.kept()
    assert "nothing can be estimated: the logged decisions hold only" in refused(config, "2")
    assert "hold only 0 of the policy's own" in refused(config, "2", "--by", "thumbs")
    assert "--by 'words'" in refused(config, "2", "--by", "words")


def test_a_version_that_was_in_no_canary_is_refused_and_so_is_a_shadow(
    config: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    assert "serve-graph-router/3 was in no canary: versions decide without chance" in refused(config, "3")
    Canary(config, a_record, "shadow").kept()
    assert "was in no canary" in refused(config, "2")
    assert "was in no canary rol-x" in refused(config, "2", "--rollout", "rol-x")
