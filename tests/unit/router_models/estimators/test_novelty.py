"""The distance to the training data, and unfamiliar spelling: typical prompts, strange ones, a stored version's."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.artifacts import State
from router_models.data.features import surface_features
from router_models.errors import ArtifactError, DataError
from router_models.estimators import spelling
from router_models.estimators.novelty import LEAST, NoveltyDetector
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts, Query
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

TEXTS = tuple(
    f"What colour is the {'big ' * (i % 7)}animal number {i**3 * 7 % 1999}{'?' * (i % 5)}" + "!" * (i % 11)
    for i in range(200)
)
STRANGE = "```python\ndef f(x):\n    return [y ** 2 for y in x]\n```\n" * 20


def clustered(n: int, seed: int) -> Prompts:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.2, (n, 16)) + np.eye(16)[0]
    return Prompts(("x",) * n, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("embedded", [False, True])
def test_half_of_the_training_prompts_are_typical_and_a_twentieth_lies_beyond_one(embedded: bool) -> None:
    inside = clustered(400, 0) if embedded else Prompts(TEXTS)
    fresh = clustered(400, 1) if embedded else Prompts(TEXTS)
    distance = NoveltyDetector().fit(inside, embedded=embedded).distance(fresh)
    assert (distance >= 0).all()
    assert 0.3 < (distance < 0.2).mean() < 0.95
    assert (distance > 1).mean() < 0.12


def test_prompts_unlike_the_training_prompts_are_out_of_domain() -> None:
    novelty = NoveltyDetector().fit(Prompts(TEXTS), embedded=False)
    assert novelty.distance(Prompts((STRANGE,)))[0] > 3
    out_of_domain = clustered(5, 2)
    flipped = replace(out_of_domain, embeddings=-out_of_domain.embeddings)  # type: ignore[operator]
    assert (NoveltyDetector().fit(clustered(300, 0), embedded=True).distance(flipped) > 3).all()


def test_stored_and_loaded_it_measures_equally() -> None:
    novelty = NoveltyDetector().fit(clustered(2500, 0), embedded=True)
    assert all(len(space.memory) == 2000 for space in novelty.spaces_.values())
    again = NoveltyDetector.from_state(novelty.state())
    assert (again.distance(clustered(50, 1)) == novelty.distance(clustered(50, 1))).all()


@pytest.mark.parametrize("embedded", [False, True])
def test_what_an_earlier_release_stored_in_one_space_measures_as_it_did(embedded: bool) -> None:
    inside, fresh = (clustered(300, 0), clustered(50, 1)) if embedded else (Prompts(TEXTS), Prompts((STRANGE,)))
    now = NoveltyDetector().fit(inside, embedded=embedded)
    space = now.spaces_["embedding" if embedded else "surface"]
    arrays = {"memory": space.memory.astype(np.float16), "centre": space.centre, "spread": space.spread}
    stored = State(arrays, {"embedded": embedded, "median": space.median, "edge": space.edge})
    columns = fresh.embeddings.astype(np.float64) if embedded else surface_features(fresh.texts)  # type: ignore[union-attr]
    np.testing.assert_array_equal(NoveltyDetector.from_state(stored).distance(fresh), space.distance(columns))


def test_too_few_prompts_missing_embeddings_and_damage_are_refused() -> None:
    with pytest.raises(DataError, match=f"at least {LEAST}"):
        NoveltyDetector().fit(Prompts(TEXTS[:5]), embedded=False)
    with pytest.raises(DataError, match="needs prompt embeddings"):
        NoveltyDetector().fit(Prompts(TEXTS), embedded=True)
    state = NoveltyDetector().fit(Prompts(TEXTS), embedded=False).state()
    with pytest.raises(ArtifactError, match="memory"):
        NoveltyDetector.from_state(replace(state, arrays={}))


def test_a_version_says_when_a_prompt_is_out_of_domain_even_after_loading(tmp_path: Path) -> None:
    version = RouterVersion(
        Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
        novelty=NoveltyDetector().fit(Prompts(TEXTS), embedded=False),
    )
    version.save(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    near, far = (loaded.decide(Query.from_prompt(text)) for text in (TEXTS[150], STRANGE))
    assert near.distance is not None
    assert near.distance < 1
    assert "unlike" not in near.reason
    assert far.tier == near.tier, "the distance informs; it decides nothing"
    assert far.distance is not None
    assert far.distance > 1
    assert f"unlike the training prompts (distance {far.distance:.2f})" in far.reason
    assert math.isclose(far.distance, version.decide(Query.from_prompt(STRANGE)).distance or 0)


SPELT = Spelling().fit(["the river flows through this town", "name the capital, please", "ß and \ud83d"])
PIECES = ["the river", "the", "r", " ", "\n", "\ud83d", "\ude00", "ß", "İ", "日", "xqzj", "ab"]


@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), max_size=8), st.sampled_from([1, 5, 50_000])
)
def test_texts_together_are_as_unfamiliar_as_each_alone(texts: list[str], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr(spelling, "LETTERS_AT_ONCE", at_once)
        together = SPELT.unfamiliar(texts)
    assert together.shape == (len(texts),)
    assert together.tolist() == [float(SPELT.unfamiliar([text])[0]) for text in texts]


def test_a_training_prompt_is_familiar_in_any_case_and_another_language_is_not() -> None:
    shares = SPELT.unfamiliar(["THE  river\nFLOWS", "wo fließt dieser Bach", "abc", ""])
    assert [shares[0], shares[2], shares[3]] == [0, 0, 0]
    assert shares[1] > 0.8
