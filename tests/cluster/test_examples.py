"""The examples of two hosted tiers, on a cluster: ask.py gets its answers, and a task file becomes a version."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.policy.serving_version import serving_version

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONFIG = EXAMPLES / "two_hosted_tiers" / "graph.yaml"


@pytest.fixture(scope="module")
def hosted(new_graph: Callable[..., Any], apis: Callable[[str], Any]) -> Iterator[Any]:
    """The example's configuration; echo servers stand where its two APIs would be."""
    os.environ |= {"SMALL_URL": apis("small").url, "LARGE_URL": apis("large").url, "API_KEY": "none"}
    graph = new_graph(**yaml.safe_load(CONFIG.read_text()))
    yield graph
    graph.end()  # an idle graph is not free: nobody else's tests should wait for it


def run(*words: object, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(*words: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)


def test_the_ten_lines_get_an_answer_of_the_last_tier_while_nothing_is_certified(hosted: Any) -> None:
    said = run(EXAMPLES / "two_hosted_tiers" / "ask.py", BASE_URL=f"{hosted.url}/v1").splitlines()
    assert said[0] == "auto: echo large: What is the capital of France?"
    assert said[2] == "cheap: echo small: What is the capital of France?"


def test_a_file_of_tasks_becomes_a_certified_version(hosted: Any, tmp_path: Path) -> None:
    config = hosted.state / "graph.yaml"  # the example's, with the port of this run
    tasks, table, candidate = tmp_path / "tasks.jsonl", tmp_path / "outcomes.parquet", tmp_path / "candidate"
    run(EXAMPLES / "own_tasks" / "write_tasks.py", tasks)
    command("collect", "--config", config, "--url", hosted.url, "--tasks", tasks, "--out", table)
    command("train", "--config", config, "--outcomes", table, "--out", candidate)
    command("certify", "--config", config, "--outcomes", table, "--candidate", candidate, "--alias", "stable")
    command("versions", "approve", "stable", "--config", config, "--by", "reader", "--reason", "as the page says")
    served = serving_version(load_config(config))
    assert served.reason.startswith("P(cheap wrong and last tier right | cheap accepted) <= 0.20"), served.reason
