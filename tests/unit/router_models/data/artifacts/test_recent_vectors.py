"""Embeddings that are kept for texts that come again."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.recent_vectors import RecentVectors


class CountingEncoder:
    """A text's length and first character; `asked` are the calls."""

    def __init__(self, digest: str = "one") -> None:
        self.digest = digest
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


def expected(texts: Sequence[str]) -> list[list[float]]:
    return [[len(text), ord(text[0])] for text in texts]


def test_what_came_before_is_not_embedded_again() -> None:
    recent, encoder = RecentVectors(), CountingEncoder()
    for texts in (["a", "bb", "a"], ["bb", "c"], ["a", "bb", "c"]):
        assert [row.tolist() for row in recent.of(encoder, texts)] == expected(texts)
    assert encoder.asked == [["a", "bb"], ["c"]]


def test_the_longest_unused_go_first() -> None:
    recent, encoder = RecentVectors(2), CountingEncoder()
    for texts in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        assert [row.tolist() for row in recent.of(encoder, texts)] == expected(texts)
    assert encoder.asked == [["a"], ["b"], ["c"], ["b"]]


def test_a_batch_that_is_longer_than_what_is_kept_is_answered_whole() -> None:
    recent, encoder = RecentVectors(2), CountingEncoder()
    texts = ["a", "bb", "ccc", "dddd"]
    assert [row.tolist() for row in recent.of(encoder, texts)] == expected(texts)
    assert len(recent._known) == 2


def test_another_encoder_embeds_for_itself() -> None:
    recent, one, other = RecentVectors(), CountingEncoder("one"), CountingEncoder("other")
    recent.of(one, ["a"])
    recent.of(other, ["a"])
    assert one.asked == other.asked == [["a"]]


def test_a_copy_begins_with_none() -> None:
    recent, encoder = RecentVectors(3), CountingEncoder()
    recent.of(encoder, ["a"])
    copied = pickle.loads(pickle.dumps(recent))
    copied.of(encoder, ["a"])
    assert (copied.most, encoder.asked) == (3, [["a"], ["a"]])


def test_threads_may_ask_at_the_same_time() -> None:
    recent, encoder = RecentVectors(8), CountingEncoder()
    batches = [[f"{chr(97 + (n + i) % 20)}{'x' * ((n + i) % 20)}" for i in range(6)] for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda texts: recent.of(encoder, texts), batches))
    assert [[row.tolist() for row in rows] for rows in found] == [expected(texts) for texts in batches]
    assert len(recent._known) == 8
