"""Experiment 21: hard prompts rewritten to be routed to the cheap tier stay where they were, or are not covered.

The shipped table, prompts that nothing was fitted on, every way of rewriting. The negative control: without comparing
parts and spelling an easy question beside a hard one, and text that the router knows no word of, move half of them.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import read_outcomes
from router_models.data.starter import STARTER_OUTCOMES
from router_models.evaluation.benchmarks.misrouting import easiest, measure_misrouting, routed_version
from router_models.training.splits import split_outcomes
from router_models.types.text_coverage import NOT_COMPARED

EPSILON = 0.10
FAMILIES = ("length", "surface", "surface-forest")
"""Beside tfidf, those that read a text without embedding it."""
TIERS = ("cheap", "frontier")


def test_no_rewriting_moves_more_than_epsilon_of_the_hard_prompts_down(size: Callable[[int, int], int]) -> None:
    splits = split_outcomes(read_outcomes(STARTER_OUTCOMES, TIERS), TIERS, 0, last_ungraded=True)
    version, coverage = routed_version(splits, "tfidf", Encoder(), 0)
    held_out, easy = replace(splits.cert, answers={}), easiest(version, splits.train)
    found, control = (
        measure_misrouting(version, one, held_out, easy, name="shipped", epsilon=EPSILON, most=size(60, 600))
        for one in (coverage, replace(coverage, text=NOT_COMPARED))
    )
    assert found.prompts >= 60
    for row in found.rows:
        assert row.moved.low <= EPSILON, row.name
        assert row.routed <= found.routed + EPSILON, row.name
    beyond = {row.name for row in control.rows if row.moved.low > EPSILON}
    assert {"one easy question before", "one easy question after", "rot13"} <= beyond


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_rewriting_moves_more_than_epsilon_of_any_family(family: str) -> None:
    splits = split_outcomes(read_outcomes(STARTER_OUTCOMES, TIERS), TIERS, 0, last_ungraded=True)
    version, coverage = routed_version(splits, family, Encoder(), 0)
    held_out, easy = replace(splits.cert, answers={}), easiest(version, splits.train)
    found = measure_misrouting(version, coverage, held_out, easy, name=family, epsilon=EPSILON, most=60)
    assert {row.name for row in found.rows if row.moved.low > EPSILON} == set()
