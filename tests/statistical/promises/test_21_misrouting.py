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
from router_models.evaluation.benchmarks.misrouting.attack import measure_misrouting
from router_models.evaluation.benchmarks.misrouting.families import measure_families, routed_version
from router_models.training.selection.auto_router import auto_families
from router_models.training.splits import split_outcomes
from router_models.types.text_coverage import NOT_COMPARED
from router_models.versions.covering.rewriting import easiest

EPSILON = 0.10
READ_TEXT = ("length", "surface", "surface-forest", "tfidf")
"""Families that read a text without embedding it."""
TIERS = ("cheap", "frontier")


def test_no_rewriting_moves_more_than_epsilon_of_the_hard_prompts_down(size: Callable[[int, int], int]) -> None:
    splits = split_outcomes(read_outcomes(STARTER_OUTCOMES, TIERS), TIERS, 0, last_ungraded=True)
    version, coverage = routed_version(splits, "tfidf", Encoder(), 0)
    held_out, easy = replace(splits.cert, answers={}), easiest([version], splits.train)
    found, control = (
        measure_misrouting(version, one, held_out, easy, name="shipped", epsilon=EPSILON, most=size(60, 600))
        for one in (coverage, replace(coverage, text=NOT_COMPARED))
    )
    assert found.prompts >= 60
    assert coverage.text.attacked is not None
    assert coverage.text.attacked.held
    for row in found.rows:
        assert row.moved.low <= EPSILON, row.name
        assert row.rise.value <= EPSILON, row.name
    beyond = {row.name for row in control.rows if row.moved.low > EPSILON}
    assert {"one easy question before", "one easy question after", "rot13"} <= beyond


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("reads", ["text", "embeddings"])
def test_no_rewriting_sends_more_than_epsilon_more_of_the_hard_prompts_down_in_any_family(reads: str) -> None:
    """Of all that `train` tries, and one that it does not for this; with easy questions all of them are surest of."""
    splits = split_outcomes(read_outcomes(STARTER_OUTCOMES, TIERS), TIERS, 0, last_ungraded=True)
    if reads == "embeddings":
        splits = splits.with_embeddings(Encoder())
        families = tuple(name for name in auto_families(splits.train) if name not in READ_TEXT)
        families = (*families, "matrix-factorisation")
    else:
        families = READ_TEXT
    for one in measure_families(splits, families, Encoder(), epsilon=EPSILON, most=150 if reads == "text" else 40):
        assert {row.name for row in one.rows if row.rise.low > EPSILON} == set(), one.name
