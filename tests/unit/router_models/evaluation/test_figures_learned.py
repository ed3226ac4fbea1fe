"""What routers learn from for their figures: folds, domains, other outcomes, families that are left out."""

import json
from dataclasses import replace

import numpy as np
import pytest

from router_models.data.json_values import to_json_values
from router_models.errors import DataError
from router_models.evaluation.cross_validation import Protocol, Source, cross_validate_routers
from router_models.evaluation.figures import Evaluation
from router_models.evaluation.held_out import (
    domain_folds_of,
    folds_of,
    held_out_scores,
    routing_targets,
    usable_families,
)
from router_models.evaluation.page import evaluation_page
from tests.unit.router_models.evaluation.drawn_outcomes import NOW, drawn, table, terms


def test_duplicates_never_straddle_a_fold() -> None:
    t = table([0, 1] * 60, [1] * 120, prompts=[f"the same question {i // 4}" for i in range(120)])
    for inside, outside in folds_of(t, 5, 0):
        assert not set(t.groups[inside]) & set(t.groups[outside])


def test_whole_domains_are_held_out() -> None:
    t, _ = drawn()
    domain = np.array(t.column("domain"))
    splits = domain_folds_of(t, "domain", 3, seed=0)
    assert sorted(np.concatenate([outside for _, outside in splits]).tolist()) == list(range(600))
    for inside, outside in splits:
        assert not set(domain[inside]) & set(domain[outside])
        assert not set(t.groups[inside]) & set(t.groups[outside])


def test_a_router_that_learns_what_matters_beats_the_baselines_and_a_label_limit_weakens_it() -> None:
    chance = np.random.default_rng(0)
    hard = chance.random(600) < 0.5
    prompts = [f"{'prove the theorem' if h else 'name the colour'} item {i}" for i, h in enumerate(hard)]
    weak = (chance.random(600) < np.where(hard, 0.2, 0.95)).astype(float)
    t = table(weak.tolist(), [1.0] * 600, prompts=prompts, domain=[f"d{i % 4}" for i in range(600)])
    found, held = cross_validate_routers(t, "weak", "strong", Protocol(("tfidf",)), terms(t), NOW)
    tfidf = found.rows[3]
    assert tfidf.apgr.low > 0.6
    assert tfidf.away is not None
    assert found.domain == "domain"
    assert [one.method for one in held] == ["random", "length", "oracle", "tfidf"]
    text = evaluation_page(found, made="made today")
    assert "APGR, unseen domain" in text
    assert "nan" not in text
    json.dumps(to_json_values(found), allow_nan=False)
    assert found.rows[3].certified is not None
    assert any("fitted to the weak grade" in note for note in found.notes)
    bare, _ = cross_validate_routers(t, "weak", "strong", Protocol(("tfidf",), certify=False), terms(t), NOW)
    assert bare.rows[3].certified is None
    few = held_out_scores(t, "tfidf", weak, folds_of(t, 5, 0), labels=30)
    assert np.isfinite(few).all()
    assert not np.array_equal(few, held[3].scores)


def test_transfer_drops_near_repeats_and_says_how_many() -> None:
    chance = np.random.default_rng(0)
    hard = chance.random(400) < 0.5
    prompts = [f"{'prove the theorem' if h else 'name the colour'} item {i}" for i, h in enumerate(hard)]
    weak = (chance.random(400) < np.where(hard, 0.2, 0.95)).astype(float)
    t = table(weak.tolist(), [1.0] * 400, prompts=prompts)
    target, other = t.take(np.arange(200)), t.take(np.arange(100, 400))
    protocol = Protocol(("tfidf",), train=Source("elsewhere", other, "weak", "strong"))
    found, _ = cross_validate_routers(target, "weak", "strong", protocol, terms(target), NOW)
    assert found.rows[3].split == "trained on elsewhere"
    assert found.rows[3].apgr.value > 0.6
    assert any("trained on 200 prompts of elsewhere (weak → strong); 100 that" in note for note in found.notes)
    assert any(
        note.startswith("routers learn the gain (target auto: fitted on this very pair") for note in found.notes
    )
    same = Protocol(("tfidf",), train=Source("itself", target, "weak", "strong"))
    with pytest.raises(DataError, match="this is the same set"):
        cross_validate_routers(target, "weak", "strong", same, terms(target), NOW)


