"""Runbooks begin with an alert that there is, and every command in them exists with its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from serve_graph.cli import app
from serve_graph.config.kubernetes.monitoring.rules import ALERTS, RECORDED
from tests.contract.project.kubernetes.kustomize import ROOT

BOOKS = sorted((ROOT / "docs" / "operate" / "runbooks").glob("*.md"))
COMMAND = re.compile(r"`(serve-graph [^`]+)`|^ *(serve-graph .+)$", re.MULTILINE)


def commands(text: str) -> list[tuple[list[str], bool]]:
    """The commands of a page; whether each is whole, in a line of its own, or a mention within a sentence."""
    return [
        (shlex.split((inline or line).partition("#")[0].replace("…", "")), bool(line))
        for inline, line in COMMAND.findall(text)
    ]


def faults(words: list[str], is_whole: bool = True) -> list[str]:
    """What is wrong with a command: a name or an option that there is not, an argument that is missing."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return [f"no command: {' '.join(words)}"]
        command = command.commands[rest.pop(0)]
    options = {name for param in command.params for name in param.opts}
    found = [f"no option {word}: {' '.join(words)}" for word in rest if word.startswith("-") and word not in options]
    if found or not is_whole:
        return found
    try:
        command.make_context("serve-graph", list(rest)).close()
    except Exception as error:  # noqa: BLE001 (whatever the command line says of it)
        return [f"{error}: {' '.join(words)}"]
    return []


@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.stem)
def test_every_command_exists(book: Path) -> None:
    found = commands(book.read_text())
    assert found
    assert [fault for words, is_whole in found for fault in faults(words, is_whole)] == []


def test_a_command_that_is_none_would_be_found() -> None:
    assert faults(["serve-graph", "versions", "promte", "3"])
    assert faults(["serve-graph", "status", "--wacth"])
    assert faults(["serve-graph", "versions", "set-weight"])


@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.stem)
def test_a_runbook_begins_with_an_alert_and_names_series_that_there_are(book: Path) -> None:
    text = book.read_text()
    named = set(re.findall(r"\bServeGraph\w+", text))
    assert named
    assert named <= {alert.name for alert in ALERTS}
    assert set(re.findall(r"serve_graph:[\w:]+", text)) <= set(RECORDED)
    first = next(name for name in re.findall(r"\bServeGraph\w+", text))
    assert text.index(first) < 700


def test_every_runbook_is_on_the_site() -> None:
    nav = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    assert "operate/runbooks/*" in nav
