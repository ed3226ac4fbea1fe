"""`certify --slices language` for three tiers: what is promised in which slice, as printed, shown and sealed."""

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
from router_models.risk_control.certificates.risks import ANSWERED_RISK
from router_models.types import Outcome, Usage
from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.cli import app
from tests.fixtures.registry import echo_graph_file

PRICES = {"small": (0.1, 0.2), "medium": (0.6, 1.2), "large": (3.0, 6.0)}
SKILLS = {"en": (0.8, 0.9, 0.98), "de": (0.3, 0.5, 0.7)}


def outcomes(n: int) -> list[Outcome]:
    """English is easy; German is more than even the last tier can do. Whoever is right mostly sounds sure."""
    chance = random.Random(0)
    made = []
    for i in range(n):
        language = "en" if i % 2 else "de"
        for tier, skill in zip(PRICES, SKILLS[language], strict=True):
            right = chance.random() < skill
            lp = -0.1 * chance.random() if right else -0.05 - 2 * chance.random()
            summary = dict.fromkeys(LOGPROB_NAMES[:-1], lp) | {"log_tokens": math.log1p(6)}
            made.append(
                Outcome(
                    prompt_id(str(i)), f"Question {i}", tier, "So it is.", float(right), Usage(20, 6), 0.1, "stop",
                    summary, {"language": language},
                )
            )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> dict[str, Path]:
    """A configuration of three tiers, an outcomes table and a candidate trained on it."""
    folder = tmp_path_factory.mktemp("slices")
    new_registry(folder / "state" / "mlflow.db")
    echo_graph_file(folder, PRICES, epsilon=0.12, delta=0.1, safe_tier="large")
    outcomes_to_frame(outcomes(900)).to_parquet(folder / "outcomes.parquet")
    made = {
        "config": folder / "graph.yaml",
        "outcomes": folder / "outcomes.parquet",
        "candidate": folder / "candidate",
    }
    done = call(
        "train",
        "--promise",
        "answered",
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
    given = ["--config", config, "--outcomes", outcomes]
    given += ["--candidate", candidate, "--engines-as-configured"] if command == "certify" else []
    return CliRunner().invoke(app, [command, *map(str, [*words, *given])])


def test_slices_of_three_tiers_are_certified_printed_and_shown(workshop: dict[str, Path]) -> None:
    done = call("certify", "--slices", "language", "--json", **workshop)
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    certificate = made["certificate"]
    assert certificate["what"] == ANSWERED_RISK
    promises = certificate["slices"]
    assert set(promises) == {"en", "de"}
    assert (promises["en"]["threshold"], promises["de"]["threshold"]) == ("-inf", "inf")
    assert promises["en"]["level"] == certificate["level"] / 2
    assert promises["en"]["also"][0]["what"] == "P(abstain)"
    words = ["versions", "show", made["version"].rpartition("/")[2], "--config", str(workshop["config"])]
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["certificate"] == certificate
    page = CliRunner().invoke(app, words).stdout
    assert "P(wrong | answered) <= 0.12 and P(abstain) <= 0.05 in each certified slice" in page
    assert "1 of 2 slices" in page
    assert "| certified slice | kept | wrong |" in page
    assert "none: always the last tier" in page


@pytest.mark.parametrize("words", [["--prefix", 4], ["--spill-epsilon", 0.5]])
def test_what_needs_the_other_promise_is_refused_before_a_label_is_looked_at(
    workshop: dict[str, Path], words: list[Any]
) -> None:
    done = call("certify", "--slices", "language", *words, **workshop)
    assert done.exit_code != 0
    assert "promise `harm` or `accepted`" in str(done.exception)


def test_a_refusal_names_the_slice_that_came_nearest(workshop: dict[str, Path]) -> None:
    done = call("certify", "--slices", "language", "--epsilon", 0.02, **workshop)
    assert done.exit_code != 0
    assert "of 2 slices certified" in str(done.exception)
    assert "'en'" in str(done.exception)
