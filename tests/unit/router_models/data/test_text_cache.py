"""Texts are read once inside a block, and nothing is kept after it."""

from collections import Counter

import numpy as np
import pytest

from router_models.data import features
from router_models.data.features import surface_features
from router_models.data.text_cache import cached_by_text, each_text_once
from router_models.estimators.routers.text.tfidf import hashed
from router_models.training.selection.model_selection import choose_router
from router_models.types import Prompts


def test_inside_a_block_every_text_is_read_once_and_afterwards_anew() -> None:
    read: list[str] = []

    def lengths(texts: list[str]) -> list[int]:
        read.extend(texts)
        return [len(text) for text in texts]

    with each_text_once():
        assert cached_by_text("length", ["a", "bb", "a"], lengths) == [1, 2, 1]
        with each_text_once():
            assert cached_by_text("length", ["bb", "ccc"], lengths) == [2, 3]
        assert cached_by_text("length", ["ccc"], lengths) == [3]
        assert read == ["a", "bb", "ccc"]
        assert cached_by_text("first letter", ["bb"], lambda texts: [text[0] for text in texts]) == ["b"]
    assert cached_by_text("length", ["a"], lengths) == [1]
    assert read == ["a", "bb", "ccc", "a"]


def test_a_block_that_fails_keeps_nothing_either() -> None:
    def fail(texts: list[str]) -> list[int]:
        raise RuntimeError

    with pytest.raises(RuntimeError), each_text_once():
        cached_by_text("x", ["a", "b"], lambda texts: [1] * len(texts)) and cached_by_text("y", ["a"], fail)
    assert cached_by_text("x", ["a"], lambda texts: [2 for _ in texts]) == [2]


def test_features_are_the_same_inside_and_outside() -> None:
    texts = ["Why is 2 + 2 = 4?", "", "long " * 50, "Why is 2 + 2 = 4?", "\ud800 lone"]
    plain, words = surface_features(texts), hashed(texts).toarray()
    with each_text_once():
        for _ in range(2):
            np.testing.assert_array_equal(surface_features(texts), plain)
            np.testing.assert_array_equal(hashed(texts).toarray(), words)


def test_families_folds_and_what_is_beside_a_router_read_each_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def counted(text: str) -> tuple[float, ...]:
        read[text] += 1
        return one(text)

    one = features._surface
    monkeypatch.setattr(features, "_surface", counted)
    texts = [f"{'prove' if i % 3 else 'name'} the number {i}" for i in range(90)]
    y = np.array([float(i % 3 == 0 or i % 7 == 0) for i in range(90)])
    choose_router(Prompts(tuple(texts)), y, np.arange(90), families=("surface", "surface-forest"), folds=3)
    assert read == Counter(texts)
