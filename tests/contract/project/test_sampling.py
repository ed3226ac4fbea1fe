"""A sample of very many tests is the same every time, about as large as it says, and leaves no value out."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.fixtures.sampling import DEAR, DEAR_ONE_IN, dear_tests, in_sample, left_out, others_turn, turn_of

CASES = {f"{size}-{colour}-{kind}": {"size": size, "colour": colour, "kind": kind}
         for size, colour, kind in product(range(12), "abcdefgh", ("x", "y"))}  # fmt: skip


def test_every_value_of_every_parameter_is_met_and_the_rest_is_a_share() -> None:
    for one_in in (2, 5, 10_000):
        chosen = in_sample(CASES, one_in)
        met = {value for name in chosen for value in CASES[name].items()}
        assert met == {value for parameters in CASES.values() for value in parameters.items()}
        assert len(chosen) <= 1.3 * len(CASES) / one_in + 12 + 8 + 2
    assert in_sample(CASES, 1) == set(CASES)


def test_a_sample_depends_neither_on_the_order_nor_on_cases_that_are_added() -> None:
    chosen = in_sample(CASES)
    assert in_sample(dict(reversed(CASES.items()))) == chosen
    more = in_sample(CASES | {"another": {"size": 1, "colour": "a", "kind": "x"}})
    assert more - {"another"} == chosen


def test_as_many_turns_as_a_case_is_one_of_draw_every_case_and_each_draws_others() -> None:
    drawn = [in_sample(CASES, 4, turn) for turn in range(7, 11)]
    assert set().union(*drawn) == set(CASES)
    assert len({frozenset(each) for each in drawn}) == 4
    assert in_sample(CASES, 4, 7) == drawn[0] == in_sample(CASES, 4, 11)


def test_what_found_a_fault_once_is_in_every_sample_and_meets_its_values_there() -> None:
    rare = {f"rare-{n}": {"n": n, "same": True} for n in range(50)}
    for turn in range(5):
        assert "rare-7" in in_sample(rare, 5, turn, {"rare-7"})
    assert in_sample({"a": {"x": 1}, "b": {"x": 1}}, 10**6, always=("b",)) == {"b"}


def test_a_turn_is_the_commits_and_0_where_there_is_none(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        assert 0 < turn_of(root) == turn_of(root / "tests") < 16**6
    assert turn_of(tmp_path) == 0


def items_of(test: str, marked_on: Any, *marks: str, **options: int) -> list[Any]:
    """What pytest collects of a test with two parameters, 20 numbers and 2 lists, whose mark is on `marked_on`.

    A list cannot be hashed: pytest gives it another index in every case.
    """
    made, lists = [], ([0], [1])
    for number, each in product(range(20), range(2)):
        item = SimpleNamespace(nodeid=f"test_matrix.py::{test}[{number}-{each}]")
        item.callspec = SimpleNamespace(
            params={"a": number, "b": lists[each]}, indices={"a": number, "b": 2 * number + each}
        )
        mark = SimpleNamespace(args=marks, kwargs=options)
        found = [] if marked_on is None else [(item if marked_on == "test" else marked_on, mark)]
        item.iter_markers_with_node = lambda name, found=found: iter(found if name == "sampled" else [])
        made.append(item)
    return made


def test_the_mark_says_which_parameters_count_and_where_it_stands_what_is_drawn_from() -> None:
    def kept(*tests: list[Any]) -> int:
        every = [item for items in tests for item in items]
        return len(every) - len(left_out(every))

    assert kept(items_of("test_plain", None)) == 40
    assert 20 <= kept(items_of("test_all", "test")) < 30
    assert kept(items_of("test_lists", "test", "b", one_in=10_000)) == 2
    module = SimpleNamespace(nodeid="test_matrix.py")
    several = [items_of(f"test_{name}", module, "a", one_in=10_000) for name in "xyz"]
    assert kept(*several) == 20, "of all its tests together"
    left = {item.nodeid for item in left_out([item for items in several for item in items])}
    assert all(any(item.nodeid not in left for item in items) for items in several), "every test is met"
    full = items_of("test_full", "test", one_in=10_000)
    for item in full[10:]:
        sampled = item.iter_markers_with_node
        item.iter_markers_with_node = lambda name, of=sampled: iter([(None, None)]) if name == "full" else of(name)
    left = {item.nodeid for item in left_out(full)}
    assert not left & {item.nodeid for item in full[10:]}, "what is full is asked for by its mark"
    assert {item.callspec.params["a"] for item in full[:10] if item.nodeid not in left} == set(range(5)), "by itself"
    alone = SimpleNamespace(nodeid="test_matrix.py::test_alone")
    drawn_from = (module, SimpleNamespace(args=("a",), kwargs={}))
    alone.iter_markers_with_node = lambda name: iter([drawn_from] if name == "sampled" else [])
    assert alone not in left_out([alone, *several[0]])


def test_of_what_a_module_runs_on_one_has_its_turn_and_what_is_marked_always_runs_every_time(tmp_path: Path) -> None:
    (tmp_path / "test_stores.py").write_text(
        "import pytest\n\n"
        "pytestmark = pytest.mark.in_turn('store')\n\n\n"
        "@pytest.fixture(scope='module', params=['files', 'sqlite', 'postgres'])\n"
        "def store(request): ...\n\n\n"
        "@pytest.mark.parametrize('n', [0, pytest.param(1, marks=pytest.mark.always)])\n"
        "def test_it(store, n): ...\n\n\n"
        "def test_without(): ...\n"
    )
    root = Path(__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.conftest",
    ]
    ran = []
    for turn in ("7", "8", "9"):
        done = subprocess.run(
            [*command, "--turn", turn, "-c", root / "pyproject.toml", "--rootdir", tmp_path, tmp_path],
            env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = re.findall(r"::test_(\S+)", done.stdout)
        assert {f"it[{store}-1]" for store in ("files", "sqlite", "postgres")} | {"without"} <= set(found)
        ran.append({each for each in found if "-0]" in each})
    assert sorted(ran, key=str) == [{"it[files-0]"}, {"it[postgres-0]"}, {"it[sqlite-0]"}]


def test_every_dear_test_is_there_and_runs_at_one_commit_in_three() -> None:
    root, named = Path(__file__).parents[3], dear_tests()
    lines = [line for line in DEAR.read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(set(lines))
    for name in named:
        path, _, test = name.partition("::")
        assert (root / path).exists(), f"{path} of tests/dear.txt is gone: change the list with it"
        assert not test or f"def {test}(" in (root / path).read_text(), (
            f"{name} of tests/dear.txt is gone: change the list with it"
        )
    assert not [name for name in named if name.startswith(("tests/contract/project/", "tests/contract/supply/"))]
    items, dear = items_of("test_long", None), {"test_matrix.py::test_long": None}
    ran = [
        {item.nodeid for item in items} - {item.nodeid for item in others_turn(items, turn, dear)}
        for turn in (7, 8, 9)
    ]
    assert len(ran) == DEAR_ONE_IN
    assert set().union(*ran) == {item.nodeid for item in items}
    assert sum(map(len, ran)) == len(items), "each at one turn"
    assert [len(others_turn(items, turn, {"test_matrix.py": 2})) for turn in (7, 8, 9)] == [0, 40, 40], (
        "a file is whole"
    )
    assert others_turn(items, 7) == []


def test_values_that_cannot_be_hashed_are_counted_as_pytest_collects_them(tmp_path: Path) -> None:
    (tmp_path / "test_lists.py").write_text(
        "import pytest\n\n"
        "LISTS = [[n] for n in range(4)]\n\n\n"
        "@pytest.mark.sampled('each', one_in=10_000)\n"
        "@pytest.mark.parametrize('each', LISTS)\n"
        "@pytest.mark.parametrize('number', range(20))\n"
        "def test_it(number, each): ...\n"
    )
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq"]
    (tmp_path / "conftest.py").write_text(
        "from tests.fixtures.sampling import left_out\n\n\n"
        "def pytest_configure(config): config.addinivalue_line('markers', 'sampled')\n\n\n"
        "def pytest_collection_modifyitems(items):\n"
        "    left = left_out(items)\n"
        "    items[:] = [item for item in items if item not in left]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, "-c", os.devnull, tmp_path],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "test_lists.py: 4" in done.stdout, done.stdout + done.stderr


def test_a_run_draws_the_sample_of_the_turn_that_it_is_given_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "test_many.py").write_text(
        "import pytest\n\n\n"
        "@pytest.mark.sampled('same', one_in=4)\n"
        "@pytest.mark.parametrize('same', [1])\n"
        "@pytest.mark.parametrize('n', [*range(39), pytest.param(39, marks=pytest.mark.always)])\n"
        "def test_it(n, same): ...\n"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "tests.conftest", "--turn", "6"]
    done = subprocess.run(
        [*command, "-c", root / "pyproject.toml", "--rootdir", tmp_path, tmp_path],
        env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sampled at --turn 6" in done.stdout
    cases = {f"test_many.py::test_it[{n}-1]": {"same": 1} for n in range(40)}
    drawn = in_sample(cases, 4, 6, ["test_many.py::test_it[39-1]"])
    assert set(re.findall(r"(test_many\S+\]) PASSED", done.stdout)) == drawn
    assert "test_many.py::test_it[39-1]" in drawn
