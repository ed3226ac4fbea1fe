"""The parts of a table are made once, and are the same parts for whoever makes them from the same seed."""

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, split, table_of
from router_models.errors import DataError
from router_models.training.splits import SPLIT_SHARES, split_outcomes

TIERS = ("cheap", "frontier")


class OneHot(Encoder):
    """An encoder that needs no model."""

    def encode(self, texts: object) -> np.ndarray:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    grades = np.arange(120) % 2
    gaps = np.where(np.arange(120) % 10 == 0, np.nan, grades)
    prompts = [f"Question {i // 2}" for i in range(120)]  # every prompt twice
    return table_of(parse_columns(pd.DataFrame({"prompt": prompts, "cheap": grades, "frontier": gaps}), TIERS))


def test_parts_are_those_of_the_seed_and_share_no_prompt(table: OutcomeTable) -> None:
    parts = split_outcomes(table, TIERS, 3)
    expected = split(table.only(*TIERS), SPLIT_SHARES, 3)
    found = {"train": parts.train, "tune": parts.tune, "cert": parts.cert}
    assert {k: set(part.prompt_ids) for k, part in found.items()} == {
        k: set(v.prompt_ids) for k, v in expected.items()
    }
    assert len(parts.table) == 108, "a prompt without every grade is left out"
    assert len(parts.tune) == len(set(parts.tune.prompt_ids)), "one row of a prompt counts"
    assert len(parts.cert) == len(set(parts.cert.prompt_ids))
    assert len(parts.train) > len(set(parts.train.prompt_ids)), "all are learned from"
    ids = [set(part.prompt_ids) for part in found.values()]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    assert not ids[1] & ids[2]


def test_embedding_moves_no_prompt(table: OutcomeTable) -> None:
    plain = split_outcomes(table, TIERS, 0)
    embedded = plain.with_embeddings(OneHot())
    assert embedded.cert.prompts.embeddings is not None
    assert embedded.cert.prompt_ids == plain.cert.prompt_ids


@pytest.mark.parametrize(("tiers", "seed"), [(TIERS, 1), (("cheap",), 0)])
def test_parts_of_another_seed_or_other_tiers_are_refused(
    table: OutcomeTable, tiers: tuple[str, ...], seed: int
) -> None:
    with pytest.raises(DataError, match="the splits are of the tiers"):
        split_outcomes(table, TIERS, 0).check(tiers, seed)
