"""Golden answers: where all orders of a task's answers are equally probable, tests are exact, whatever the answers."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.monitoring.golden_answers import (
    FallenGrades,
    GoldenAnswer,
    compare_golden,
    level_of_run,
    log_odds_ratio,
)

ANSWERS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans()), min_size=3, max_size=5)


def runs_of(order: tuple[tuple[str, int, bool], ...]) -> list[dict[str, GoldenAnswer]]:
    return [{"task": GoldenAnswer(said, tokens, tokens % 3, right)} for said, tokens, right in order]


@settings(max_examples=30)
@given(ANSWERS, st.floats(0.01, 0.9))
def test_over_all_orders_a_figure_is_below_a_level_no_more_often_than_that(
    answers: list[tuple[str, int, bool]], level: float
) -> None:
    found: dict[str, list[float]] = {}
    for order in permutations(answers):
        *earlier, now = runs_of(order)
        for change in compare_golden(earlier, now, level):
            found.setdefault(change.figure, []).append(change.p_value)
    assert set(found) == {"answers", "length", "prompt_tokens"}
    for p in found.values():
        assert np.mean(np.array(p) <= level) <= level + 1e-9


@settings(max_examples=30)
@given(ANSWERS, st.integers(1, 2))
def test_over_all_orders_the_evidence_of_fallen_grades_has_the_mean_one(
    answers: list[tuple[str, int, bool]], window: int
) -> None:
    values = []
    for order in permutations(answers):
        made = runs_of(order)
        values.append(np.exp(log_odds_ratio(made[:-window], made[-window:])))
    assert np.mean(values) == pytest.approx(1.0)


def test_the_levels_of_all_runs_of_all_tiers_add_up_to_the_share() -> None:
    assert 3 * sum(level_of_run(0.01, 3, number) for number in range(1, 20_000)) == pytest.approx(0.01, rel=1e-3)


def test_a_p_value_is_as_small_as_equal_answers_before_a_changed_one_permit() -> None:
    earlier = [{str(i): GoldenAnswer("same", 5) for i in range(6)} for _ in range(4)]
    now = {str(i): GoldenAnswer("other" if i < 3 else "same", 5) for i in range(6)}
    (answers, length) = compare_golden(earlier, now, 0.05)
    assert answers.p_value == pytest.approx(5.0**-3)
    assert (answers.before, answers.now, answers.n) == (0.0, 0.5, 6)
    assert (length.p_value, length.is_reported) == (1.0, False)


def test_evidence_never_falls_and_grades_that_nobody_gave_are_no_evidence() -> None:
    ungraded = [{"task": GoldenAnswer("x")}] * 3
    assert FallenGrades().update(ungraded, ungraded[0]).graded == 0
    watch, values, earlier = FallenGrades(), [], [{"t": GoldenAnswer("x", right=True)}] * 5
    for right in (False, True, False, True):
        now = {"t": GoldenAnswer("x", right=right)}
        watch = watch.update(earlier, now)
        earlier = [*earlier, now]
        values.append(watch.e_value)
    assert values == sorted(values)
    assert (watch.runs, watch.wrong, watch.graded, watch.expected) == (4, 0, 1, pytest.approx(2 / 8))
