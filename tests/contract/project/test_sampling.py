"""A sample of very many tests is the same every time, about as large as it says, and leaves no value out."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.fixtures.sampling import in_sample, left_out

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
        item.iter_markers_with_node = lambda name, found=found: iter(found)
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
    alone = SimpleNamespace(nodeid="test_matrix.py::test_alone")
    alone.iter_markers_with_node = lambda name: iter([(module, SimpleNamespace(args=("a",), kwargs={}))])
    assert alone not in left_out([alone, *several[0]])


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