def test_the_target_is_ease_only_where_other_outcomes_are_of_another_pair() -> None:
    t, _ = drawn(40)
    other = replace(t, grades={"7b": t.grade("weak"), "70b": t.grade("strong")})

    def target(**given: object) -> str:
        return Protocol(("tfidf",), **given).target_for("weak", "strong")  # type: ignore[arg-type]

    assert target() == "gain"
    assert target(train=Source("other questions", t, "weak", "strong")) == "gain"
    assert target(train=Source("another pair", other, "7b", "70b")) == "ease"
    assert target(train=Source("turned round", t, "strong", "weak")) == "ease"
    assert target(train=Source("another pair", other, "7b", "70b"), target="gain") == "gain"


def test_outcomes_of_the_same_pair_teach_the_gain_and_of_another_one_the_ease() -> None:
    """Where easy prompts are those that both answer, what escalating gains is ordered the other way round."""
    chance = np.random.default_rng(0)
    kind = chance.integers(3, size=900)  # trivial: both right; middling: the strong one alone; impossible: neither
    words = np.array(["sum of apples", "integral of sines", "proof of a conjecture"])[kind]
    prompts = [
        f"{word}, {first} {second}"
        for word, (first, second) in zip(words, chance.integers(99, size=(900, 2)), strict=True)
    ]
    t = table((kind == 0).astype(float).tolist(), (kind < 2).astype(float).tolist(), prompts=prompts)
    tested, other = t.take(np.arange(300)), t.take(np.arange(300, 900))
    renamed = replace(other, grades={"7b": other.grade("weak"), "70b": other.grade("strong")})

    def learned(source: Source) -> Evaluation:
        protocol = Protocol(("tfidf",), train=source, certify=False)
        return cross_validate_routers(tested, "weak", "strong", protocol, terms(tested), NOW)[0]

    same, another = learned(Source("same", other, "weak", "strong")), learned(Source("other", renamed, "7b", "70b"))
    assert same.rows[3].apgr.value > another.rows[3].apgr.value + 0.1
    assert any("fitted on another pair" in note for note in another.notes)


def test_families_that_cannot_be_fed_are_left_out_with_the_reason() -> None:
    t, _ = drawn()
    usable, left = usable_families(["all"], t)
    assert "tfidf" in usable
    assert "length" not in usable
    assert left["knn"] == "needs embeddings"
    with pytest.raises(DataError, match="unknown router families nonsense"):
        usable_families(["nonsense"], t)


def test_families_that_ask_a_tier_first_are_used_where_its_signals_are_recorded() -> None:
    t, ease = drawn(60)
    asks = ["p-yes", "asked-first"]
    states = np.ones((60, 2), dtype=np.float32)
    unsaid = replace(t, prompts=replace(t.prompts, embeddings=states, signals={"p_yes": np.full(60, np.nan)}))
    assert usable_families(asks, replace(t, prompts=replace(t.prompts, embeddings=states))) == (
        [],
        {"p-yes": "needs p_yes", "asked-first": "needs one of the signals p_yes, first_token_entropy"},
    )
    assert usable_families(asks, unsaid)[0] == []
    said = replace(unsaid, prompts=replace(unsaid.prompts, signals={"p_yes": ease}))
    assert usable_families(asks, said) == (asks, {})


def test_a_family_that_no_version_can_serve_is_measured_and_gets_no_certified_point() -> None:
    t, ease = drawn(300)
    states = (np.eye(300, 8) + ease[:, None]).astype(np.float32)
    asked = replace(t, prompts=replace(t.prompts, states=states, embeddings=states))
    protocol = Protocol(("probe",), domain="")
    found, _ = cross_validate_routers(asked, "weak", "strong", protocol, terms(asked), NOW)
    (row,) = (row for row in found.rows if row.method == "probe")
    assert row.apgr.value > 0.5
    assert row.certified is None
    assert any("no version can serve it: the signal hidden_states would need" in note for note in found.notes)


def test_a_router_may_learn_the_gain_instead_of_the_weak_grade() -> None:
    t = table([0, 1, 0, 1], [1, 1, 0, 0])
    assert routing_targets(t, "weak", "strong", "weak").tolist() == [0, 1, 0, 1]
    assert routing_targets(t, "weak", "strong", "gain").tolist() == [0, 0.5, 0.5, 1]
    assert routing_targets(t, "weak", "strong", "ease").tolist() == [0.5, 1, 0, 0.5]
    with pytest.raises(DataError, match="unknown target"):
        routing_targets(t, "weak", "strong", "strong")
