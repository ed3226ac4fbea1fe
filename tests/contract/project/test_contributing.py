"""CONTRIBUTING's steps, taken as they are written: a new family keeps its contract, every place named is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### an? (\w+)\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_there_are_steps_for_each_kind_five_of_them() -> None:
    assert list(SECTIONS) == ["router", "verifier", "engine", "metric"]
    for steps in SECTIONS.values():
        assert re.findall(r"^(\d)\. ", steps, re.MULTILINE) == list("12345")


@pytest.mark.parametrize("kind", ["router", "verifier"])
def test_a_family_added_by_the_steps_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    steps = SECTIONS[kind]
    shutil.copytree(ROOT / "router_models", tmp_path / "router_models", ignore=shutil.ignore_patterns("__pycache__"))
    [(path, code)] = re.findall(r'```python title="([^"]+)"\n(.*?)```', steps, re.DOTALL)
    written = tmp_path / path
    assert written.parent.is_dir()
    assert not written.exists()
    written.write_text("".join(line.removeprefix("   ") for line in code.splitlines(keepends=True)))

    [(registry, cls, table)] = re.findall(r"Import it in `([^`]+)` and add `(\w+)` to `(\w+)`", steps)
    lines = (tmp_path / registry).read_text()
    place = re.search(rf"^{table}: .*?^    \(\n", lines, re.DOTALL | re.MULTILINE)
    assert place, f"{registry} holds no list {table}"
    imported = f"from {path.removesuffix('.py').replace('/', '.')} import {cls}\n"
    added = f"{lines[: place.end()]}        {cls},\n{lines[place.end() :]}"
    (tmp_path / registry).write_text(added.replace("from router_models", f"{imported}from router_models", 1))

    [(contract, family)] = re.findall(r"`pytest (\S+) -k ([\w-]+)`", steps)
    (tmp_path / Path(contract).name).write_text((ROOT / contract).read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider",
         Path(contract).name, "-k", family],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 8


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_place_that_the_steps_name_is_there(kind: str) -> None:
    steps = re.sub(r"```.*?```", "", SECTIONS[kind], flags=re.DOTALL)
    for step in re.split(r"^\d\. ", steps, flags=re.MULTILINE):
        paths = re.findall(r"`((?:serve_graph|router_models|tests|docs|configs)/[\w/.-]*)`", step)
        for path in paths:
            assert (ROOT / path).exists(), path
        sources = "".join((ROOT / path).read_text() for path in paths if path.endswith(".py"))
        for name in re.findall(r"`((?:Request|Any|Engine|Tier|bind|render|_e|_w)\w*)`", step):
            if sources:
                assert re.search(rf"\b{name}\b", sources), f"{name} is not in {paths}"


def test_the_map_of_tests_names_every_folder_of_tests() -> None:
    named = set(re.findall(r"^\| `tests/(\w+)`", TEXT, re.MULTILINE))
    kinds = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert kinds | {"unit"} == named
