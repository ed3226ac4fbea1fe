"""What every command has: help with an example, exit codes, one clear line for a failure."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from serve_graph.cli import app, main

ROOT = Path(__file__).parents[2]


def leaves() -> list[tuple[str, Any]]:
    """Every command that is no group, by its words."""

    def walk(command: Any, path: list[str]) -> list[tuple[str, Any]]:
        if hasattr(command, "commands"):
            return [found for name, sub in command.commands.items() for found in walk(sub, [*path, name])]
        return [(" ".join(path), command)]

    return walk(typer.main.get_command(app), [])


def commands() -> list[tuple[str, str]]:
    """Every leaf command's words and its help text."""
    return [(words, command.help or "") for words, command in leaves()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command as its program does: its exit code, what it printed, and its errors."""

    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["serve-graph", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return called


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("words", "text"), commands(), ids=lambda value: value[:20])
def test_every_command_has_help_with_an_example(words: str, text: str) -> None:
    assert f"serve-graph {words}" in text


def test_every_option_and_argument_says_what_it_is() -> None:
    silent = [
        f"{words} {parameter.name}"
        for words, command in leaves()
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


def test_an_unknown_command_is_wrong_use_of_the_program() -> None:
    command = [sys.executable, "-c", "from serve_graph.cli import main; main()", "fly"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_an_unknown_option_is_wrong_use(run: Run) -> None:
    assert run("doctor", "--fast")[0] == 2


def test_a_missing_configuration_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    code, _, said = run("doctor", "--config", str(tmp_path / "none.yaml"))
    assert code == 1
    assert said.startswith("serve-graph: cannot read")
    assert "Traceback" not in said


def test_a_wrong_key_in_the_configuration_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text((ROOT / "configs" / "echo.yaml").read_text() + "colour: red\n")
    code, _, said = run("doctor", "--config", str(path))
    assert code == 1
    assert "colour" in said


def test_status_without_a_graph_says_how_to_start_one(run: Run) -> None:
    code, _, said = run("status", "--config", "configs/echo.yaml", "--port", "9")
    assert code == 1
    assert "serve-graph up" in said


def test_doctor_speaks_json(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        (ROOT / "configs" / "echo.yaml").read_text() + f"state_folder: {tmp_path}\nhttp: {{port: 58123}}\n"
    )
    code, printed, _ = run("doctor", "--config", str(path), "--json")
    checks = {finding["check"]: finding["ok"] for finding in json.loads(printed)}
    assert checks["tier cheap"]
    assert code == 0, printed


def test_train_refuses_a_missing_table(run: Run, tmp_path: Path) -> None:
    code, _, said = run("train", "--outcomes", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "candidate"))
    assert code == 1
    assert "none.parquet" in said
    assert "Traceback" not in said


HEAVY = ("numpy", "pandas", "sklearn", "ray", "mlflow", "torch", "vllm", "sqlalchemy", "yaml", "rich")
HELP_CPU_S = 0.6


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["versions", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy_and_costs_little(words: list[str]) -> None:
    code = (
        f"import sys, time; from serve_graph.cli import main; sys.argv = ['serve-graph', *{words}]\n"
        "try: main()\n"
        f"except SystemExit: print('loaded', [name for name in {HEAVY} if name in sys.modules], time.process_time())"
    )
    spent = []
    for _ in range(3):  # other processes lengthen even CPU seconds, and the first may have to compile
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        loaded, _, spent_s = done.stdout.splitlines()[-1].rpartition(" ")
        assert loaded == "loaded []", done.stderr
        spent.append(float(spent_s))
        if spent[-1] <= HELP_CPU_S:
            return
    raise AssertionError(f"{spent} s of CPU, where {HELP_CPU_S} are allowed")
