"""A label stays the same label when its table grows, and another one when the tier is asked again."""

import numpy as np
import pandas as pd

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.training.label_budget import labels_read
from router_models.training.splits import split_outcomes

TIERS = ("cheap", "frontier")


def frame(n: int = 60) -> pd.DataFrame:
    columns = {"prompt": [f"What is {i} plus {i}?" for i in range(n)]}
    for k, tier in enumerate(TIERS):
        columns |= {tier: (np.arange(n) + k) % 2, f"{tier}_answer": [f"{tier} says {i}" for i in range(n)]}
        columns |= {f"{tier}_latency_s": 0.25 * np.ones(n)}
    return pd.DataFrame(columns)


def table(given: pd.DataFrame) -> OutcomeTable:
    return table_of(parse_columns(given.copy(), TIERS))


def read(given: pd.DataFrame, seed: int = 0) -> frozenset[str]:
    return labels_read(split_outcomes(table(given), TIERS, seed).cert, TIERS)


def test_rows_and_columns_that_are_added_leave_the_labels_as_they_were() -> None:
    grown = frame(90).assign(domain="sums", words=7).sample(frac=1.0, random_state=0)
    assert read(frame()) < read(grown)
    assert 0 < len(read(frame())) < 2 * 60


def test_other_prompts_are_other_labels() -> None:
    assert read(frame(60)).isdisjoint(read(frame(120).tail(60)))


def test_asking_again_makes_new_labels_for_that_tier_alone() -> None:
    again = frame().assign(cheap_latency_s=0.3)
    assert len(read(frame()) & read(again)) == len(read(frame())) / 2


def test_another_seed_still_reads_some_of_the_same_labels() -> None:
    assert not read(frame()).isdisjoint(read(frame(), seed=1))
