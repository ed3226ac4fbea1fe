"""The examples that need no cluster: they run as their README says, and every one is listed in it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from router_models.data.starter import grade
from serve_graph.cli.client.task_files import read_tasks
from serve_graph.config.graph import load_config

EXAMPLES = Path(__file__).parents[3] / "examples"
NO_EXAMPLES = ("__pycache__", "README.md", "batch_rates.yaml")
"""What is beside the examples; rates of engines are what a command of the guide to batches reads."""
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.name not in NO_EXAMPLES)


def test_every_example_is_in_the_table_with_the_test_that_runs_it() -> None:
    rows = [line.split("|") for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row[1].strip().strip("`/") for row in rows) == NAMES
    for row in rows:
        assert (EXAMPLES.parent / row[3].strip().strip("`")).is_file()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_every_configuration_of_an_example_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMALL_URL", "MEDIUM_URL", "LARGE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/v1")
    assert load_config(path).policy.version == "stable"


def test_the_tasks_of_the_example_are_tasks_whose_solutions_are_right(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(EXAMPLES / "own_tasks" / "write_tasks.py"), str(tmp_path / "tasks.jsonl")], check=True
    )
    tasks = read_tasks(tmp_path / "tasks.jsonl")
    assert len(tasks) == len((tmp_path / "tasks.jsonl").read_text().splitlines()) == 400
    for task in tasks:
        assert grade(task, f"it is {task.solution}")
        assert not grade(task, "nothing of the kind")
        assert grade(task, f"echo large: {task.prompt}"), "what the echo server called large answers"
    right = [grade(task, f"echo small: {task.prompt}") for task in tasks]
    assert 0.5 < sum(right) / len(tasks) < 0.7


def test_three_tiers_are_certified_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "three_tiers" / "certify.py"))["main"](tmp_path / "work")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("three-tiers/1: P(wrong | answered) <= 0.20")
