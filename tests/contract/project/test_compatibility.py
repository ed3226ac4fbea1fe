"""Every row of the compatibility page, and of the threat model, names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ("reference/compatibility.md", "operate/threat-model.md")
HEADS = ("| input | what is done | test |", "| attack | what stops it | test |")
ROWS = [
    line
    for page in PAGES
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith("|--")
]
CASES = [row for row in ROWS if row not in HEADS]


@pytest.mark.parametrize("row", CASES)
def test_every_row_names_a_test_that_exists(row: str) -> None:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 3, "a row has three cells: the input, what is done, the test"
    named = re.findall(r"`([\w/.-]+\.py)::(\w+)`", cells[2])
    assert named, "the third cell names a test as `path/under/tests.py::test_name`"
    for path, name in named:
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), f"{path} has no {name}"
