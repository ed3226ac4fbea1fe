"""The hooks that run before a commit are what `make check` runs, and nothing that must be fetched."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]


def hooks() -> list[dict[str, Any]]:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    return [hook for repository in repositories for hook in repository["hooks"]]


def checks(makefile: str) -> list[str]:
    """The commands of the target `check`, with the project's own environment spelled out."""
    [recipe] = re.findall(r"^check:[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE)
    return [line.strip().removeprefix("@").replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]


def test_the_hooks_are_the_commands_of_make_check() -> None:
    assert [hook["entry"] for hook in hooks()] == checks((ROOT / "Makefile").read_text())


def test_every_hook_runs_here_and_over_the_whole_project() -> None:
    for hook in hooks():
        assert (hook["language"], hook["pass_filenames"]) == ("system", False), hook["id"]


def test_a_command_that_is_added_to_make_check_would_be_missed() -> None:
    assert checks("check: env  ## all\n\t@$(BIN)/ruff check .\n\t@$(BIN)/new .\n\nformat: env\n\t@$(BIN)/x\n") == [
        ".venv/bin/ruff check .",
        ".venv/bin/new .",
    ]
