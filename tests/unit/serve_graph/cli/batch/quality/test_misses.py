"""How many answers are wrong, where rows say how theirs is graded."""

from typing import Any

import pytest

from serve_graph.cli.batch.quality.misses import check_grader, measured_misses, misses_line
from serve_graph.errors import ServeGraphError


def row(tier: str, answer: str | None, number: str = "A-1", grader: str = "fields") -> dict[str, Any]:
    reference = {"fields": {"number": number}}
    return {"grader": grader, "reference": reference, "answer": answer, "serve_graph_tier": tier}


def test_wrong_answers_are_counted_by_tier_and_for_all_rows() -> None:
    right, wrong = '{"number": "a-1"}', '{"number": "B-2"}'
    rows = [row("cheap", right)] * 6 + [row("cheap", wrong)] * 2 + [row("frontier", right)] * 2
    found = measured_misses([*rows, row("cheap", None), {"answer": "x", "serve_graph_tier": "cheap"}], 1000)
    assert found is not None
    assert found["graded"] == 10
    assert (found["wrong"]["share"], found["wrong"]["count"]) == (0.2, 2)
    assert found["tiers"]["cheap"]["share"] == 0.25
    assert found["tiers"]["frontier"]["share"] == 0
    assert found["expected"]["share"] == 200
    assert found["expected"]["low"] < 100 < 400 < found["expected"]["high"]
    assert misses_line(found) == "of 10 graded answers 20.0 % are wrong (5.7 to 51.0, 95 %): 57 to 510 of all rows"


def test_without_graded_rows_nothing_is_measured() -> None:
    assert measured_misses([{"answer": "x", "serve_graph_tier": "cheap"}], 10) is None


@pytest.mark.parametrize(("grader", "said"), [("nope", "grader is 'nope'"), ("mentions", "cannot read")])
def test_a_grader_that_cannot_grade_is_named(grader: str, said: str) -> None:
    with pytest.raises(ServeGraphError, match=said):
        measured_misses([row("cheap", "{}", grader=grader)], 10)
    with pytest.raises(ServeGraphError, match=said):
        check_grader(row("cheap", None, grader=grader))


def test_a_grader_that_can_is_looked_at_before_anything_is_paid() -> None:
    check_grader(row("cheap", None))
    check_grader({"prompt": "no grader"})
