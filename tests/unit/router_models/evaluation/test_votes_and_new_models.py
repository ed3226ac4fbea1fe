"""The benchmarks of votes and of new models, on small tables made so that both have something to find."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.evaluation.benchmarks.few_grades.left_out_models import (
    leave_model_out,
    new_models_page,
    print_new_models,
)
from router_models.evaluation.benchmarks.few_grades.simulated_votes import (
    measure_votes,
    print_votes,
    simulated_votes,
    votes_page,
)
from tests.contract.test_every_router_is_served import WORDS, WordCounts

LEVEL = {"cheap": (0.1, 0.85), "middle": (0.5, 0.85), "frontier": (0.92, 0.9)}


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    rng, n = np.random.default_rng(0), 600
    texts = [f"{i}: " + " ".join(rng.choice(WORDS, 4)) + " x" * rng.integers(0, 60) for i in range(n)]
    easy = np.array([("sum" in text) or ("poem" in text) for text in texts])
    columns = {model: rng.random(n) < np.where(easy, high, low) for model, (low, high) in LEVEL.items()}
    return table_of(parse_columns(pd.DataFrame({"prompt": texts, **columns}))).with_embeddings(WordCounts())


def test_simulated_voters_like_the_right_answer_and_see_ties_where_both_are_alike(table: OutcomeTable) -> None:
    votes = simulated_votes(table, 3000, np.random.default_rng(1))
    at = {text: i for i, text in enumerate(table.prompts.texts)}
    rows = [at[text] for text in votes.prompts.texts]
    left, right = (
        np.array([table.grade(model)[row] for model, row in zip(side, rows, strict=True)])
        for side in (votes.left, votes.right)
    )
    ahead, alike, winners = left > right, left == right, np.array(votes.winners)
    assert abs((winners[ahead] == "a").mean() - 0.8) < 0.06
    assert abs((winners[ahead] == "tie").mean() - 0.1) < 0.05
    assert abs(np.isin(winners[alike], ["tie", "both-bad"]).mean() - 0.5) < 0.06
    assert set(winners[alike & (left == 0)]) == {"both-bad", "a", "b"}
    assert all(a != b for a, b in zip(votes.left, votes.right, strict=True))


def test_votes_are_measured_beside_grades_and_prompt_length_on_prompts_that_neither_saw(table: OutcomeTable) -> None:
    found = measure_votes(table, "cheap", "frontier", 80, 400, "surface", 0)
    assert list(found.areas) == ["prompt length", "grades alone", "votes alone", "both"]
    assert found.areas["votes alone"].value > found.areas["prompt length"].value + 0.1
    assert found.over_grades.value > 0.02
    assert found.over_grades.low <= found.over_grades.value <= found.over_grades.high
    assert "| 80 | 400 |" in votes_page([found])
    with pytest.raises(DataError, match="too few for 450 grades"):
        measure_votes(table, "cheap", "frontier", 450, 400, "surface", 0)


def test_a_model_that_is_left_out_is_measured_beside_length_and_its_own_grades_alone(table: OutcomeTable) -> None:
    found = leave_model_out(table, "cheap", 60, "surface", 0)
    assert found.areas["carried over"].value > found.areas["prompt length"].value + 0.1
    assert found.over_alone.value > 0.1, "the surface does not show which words are easy"
    assert "| cheap |" in new_models_page([found])
    with pytest.raises(DataError, match="too few for 300 graded ones"):
        leave_model_out(table, "cheap", 300, "surface", 0)


COMMANDS = {"left_out_models": print_new_models, "simulated_votes": print_votes}


def said_by(command: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The code with which a command ends the process: a text is written to stderr, and the code is 1."""
    monkeypatch.setattr("sys.argv", [command, *given])
    with pytest.raises(SystemExit) as ended:
        COMMANDS[command]()
    return ended.value.code


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("left_out_models", ["--models", "cheap", "--graded", "9"], "12 prompts are too few for 9 graded ones"),
        ("left_out_models", ["--models", "cheap", "--graded", "4"], "prompts with grades of other models: at least"),
        ("left_out_models", ["--models", "nobody"], "'nobody'"),
        ("simulated_votes", ["--weak", "cheap", "--strong", "frontier"], "too few for 300 grades"),
        ("simulated_votes", ["--weak", "cheap", "--strong", "nobody"], "'nobody'"),
    ],
)
def test_a_command_says_in_a_line_why_its_data_do_not_do(
    command: str, given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, n = tmp_path / "outcomes.csv", range(12)
    columns = {"cheap": [i % 2 for i in n], "frontier": [i > 0 for i in n]}
    pd.DataFrame({"prompt": [f"What is {i} and {i * i}?" for i in n], **columns}).to_csv(file, index=False)
    found = said_by(command, [str(file), *given, "--cache", str(tmp_path / "cache")], monkeypatch)
    assert isinstance(found, str)
    assert found.startswith(f"{command}: ")
    assert said in found
    assert len(found.splitlines()) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = said_by("left_out_models", [str(tmp_path / "none.csv"), "--models", "cheap"], monkeypatch)
    assert "none.csv" in str(found)


@pytest.mark.parametrize("given", [["--grades", "100,many"], ["--votes", "0"], ["--router", "best"]])
def test_numbers_and_families_that_are_none_are_wrong_use(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["none.csv", "--weak", "cheap", "--strong", "frontier"]
    assert said_by("simulated_votes", [*file, *given], monkeypatch) == 2
    assert given[0] in capsys.readouterr().err.splitlines()[-1]
