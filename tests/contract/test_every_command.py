"""What every command has: help with an example, exit codes, one clear line for a failure."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from serve_graph.cli import app

ROOT = Path(__file__).parents[2]


def commands() -> list[tuple[str, str]]:
    """Every leaf command's words and its help text."""

    def walk(command: Any, path: list[str]) -> list[tuple[str, str]]:
        if hasattr(command, "commands"):
            return [found for name, sub in command.commands.items() for found in walk(sub, [*path, name])]
        return [(" ".join(path), command.help or "")]

    return walk(typer.main.get_command(app), [])


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from serve_graph.cli import main; main()", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "text"), commands(), ids=lambda value: value[:20])
def test_every_command_has_help_with_an_example(words: str, text: str) -> None:
    assert f"serve-graph {words}" in text


def test_an_unknown_command_is_wrong_use() -> None:
    done = run("fly")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_an_unknown_option_is_wrong_use() -> None:
    assert run("doctor", "--fast").returncode == 2


def test_a_missing_configuration_is_one_clear_line(tmp_path: Path) -> None:
    done = run("doctor", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 1
    assert done.stderr.startswith("serve-graph: cannot read")
    assert "Traceback" not in done.stderr


def test_a_wrong_key_in_the_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text((ROOT / "configs" / "echo.yaml").read_text() + "colour: red\n")
    done = run("doctor", "--config", str(path))
    assert done.returncode == 1
    assert "colour" in done.stderr


def test_status_without_a_graph_says_how_to_start_one() -> None:
    done = run("status", "--config", "configs/echo.yaml", "--port", "9")
    assert done.returncode == 1
    assert "serve-graph up" in done.stderr


def test_doctor_speaks_json(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        (ROOT / "configs" / "echo.yaml").read_text() + f"state_folder: {tmp_path}\nhttp: {{port: 58123}}\n"
    )
    done = run("doctor", "--config", str(path), "--json")
    checks = {finding["check"]: finding["ok"] for finding in json.loads(done.stdout)}
    assert checks["tier cheap"]
    assert done.returncode == 0, done.stdout


def test_train_refuses_a_missing_table(tmp_path: Path) -> None:
    done = run("train", "--outcomes", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "candidate"))
    assert done.returncode == 1
    assert "none.parquet" in done.stderr
    assert "Traceback" not in done.stderr


HEAVY = ("numpy", "pandas", "sklearn", "ray", "mlflow", "torch", "vllm", "sqlalchemy", "yaml", "rich")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["versions", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys; from serve_graph.cli import main; sys.argv = ['serve-graph', *{words}]\n"
        "try: main()\n"
        f"except SystemExit: print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr
