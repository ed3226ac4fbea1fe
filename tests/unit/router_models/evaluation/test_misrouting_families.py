"""No router family sends many more hard prompts to the cheap tier for what is written around them.

Some prompts of the shipped table, words and their pairs hashed in place of embeddings, the ways that move most.
`statistical/promises/test_21_misrouting.py` has all families that `train` tries, all ways and the real encoder.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

from router_models.data.outcomes import read_outcomes
from router_models.data.starter import STARTER_OUTCOMES
from router_models.evaluation.benchmarks.misrouting.families import measure_families
from router_models.evaluation.benchmarks.misrouting.results import Misrouting
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.versions.covering.perturbations import PERTURBATIONS

EPSILON = 0.10
TIERS = ("cheap", "frontier")
FAMILIES = (
    "length",
    "surface",
    "semantic",
    "knn",
    "linear",
    "ridge",
    "tfidf",
    "cluster-error",
    "layered",
    "matrix-factorisation",
)
"""Those that are fitted in a moment; the others are measured at full size."""
MOVING = (
    "five easy questions before",
    "one easy question before",
    "joined to an easy question",
    "an easy question on either side",
    "the question split around an easy one",
)


class Hashed:
    """Embeds a text as the hashed counts of its words and pairs of words, at length one."""

    digest = "hashed"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 96), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = text.lower().split() or [""]
            for word in (*words, *map(" ".join, pairwise(words))):
                row[sum(word.encode()) * 31 % 96] += 1.0
            row /= np.linalg.norm(row)
        return rows

    def reads_whole(self, text: str) -> bool:
        return True


@cache
def some() -> LabelledSplits:
    table = read_outcomes(STARTER_OUTCOMES, TIERS)
    splits = split_outcomes(table.take(np.arange(0, len(table), 8)), TIERS, 0, last_ungraded=True)
    return splits.with_embeddings(Hashed())  # type: ignore[arg-type]


def attacked(families: Sequence[str], *, compared: bool = True) -> dict[str, Misrouting]:
    ways = {name: PERTURBATIONS[name] for name in MOVING}
    found = measure_families(some(), families, Hashed(), epsilon=EPSILON, most=30, ways=ways, compared=compared)
    return {one.name: one for one in found}


def test_no_family_sends_more_than_epsilon_more_of_the_hard_prompts_down_and_without_the_checks_they_do() -> None:
    for family, one in attacked(FAMILIES).items():
        assert {row.name for row in one.rows if row.rise.low > EPSILON} == set(), family
    (control,) = attacked(("tfidf",), compared=False).values()
    assert {"one easy question before", "an easy question on either side"} <= {
        row.name for row in control.rows if row.rise.low > EPSILON
    }
