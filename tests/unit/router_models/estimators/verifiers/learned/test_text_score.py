"""The score of an exchange's words: one counted by itself scores as it does in a matrix of many."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router_models.estimators.verifiers.learned.text_score import BUCKETS, FEW_EXCHANGES, TextScore, _counted, _counts

DRAWN = np.random.default_rng(7)
SCORE = TextScore(DRAWN.gamma(2.0, 1.0, BUCKETS), DRAWN.normal(0, 1, BUCKETS), 0.25)
WORDS = st.sampled_from(
    ["the", "The", "a b", "x=1;", "…", "Łódź", "東京", "İ", "naïve", "\ud800", "9", "_", "\n\n", ""]
)
TEXT = st.text(max_size=40) | st.lists(WORDS, max_size=30).map(" ".join)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=FEW_EXCHANGES))
def test_one_exchange_scores_to_the_last_bit_as_in_a_matrix(pairs: list[tuple[str, str]]) -> None:
    many = [*pairs, *[("some", "others")] * (FEW_EXCHANGES + 1)]
    in_matrix = SCORE.predict(*zip(*many, strict=True))[: len(pairs)]
    assert SCORE.predict(*zip(*pairs, strict=True)).tolist() == in_matrix.tolist()


@given(TEXT, TEXT)
def test_an_exchange_fills_the_buckets_that_scikit_learn_fills(prompt: str, answer: str) -> None:
    buckets, counts = _counted(prompt, answer)
    row = _counts([prompt], [answer])
    row.sort_indices()
    assert buckets.tolist() == row.indices.tolist()
    assert counts.tolist() == row.data.tolist()


def test_no_exchange_has_no_score() -> None:
    assert SCORE.predict([], []).shape == (0,)
