"""Evaluations: figures, baselines, certified points, held-out domains and transfer, on data with known answers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable, read_outcomes, table_of
from router_models.errors import DataError
from router_models.evaluation.certified_point import PromiseTerms, certification_rows, certified_point
from router_models.evaluation.cross_validation import Protocol, Source, costs_of, cross_validate_routers
from router_models.evaluation.figures import Evaluation, baselines, evaluate
from router_models.evaluation.held_out import (
    HeldOutScores,
    domain_folds_of,
    folds_of,
    held_out_scores,
    routing_targets,
    usable_families,
)
from router_models.evaluation.intervals import aiq_interval
from router_models.evaluation.page import evaluation_page
from router_models.evaluation.plots import draw_cost, draw_evaluation_deferral
from router_models.metrics import aiq, cost_quality
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from router_models.types import FloatArray

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MMLU = Path(__file__).parents[4] / "../shared/data/routellm_mmlu.parquet"


def table(
    weak: Sequence[float], strong: Sequence[float], prompts: Sequence[str] | None = None, **meta: list[str]
) -> OutcomeTable:
    n = len(weak)
    texts = prompts or [f"question number {i} about subject {i % 7}" for i in range(n)]
    return table_of(
        parse_columns(pd.DataFrame({"prompt": texts, "weak": weak, "strong": strong, **meta}), ("weak", "strong"))
    )


def drawn(n: int = 600, seed: int = 0) -> tuple[OutcomeTable, FloatArray]:
    """Outcomes with a hidden difficulty, and an honest score of it."""
    chance = np.random.default_rng(seed)
    ease = chance.random(n)
    weak = (chance.random(n) < ease).astype(float)
    strong = (chance.random(n) < 0.5 + 0.5 * ease).astype(float)
    domain = [f"subject {i % 5}" for i in range(n)]
    return table(weak.tolist(), strong.tolist(), domain=domain), ease


def terms(t: OutcomeTable, **given: float) -> PromiseTerms:
    n = len(t)
    return PromiseTerms(np.zeros(n), np.ones(n), False, given.get("epsilon", 0.1), given.get("delta", 0.1))


def test_baselines_stand_beside_every_router_and_bound_it() -> None:
    t, ease = drawn()
    found = evaluate(t, "weak", "strong", [HeldOutScores("mine", "known", ease)], terms(t), NOW)
    random, length, oracle, mine = found.rows
    assert [r.method for r in found.rows] == ["random", "length", "oracle", "mine"]
    assert random.apgr.value == pytest.approx(0.5)
    assert random.apgr.low == pytest.approx(random.apgr.high)
    assert random.cpt_80.value == pytest.approx(0.8)
    assert 0.5 < mine.apgr.value < oracle.apgr.value
    assert mine.apgr.low < mine.apgr.value < mine.apgr.high
    assert mine.over_length.low > 0
    assert length.over_length.value == length.over_length.low == length.over_length.high == 0.0


def test_the_oracle_may_recover_more_than_the_whole_gap() -> None:
    t, _ = drawn()
    oracle = evaluate(t, "weak", "strong", [], terms(t), NOW).rows[2]
    assert oracle.apgr.value > 1
    assert oracle.pgr_half.value > 1


def test_tied_scores_are_averaged_not_broken_by_order() -> None:
    t = table([0, 0, 0, 1, 1, 1] * 20, [1] * 120)
    found = evaluate(t, "weak", "strong", [HeldOutScores("tied", "x", np.full(120, 0.3))], terms(t), NOW)
    assert found.rows[3].apgr.value == pytest.approx(0.5)
    assert found.rows[3].certified is not None
    assert found.rows[3].certified.threshold is None


def test_two_models_of_equal_quality_leave_no_gap_to_recover() -> None:
    t = table([1, 0] * 50, [0, 1] * 50)
    with pytest.raises(DataError, match="no gap to recover"):
        evaluate(t, "weak", "strong", [], terms(t), NOW)


def test_a_weak_model_that_is_better_is_named() -> None:
    t = table([1] * 100, [0, 1] * 50)
    with pytest.raises(DataError, match="is not better than the weak one"):
        evaluate(t, "weak", "strong", [], terms(t), NOW)


def test_both_cpt_are_shown_where_quality_is_not_monotone() -> None:
    # Half of the gap is recovered with a fifth of the calls, lost again to prompts that only weak answers, and rewon.
    gain = np.repeat([1.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0], 20)
    t = table((gain < 0).astype(float).tolist(), (gain > 0).astype(float).tolist())
    scores = np.linspace(0, 1, 200)
    found = evaluate(t, "weak", "strong", [HeldOutScores("crooked", "x", scores)], terms(t), NOW)
    first, interpolated = found.rows[3].deciles_cpt[0.5]
    assert first == pytest.approx(0.2, abs=0.02)
    assert interpolated > 0.6
    assert "crooked CPT(50)" in evaluation_page(found)
    assert "Not monotone" in evaluation_page(found)


def test_a_score_that_is_missing_is_refused() -> None:
    t, ease = drawn()
    with pytest.raises(DataError, match="1 of 600 prompts have no score"):
        evaluate(
            t, "weak", "strong", [HeldOutScores("mine", "x", np.where(ease == ease[3], np.nan, ease))], terms(t), NOW
        )


def test_a_certified_point_costs_less_and_keeps_its_budget_on_the_certification_rows() -> None:
    t, ease = drawn(4000)
    rows = certification_rows(t, 0)
    point = certified_point(ease, t.grade("weak"), t.grade("strong"), terms(t, epsilon=0.2), rows, NOW, 0)
    assert point.threshold is not None
    assert 0.1 < point.strong_share < 0.9
    assert point.cost == pytest.approx(point.strong_share)
    assert point.cost < point.cost_of_strong


def test_prompts_that_would_not_be_covered_are_no_evidence_and_go_to_strong() -> None:
    """Ten prompts had a temperature of their own: what their answers are worth changes nothing."""
    points = []
    for right in (0.0, 1.0):
        t, _ = drawn(800)
        odd = np.arange(len(t)) < 10
        hot = ['{"temperature":1.9}' if one else "" for one in odd]
        weak, strong = (np.where(odd, right, t.grade(tier)).tolist() for tier in ("weak", "strong"))
        made = table(weak, strong, decoding=hot)
        scores = HeldOutScores("mine", "k-fold", np.where(odd, 0.999, drawn(800)[1]))
        points.append(evaluate(made, "weak", "strong", [scores], terms(made, epsilon=0.3), NOW).rows[3].certified)
    wrong, correct = points
    assert wrong is not None and correct is not None  # noqa: PT018 (both, for mypy)
    assert wrong.threshold is not None
    assert (wrong.threshold, wrong.why, wrong.strong_share) == (correct.threshold, correct.why, correct.strong_share)


def test_where_nothing_can_be_certified_the_reason_is_given() -> None:
    t, _ = drawn()
    point = certified_point(
        np.random.default_rng(1).random(600), t.grade("weak"), t.grade("strong"), terms(t, epsilon=0.01),
        certification_rows(t, 0), NOW, 0,
    )  # fmt: skip
    assert point.threshold is None
    assert point.strong_share == 1.0
    assert "infeasible" in point.why


def test_scores_of_one_to_ten_are_certified_only_with_an_acceptable_grade() -> None:
    chance = np.random.default_rng(0)
    t = table(chance.random(400).tolist(), np.clip(chance.random(400) + 0.3, 0, 1).tolist())
    point = evaluate(t, "weak", "strong", [], terms(t), NOW).rows[1].certified
    assert point is not None
    assert "from which grade on an answer is acceptable" in point.why
    told = PromiseTerms(np.zeros(400), np.ones(400), False, 0.1, 0.1, acceptable=0.5)
    point = evaluate(t, "weak", "strong", [], told, NOW).rows[1].certified
    assert point is not None
    assert "acceptable" not in point.why


def test_aiq_is_the_metrics_own_and_lies_in_its_interval() -> None:
    t, ease = drawn()
    w, s = t.grade("weak"), t.grade("strong")
    costs = (np.full(600, 0.1), np.linspace(0.5, 1.5, 600))
    seen = aiq_interval(ease, w, s, costs, seed=0)
    cost, quality = cost_quality(ease, w, s, *costs)
    assert seen.value == pytest.approx(aiq(cost, quality, max(float(cost.max()), 1.0)))
    assert seen.low < seen.value < seen.high


def test_dollars_are_used_where_prices_are_given() -> None:
    t, _ = drawn()
    prices = tuple(TierCosts(Price(p, p), input_tokens=1000, output_tokens=0) for p in map(Decimal, ("1", "10")))
    seen = costs_of(t, "weak", "strong", (prices[0], prices[1]), epsilon=0.1, delta=0.1)
    assert seen.usd
    assert seen.weak_cost == pytest.approx([0.001] * 600)
    assert not costs_of(t, "weak", "strong", None, epsilon=0.1, delta=0.1).usd


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


def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    t, ease = drawn()
    held = [*baselines(t, "weak", "strong"), HeldOutScores("mine", "x", ease)]
    draw_evaluation_deferral(tmp_path / "a.png", held, t.grade("weak"), t.grade("strong"), "title")
    draw_cost(tmp_path / "b.png", held, t.grade("weak"), t.grade("strong"), terms(t), "title")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("a.png", "b.png"))


@pytest.mark.full  # the figures alone: `test_metrics.py::test_published_mmlu_outcomes_give_the_known_figures`
@pytest.mark.skipif(not MMLU.is_file(), reason="../shared/data is not here")
def test_prompt_length_and_the_oracle_are_what_was_measured_on_mmlu() -> None:
    t = read_outcomes(MMLU).only("mixtral-8x7b", "gpt-4-1106")
    found = evaluate(t, "mixtral-8x7b", "gpt-4-1106", [], terms(t), NOW)
    assert found.rows[1].apgr.value == pytest.approx(0.579, abs=0.01)
    assert found.rows[1].deciles_apgr == pytest.approx(0.579, abs=0.01)
    assert found.rows[2].apgr.value == pytest.approx(1.183, abs=0.005)  # 1.268 on all 57 subjects, 38 are here
