"""`certify --spill-epsilon`: from outcomes to a version with an overload point, and what is said where none may be."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router_models.data.formats import outcomes_to_frame
from router_models.data.outcomes import prompt_id
from router_models.training.certify_overload import OVERLOAD_RISK
from router_models.types import Outcome, Usage
from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.cli import app
from tests.fixtures.registry import echo_graph_file

PRICES = {"cheap": (0.1, 0.2), "frontier": (1, 2)}


def outcome(i: int, tier: str, chance: random.Random) -> Outcome:
    """The cheap tier's confidence says how likely it is right, between never and always; the last is mostly right."""
    prompt = f"Question {i}: what comes after {chance.randint(100, 999)}?"
    p = math.sqrt(chance.random()) if tier == "cheap" else 0.97
    summary = dict.fromkeys(LOGPROB_NAMES[:-1], math.log(max(p, 0.01))) | {"log_tokens": math.log1p(6)}
    right = chance.random() < p
    return Outcome(
        prompt_id(str(i)), f"Question {i}", tier, prompt, float(right), Usage(20, 6), 0.1, "stop", summary, {}
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> dict[str, Path]:
    """A configuration, an outcomes table and a candidate trained on it."""
    folder = tmp_path_factory.mktemp("spill")
    new_registry(folder / "state" / "mlflow.db")
    echo_graph_file(folder, PRICES, epsilon=0.25, delta=0.1)
    chance = random.Random(0)
    rows = [outcome(i, tier, chance) for i in range(1600) for tier in PRICES]
    outcomes_to_frame(rows).to_parquet(folder / "outcomes.parquet")
    made = {
        "config": folder / "graph.yaml",
        "outcomes": folder / "outcomes.parquet",
        "candidate": folder / "candidate",
    }
    done = call(
        "train",
        "--promise",
        "accepted",
        "--router",
        "surface",
        "--verifier",
        "logprob",
        "--out",
        made["candidate"],
        **made,
    )
    assert done.exit_code == 0, done.output
    return made


def call(command: str, *words: object, config: Path, outcomes: Path, candidate: Path) -> Any:
    given = ["--config", config, *(["--outcomes", outcomes] if command in ("train", "certify") else [])]
    given += ["--candidate", candidate, "--engines-as-configured"] if command == "certify" else []
    return CliRunner().invoke(app, [command, *map(str, [*words, *given])])


def test_overload_certificate_is_issued_shown_and_sealed_with_the_version(workshop: dict[str, Path]) -> None:
    done = call("certify", "--spill-epsilon", 0.75, "--json", **workshop)
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    own, spill = made["certificate"], made["spills"]["cheap"]
    assert made["no_spill"] is None
    assert (spill["what"], spill["epsilon"]) == (OVERLOAD_RISK, 0.75)
    assert own["delta"] + spill["delta"] == pytest.approx(0.1)
    assert spill["binds"] == own["binds"]
    assert spill["threshold"] < own["threshold"]
    assert spill["round"] == own["round"] == 1, "one look at these labels, not two"
    number = made["version"].rpartition("/")[2]
    words = ["versions", "show", number, "--config", str(workshop["config"])]
    shown = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert shown["spills"]["cheap"]["certificate"] == spill
    page = CliRunner().invoke(app, words).stdout
    assert "## Served on overload, while the last tier is full" in page
    assert f"{spill['errors']} of {spill['accepted_n']}" in page


def test_where_no_overload_certificate_holds_the_version_is_made_without_and_says_why(
    workshop: dict[str, Path],
) -> None:
    done = call("certify", "--spill-epsilon", 0.26, **workshop)
    assert done.exit_code == 0, done.output
    assert "no overload certificate: among rejected answers: " in done.stdout
    assert "P(wrong | cheap accepted) <= 0.25" in done.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--spill-epsilon", 0.1], "must lie between"),
        (["--spill-epsilon", 0.4, "--max-drop", 0.05], "largest drop"),
    ],
)
def test_impossible_overload_certificate_is_refused_before_a_label_is_read(
    workshop: dict[str, Path], words: list[Any], reason: str
) -> None:
    done = call("certify", *words, **workshop)
    assert done.exit_code != 0
    assert reason in str(done.exception)
