"""All stages of `make test` are run, and every folder of tests is in one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = {path.parent.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}


def stages(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "stages"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_failing_stage_hides_none_after_it_and_fails_at_the_end(tmp_path: Path) -> None:
    made = stages("first", "true", "second", "echo no; exit 3", "third", f"touch {tmp_path / 'ran'}")
    assert (tmp_path / "ran").exists()
    assert made.returncode == 1
    told = made.stdout.split("Stages:")[1].splitlines()[1:]
    assert [line.split()[:2] for line in told] == [["first", "passed"], ["second", "FAILED"], ["third", "passed"]]
    assert all(line.endswith(" s") for line in told)


def test_it_passes_where_all_do() -> None:
    assert stages("a", "true", "b", "true").returncode == 0


def test_a_name_without_a_command_is_wrong_use() -> None:
    assert stages("a").returncode == 2


@pytest.mark.parametrize("target", ["test", "test-all"])
def test_every_folder_of_tests_is_in_a_stage(target: str, tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "-n", f"VENV={tmp_path / 'venv'}", target],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    ran = made.stdout.split("scripts/stages", 1)[1]
    by_make = {"clients"} if "clients'" in ran else set()
    assert {folder for folder in FOLDERS if f"tests/{folder}" not in ran} == by_make


def again(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests with `counted`, which says how often a name was given to it."""
    counted = """
from pathlib import Path
import pytest

def counted(name):
    with (Path(__file__).parent / name).open("a+") as seen:
        seen.write(".")
        return seen.tell()
"""
    (folder / "test_it.py").write_text(counted + body)
    command = [str(ROOT / "scripts" / "again"), sys.executable, "-m", "pytest", "-q", str(folder / "test_it.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


def test_a_test_that_fails_once_is_tried_again_and_named(tmp_path: Path) -> None:
    made = again(tmp_path, "def test_a(): assert counted('a') == 2\ndef test_b(): assert counted('b') == 1\n")
    assert made.returncode == 0, made.stdout
    unstable = [line for line in made.stdout.splitlines() if line.startswith("UNSTABLE")]
    assert unstable == ["UNSTABLE test_it.py::test_a"]
    assert (tmp_path / "b").read_text() == ".", "what passed is not run again"


@pytest.mark.parametrize(
    "body",
    [
        "def test_a(): assert not counted('a')\n",
        "@pytest.mark.parametrize('n', range(4))\ndef test_a(n): assert counted(str(n)) == 2\n",
        "import nothing_of_this_name\n",
    ],
    ids=["fails twice", "four that fail", "cannot be collected"],
)
def test_what_fails_twice_or_widely_fails_the_run(body: str, tmp_path: Path) -> None:
    made = again(tmp_path, body)
    assert made.returncode not in (0, 5), made.stdout
    assert "UNSTABLE" not in made.stdout


def test_nothing_is_tried_again_where_all_passes(tmp_path: Path) -> None:
    made = again(tmp_path, "def test_a(): assert counted('a') == 1\n")
    assert made.returncode == 0
    assert "once more" not in made.stdout
