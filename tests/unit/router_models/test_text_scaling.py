"""Whatever reads callers' text takes time in proportion to it: four times the text, at most eight times as long.

Linear is four times, quadratic sixteen; CPU time, the least of three, so that a busy machine changes nothing.

Texts that made patterns quadratic: runs of blank lines, of blanks, of digits, of openings that never close.
"""

import time
from collections.abc import Callable

import pytest

from router_models.data.features import surface_features
from router_models.data.slices import SLICERS
from router_models.data.splits import prompt_id
from router_models.data.starter.answer_reading import first_number, numbers, read_json
from router_models.estimators.verifiers.checks import shape
from router_models.estimators.verifiers.checks.checks import CHECKS

UNITS = (
    "\n", " ", "\t\n", "\u00a0", "0", "0,", "1.", "1 1", "a", "a ", "a.\n", "A) ", "\nB. ", "```", "```a\n", "{",
    '{"a":', "[", "$", "$1", "\\a{", "-", "; ", "=>", "write ", "answer with ", "json ", "ein ", "not ", "é",
    "letter:\n",
)  # fmt: skip
READERS: dict[str, Callable[[str], object]] = {
    "surface features": lambda text: surface_features([text]),
    "prompt id": prompt_id,
    "asked shape": shape.asked_shape,
    "code of an answer": shape.code_of,
    "first number": first_number,
    "numbers": numbers,
    "JSON of a line": read_json,
}
READERS |= {f"slice by {name}": lambda text, read=read: read(text, {}) for name, read in SLICERS.items()}
READERS |= {
    f"check {name} of an answer": lambda text, check=check: check("x", text, "stop") for name, check in CHECKS.items()
}
READERS |= {
    f"check {name} of a prompt": lambda text, check=check: check(text, "x", "stop") for name, check in CHECKS.items()
}
READERS |= {f"shape {name}": lambda text, name=name: shape.has_shape(name, text) for name in shape.SHAPES}
SHORT, LONG = 1_500, 6_000  # below every reader's cap
NOTHING_S = 0.01


def took(read: Callable[[str], object], text: str) -> float:
    """CPU seconds of one call, the least of three."""
    spent = []
    for _ in range(3):
        begun = time.process_time()
        read(text)
        spent.append(time.process_time() - begun)
        if spent[-1] < NOTHING_S:
            break
    return min(spent)


@pytest.mark.parametrize("name", READERS)
def test_four_times_the_text_takes_nowhere_near_sixteen_times_as_long(name: str) -> None:
    read = READERS[name]
    for unit in UNITS:
        for end in ("", "x"):
            short, long = ((unit * size)[:size] + end for size in (SHORT, LONG))
            if (longer := took(read, long)) >= NOTHING_S:
                assert longer <= 8 * took(read, short) + NOTHING_S, f"{name} of {unit!r} repeated"


@pytest.mark.parametrize("name", READERS)
def test_a_text_of_three_hundred_kilobytes_is_read_within_a_second(name: str) -> None:
    for unit in ("\n", " ", "0", "a ", "{"):
        assert took(READERS[name], unit * (300_000 // len(unit))) < 1.0, f"{name} of {unit!r} repeated"
