"""Routers that count words, and routers that look at the nearest prompts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from router_models.data.features import surface_features
from router_models.estimators.routers import (
    KnnRouter,
    TfidfRouter,
)
from router_models.estimators.routers.embedding.knn import nearest
from router_models.estimators.routers.text.tfidf import WIDTH, hashed
from router_models.types import Prompts


def test_tfidf_learns_words_and_reads_no_more_than_it_promises(draws: Callable[..., Any]) -> None:
    texts = tuple(f"{'integral' if i % 2 else 'colour'} of item {i}" for i in range(300))
    y = draws(np.where(np.arange(300) % 2 == 1, 0.1, 0.9))
    router = TfidfRouter().fit(Prompts(texts), y)
    a, b = router.predict(Prompts(("the colour", "the integral")))
    assert a > b
    long = "colour " * 10_000
    assert router.predict(Prompts((long,)))[0] == router.predict(Prompts((long + "integral",)))[0]


def test_words_are_counted_as_scikit_learn_counts_them() -> None:
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [
        "The cat, the CAT; a Katze",
        "",
        "x",
        "naïve İstanbul ß_ß 12.5 日本語 日本語 🙂",
        "one two one two",
        "a" * 30,
    ]
    theirs = HashingVectorizer(n_features=WIDTH, ngram_range=(1, 2), norm=None, alternate_sign=False).transform(texts)
    theirs.data = 1 + np.log(theirs.data)
    np.testing.assert_array_equal(hashed(texts).toarray(), theirs.toarray())
    assert hashed(["lone \ud800 surrogate"]).nnz == 3


def test_neighbours_are_the_most_similar_of_all_most_similar_first() -> None:
    rng = np.random.default_rng(1)
    memory, asked = (rng.normal(size=(n, 8)).astype(np.float32) for n in (300, 20))
    for k in (1, 7, 299, 300):
        index, cosine = nearest(asked, memory, k)
        by_hand = np.sort(asked @ memory.T, axis=1)[:, ::-1][:, :k]
        np.testing.assert_allclose(cosine, by_hand, rtol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(asked @ memory.T, index, axis=1), by_hand, rtol=1e-6)


def test_knn_picks_more_neighbours_when_labels_are_noise() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    X = Prompts(("q",) * 400, vectors)
    assert KnnRouter().fit(X, rng.integers(0, 2, 400).astype(float)).k_ == 160


def test_counting_by_bytes_equals_counting_by_characters() -> None:
    for text in ("plain text, 12 Words?", "Ａ１² ٣ é Ü\x00\x1c\n", "日本 🙂!", ""):
        row = surface_features([text])[0]
        chars = max(len(text), 1)
        assert row[4] == sum(c.isdigit() for c in text) / chars
        assert row[5] == sum(c.isupper() for c in text) / chars
        assert row[6] == sum(not c.isalnum() and not c.isspace() for c in text) / chars
        assert row[7] == sum(ord(c) > 127 for c in text) / chars
