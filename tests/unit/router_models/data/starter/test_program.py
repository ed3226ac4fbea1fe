"""Find and mark the code in an answer."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.starter.program import find_code, marks_program

DOUBLE: Mapping[str, object] = {"function": "double", "cases": [[[2], 4], [[0], 0], [[-3], -6]]}
CODE = "def double(x):\n    return 2 * x"


@pytest.mark.parametrize(
    "answer",
    [
        CODE,
        f"```python\n{CODE}\n```",
        f"Here is the function:\n\n```py\n{CODE}\n```\nIt doubles x.",
        f"```\n{CODE}\n",
        f"{CODE}\n```\n\nThis function takes x and doubles it.",
        f"Sure! Here it is:\n{CODE}\n\nThis function doubles its argument.",
        f"```python\nimport math\n{CODE}\nprint(double(4))\n```",
        f"```python\n{CODE}\n```\nand an example:\n```python\nassert double(1) == 2\n```",
        "```python\nfrom typing import Any\ndef same(x: Any):\n    return x\n"
        "def double(x):\n    return same(x) * 2\n```",
        f"{CODE}\n\nif __name__ == '__main__':\n    main()",
    ],
)
def test_right_code_is_found_and_passes(answer: str) -> None:
    assert marks_program(DOUBLE, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "def double(x):\n    return x + 2",
        "def double(x):\n    print(2 * x)",
        "def double(x)\n    return 2 * x",
        "def doubled(x):\n    return 2 * x",
        "def double(x):\n    return 'four'",
        "def double():\n    return 4",
        "lambda x: 2 * x",
        f"{CODE}\nraise SystemExit",
    ],
)
def test_wrong_or_broken_code_fails(answer: str) -> None:
    assert not marks_program(DOUBLE, answer)


def test_true_is_not_one() -> None:
    assert not marks_program({"function": "f", "cases": [[[], True]]}, "def f():\n    return 1")


def test_tuple_is_as_good_as_a_list() -> None:
    assert marks_program({"function": "f", "cases": [[[], [1, 2]]]}, "def f():\n    return (1, 2)")


@settings(database=None, deadline=None, max_examples=200)
@given(st.text() | st.text(alphabet="def double(x):\n return`py#'\"\\"))
def test_looking_for_code_never_raises(answer: str) -> None:
    find_code(answer, "double")


@pytest.mark.parametrize(
    "answer", ["(" * 9000, "def double(x):\n" + " " * 9000, "x=" + "-" * 8000 + "1", "\x00", "\ud800", CODE + "\ud800"]
)
def test_extreme_answers_are_marked_wrong(answer: str) -> None:
    assert not marks_program(DOUBLE, answer)
