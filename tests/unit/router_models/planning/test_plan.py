"""Plans: the arithmetic against its definition, every answer a plan can give, and the promise by simulation."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.estimators.signals import TierKind
from router_models.planning.labels import LabelsRow, label_kinds, labels_table
from router_models.planning.page import Context, plan_page
from router_models.planning.patterns import Extra, Pattern, RiskBudget, patterns_of, play_out
from router_models.planning.plan import Demand, Plan, plan
from router_models.planning.traffic_mix import TrafficSlice, workload_of_mix
from router_models.planning.workload import Workload, workload_of
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from router_models.types.exchange import LOGPROB_NAMES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXTRA = Extra(1e-7, 1e-7, 0.005, 0.002)
BUSY = Demand(100_000)


def terms(sent: str, made: str, **given: Any) -> TierCosts:
    return TierCosts(Price(Decimal(sent), Decimal(made)), **given)


TERMS = {"cheap": terms("0.1", "0.4"), "frontier": terms("2", "8")}
FREE = terms("0", "0")


def outcomes(
    n: int = 1500, seed: int = 0, cheap_right: float = 0.7, sure: float = 3.0, as_signal: str = ""
) -> OutcomeTable:
    """Recorded outcomes: two kinds of prompts, tokens, latencies, and a confidence that separates right from wrong.

    The confidence is that of the answer's only token, or a signal of another name.
    """
    chance = np.random.default_rng(seed)
    hard = chance.random(n) < 0.4
    right = chance.random(n) < np.where(hard, cheap_right - 0.3, cheap_right + 0.2)
    top = chance.random(n) < np.where(hard, 0.85, 0.97)
    confidence = 1 / (1 + np.exp(-(chance.normal(size=n) + sure * right)))
    frame = {
        "prompt": [f"{'derive the lemma' if h else 'name the colour'} number {i}" for i, h in enumerate(hard)],
        "kind": ["hard" if h else "easy" for h in hard],
        "cheap": right.astype(float),
        "frontier": top.astype(float),
    }
    frame |= {f"cheap|{name}": np.log(confidence) for name in LOGPROB_NAMES if not as_signal}
    frame |= {f"cheap|{as_signal}": confidence} if as_signal else {"cheap|log_tokens": np.full(n, np.log(2.0))}
    for tier in ("cheap", "frontier"):
        frame |= {
            f"{tier}_prompt_tokens": chance.integers(100, 400, n).astype(float),
            f"{tier}_completion_tokens": chance.integers(20, 200, n).astype(float),
            f"{tier}_latency_s": chance.gamma(2.0, 0.2 if tier == "cheap" else 0.8, n),
        }
    return table_of(parse_columns(pd.DataFrame(frame), ("cheap", "frontier")))


@pytest.fixture(scope="module")
def recorded() -> Workload:
    return workload_of(outcomes(), "cheap", "frontier", TERMS, routers=("surface",), verifiers=("combined",))


@pytest.fixture(scope="module")
def worked(recorded: Workload) -> Plan:
    return plan(recorded, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)


def mix(
    weak: float = 0.8,
    strong: float = 0.95,
    verifier_auc: float = 0.8,
    n: int = 4000,
    prices: dict[str, TierCosts] = TERMS,
) -> Workload:
    slices = [TrafficSlice("all", 1.0, weak, strong, 300, 100)]
    return workload_of_mix(slices, "cheap", "frontier", prices, router_auc=0.6, verifier_auc=verifier_auc, prompts=n)


def text_of(found: Plan, **given: Any) -> str:
    context = Context("Plan", "`x`", "2026-01-01", "serve-graph plan", "a machine", given.get("terms", TERMS))
    return plan_page(found, context)


def test_a_cascade_that_pays_is_recommended_with_its_promise(worked: Plan) -> None:
    assert worked.answer.headline == "Route: cascade."
    option = worked.option("cascade")
    assert option.operated.certified
    assert option.figures.saving.low > 0.2
    assert option.figures.kept_risk is not None
    assert option.figures.kept_risk <= 0.1
    assert option.even.pays
    assert worked.beside[3].right.value < option.figures.right.value  # prompt length, at the same share


def test_figures_stand_beside_random_length_cheap_frontier_and_oracle(worked: Plan) -> None:
    names = [figures.name for figures in worked.beside]
    assert names == ["always cheap", "always frontier", "random", "prompt length", "oracle"]
    kept = worked.option(worked.shown).figures.kept
    assert worked.beside[3].kept == pytest.approx(kept, abs=0.002)
    assert worked.beside[1].saving.value == pytest.approx(0.0)
    assert worked.beside[4].right.value >= worked.beside[1].right.value


def test_the_break_even_price_is_where_the_saving_ends(recorded: Workload, worked: Plan) -> None:
    """The line says it to a tenth of a percent: there is no saving just below it, and one just above."""
    line = next(w.change for w in worked.what_ifs if w.change.startswith("break-even: frontier"))
    factor = float(line.split("falls to ")[1].split("%")[0]) / 100
    seen, option = recorded.seen, worked.option(worked.shown)
    savings = []
    for price in (factor - 0.0006, factor + 0.0006):
        cheaper = replace(recorded, seen=replace(seen, cost_usd=seen.cost_usd * [1.0, price]))
        replayed = play_out(cheaper, option.operated, ~recorded.choosing, EXTRA)
        savings.append(1 - replayed.usd.mean() / cheaper.seen.cost_usd[:, -1][~recorded.choosing].mean())
    assert savings[0] < 0 < savings[1]


def test_little_traffic_is_not_worth_routing(recorded: Workload) -> None:
    found = plan(recorded, RiskBudget(0.1, 0.1), Demand(3000), EXTRA, NOW)
    assert found.answer.headline == "Do not route yet: serve frontier alone."
    assert "3,000 requests a day is under the 10,000" in found.answer.reasons[0]


def test_labels_that_are_never_earned_back_are_not_bought(recorded: Workload) -> None:
    found = plan(recorded, RiskBudget(0.1, 0.1), replace(BUSY, usd_per_label=500.0), EXTRA, NOW)
    assert found.answer.headline == "Do not route yet: serve frontier alone."
    assert "not earned back" in found.answer.reasons[0]
    cheap = plan(recorded, RiskBudget(0.1, 0.1), replace(BUSY, usd_per_label=0.05), EXTRA, NOW)
    assert cheap.answer.pattern == "cascade"
    assert "a label" in text_of(cheap)


def test_uniformly_hard_traffic_is_not_routed() -> None:
    hard = workload_of(
        outcomes(cheap_right=0.32, sure=0.0),
        "cheap",
        "frontier",
        {**TERMS, "cheap": terms("1", "4")},
        routers=("surface",),
    )
    found = plan(hard, RiskBudget(0.05, 0.1), BUSY, EXTRA, NOW)
    assert found.answer.serve == "frontier"
    assert found.answer.reasons[0].startswith("uniformly hard traffic")


def test_nothing_certified_means_do_not_route_and_says_how_many_labels_are_missing() -> None:
    few = workload_of(outcomes(150), "cheap", "frontier", TERMS, routers=("surface",), verifiers=("combined",))
    found = plan(few, RiskBudget(0.02, 0.05), BUSY, EXTRA, NOW)
    assert found.answer.serve == "frontier"
    assert any("nothing can be promised" in reason for reason in found.answer.reasons)
    assert any("label" in reason for reason in found.answer.reasons)


def test_a_frontier_that_is_dearer_and_worse_is_not_served() -> None:
    found = plan(mix(weak=0.95, strong=0.8), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert (found.answer.serve, found.answer.pattern) == ("cheap", None)
    assert "dearer and worse" in found.answer.reasons[0]


def test_without_a_measurable_gap_the_cheap_tier_serves_alone() -> None:
    found = plan(mix(weak=0.9, strong=0.9, n=600), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert found.answer.serve == "cheap"
    assert "no measurable gap" in found.answer.reasons[0]


def test_a_cheap_tier_within_budget_on_everything_needs_no_router() -> None:
    found = plan(mix(weak=0.97, strong=0.995), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert found.answer.serve == "cheap"
    assert "on all traffic" in found.answer.reasons[0]


def test_a_cascade_that_escalates_too_much_does_not_pay() -> None:
    dear = {"cheap": terms("1.5", "6"), "frontier": terms("2", "8")}
    found = plan(mix(weak=0.6, verifier_auc=0.65, prices=dear), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    even = found.option("cascade").even
    assert not even.pays
    assert even.p_star == pytest.approx(0.25, abs=0.01)


def test_a_traffic_mix_is_planned_on_stated_assumptions() -> None:
    found = plan(mix(), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert found.answer.headline.endswith("if the assumed figures hold.")
    text = text_of(found)
    assert "Nothing is measured" in text
    assert not any(option.operated.certified for option in found.options)


def test_a_better_verifier_keeps_more_traffic() -> None:
    kept = [
        plan(mix(verifier_auc=auc), RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW).option("cascade").figures.kept
        for auc in (0.6, 0.75, 0.9)
    ]
    assert kept == sorted(kept)


def test_a_drop_in_quality_beyond_the_allowed_is_never_recommended() -> None:
    work = mix(weak=0.75, strong=0.97)
    for labelled in (False, True):
        for drop in (0.005, 0.05):
            found = plan(replace(work, labelled=labelled), RiskBudget(0.2, 0.1, max_drop=drop), BUSY, EXTRA, NOW)
            for option in found.options:
                if option.name == found.answer.pattern:
                    assert option.figures.drop.value <= drop
                if option.keeps_drop and labelled:  # proved, not only measured
                    assert option.figures.drop.high < drop
    loose = plan(work, RiskBudget(0.2, 0.1), BUSY, EXTRA, NOW).option("cascade").figures
    strict = plan(work, RiskBudget(0.2, 0.1, max_drop=0.02), BUSY, EXTRA, NOW).option("cascade").figures
    assert strict.kept < loose.kept


def test_a_signal_that_no_served_version_has_is_shown_and_counts_for_nothing() -> None:
    name = "max_token_confidence"
    work = workload_of(outcomes(400, as_signal=name), "cheap", "frontier", TERMS, routers=("surface",))
    assert work.verifier is None
    assert work.not_served[name].startswith(f"the signal {name} would need ")
    found = plan(work, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert [option.name for option in found.options] == ["pre-route"]
    line = next(row for row in text_of(found).splitlines() if row.startswith(f"| {name} "))
    assert "no: would need" in line


def test_logprobs_count_only_of_a_kind_of_tier_that_returns_them() -> None:
    hosted = workload_of(
        outcomes(400), "cheap", "frontier", TERMS, routers=("surface",), verifiers=("logprob",), kind=TierKind.HOSTED
    )
    assert hosted.verifier is None
    assert set(hosted.not_served) == set(LOGPROB_NAMES)


def test_an_ensemble_of_a_recorded_agreement_is_never_recommended(recorded: Workload) -> None:
    """The served graph asks for one answer: the pattern is shown with what it would need, and shares no δ."""
    sentence = "the signal agreement would need several answers"
    perfect = replace(recorded, agreement=recorded.seen.grades[:, 0], not_served={"agreement": sentence})
    found = plan(perfect, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW, samples=2)
    ensemble = found.option("ensemble sample")
    assert not ensemble.eligible
    assert found.answer.pattern != "ensemble sample"
    assert f"Never recommended: {sentence}" in text_of(found)
    without = plan(recorded, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    mine, alone = (one.option("cascade").operated for one in (found, without))
    assert (mine.route_at, mine.accept_at, mine.why) == (alone.route_at, alone.accept_at, alone.why)


def test_an_ensemble_is_weighed_where_agreement_was_recorded_and_pays_for_every_sample(recorded: Workload) -> None:
    with_agreement = replace(recorded, agreement=recorded.seen.p_ok[:, 0])
    names = [p.name for p in patterns_of(with_agreement, RiskBudget(0.1, 0.1), samples=None)]
    assert "ensemble sample" not in names
    found = plan(with_agreement, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW, samples=5)
    assert found.option("ensemble sample").even.p_star < found.option("cascade").even.p_star


def test_where_answers_were_not_recorded_the_worth_of_a_verifier_is_shown() -> None:
    t = outcomes()
    bare = replace(t, confidences={}, answers={})
    work = workload_of(bare, "cheap", "frontier", TERMS, routers=("surface",))
    assert work.verifier is None
    found = plan(work, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)
    assert [o.name for o in found.options] == ["pre-route"]
    savings = [saving for _, _, saving in found.imagined]
    assert savings == sorted(savings)
    assert "verifier with AUC" in text_of(found)


def test_labels_needed_grow_as_the_promise_gets_stricter(recorded: Workload) -> None:
    rows = labels_table(
        recorded, Pattern("cascade", "", after=recorded.seen.p_ok[:, 0]), (0.05, 0.1, 0.2, 0.3), RiskBudget(0.1, 0.1)
    )
    known = [row.fewest for row in rows if row.fewest is not None]
    assert known == sorted(known, reverse=True)
    assert [row.reachable for row in rows] == sorted(row.reachable for row in rows)


def test_a_plan_says_how_many_labels_of_each_kind_its_promise_needs(worked: Plan) -> None:
    here, kinds = worked.labels_here, worked.label_kinds
    assert here is not None
    assert here.useful is not None
    assert kinds is not None
    assert kinds.fixed == here.useful
    assert kinds.tuning == pytest.approx(1.5 * here.useful, abs=1), "60 % train and tune, 40 % certify"
    assert kinds.streamed is not None
    assert kinds.streamed_most is not None
    assert kinds.streamed < kinds.fixed_kept < kinds.fixed
    assert kinds.streamed <= kinds.streamed_most
    assert f"{kinds.streamed:,} labels in half of the cases, {kinds.streamed_most:,} in nine of ten" in text_of(worked)
    hopeless = LabelsRow(0.1, 0.0, None, 0.0, None, 0.0)
    assert label_kinds(hopeless, 0.1) is None


def test_the_page_is_whole_and_free_of_blanks(worked: Plan) -> None:
    text = text_of(worked)
    for heading in ("Answer", "assumes", "pay?", "side by side", "signals", "labels", "change the answer", "Next"):
        assert heading in text
    assert not [word for word in ("nan", "None", "inf ", "inf)") if word in text.replace("infeasible", "")]
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1
    assert text == text_of(worked)


def test_a_plan_is_json(worked: Plan) -> None:
    data = json.loads(json.dumps(to_json_values(worked), allow_nan=False))
    assert data["answer"]["pattern"] == "cascade"
    assert data["workload"]["content_hash"] == worked.workload.content_hash
    assert "seen" not in data["workload"]


def test_equal_input_gives_an_equal_plan(recorded: Workload, worked: Plan) -> None:
    assert to_json_values(plan(recorded, RiskBudget(0.1, 0.1), BUSY, EXTRA, NOW)) == to_json_values(worked)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: workload_of(outcomes(40), "cheap", "frontier", TERMS), "at least 60"),
        (lambda: workload_of(outcomes(), "cheap", "frontier", TERMS | {"frontier": FREE}), "costs nothing"),
        (lambda: workload_of(outcomes(), "frontier", "cheap", TERMS | {"cheap": FREE}), "costs nothing"),
        (lambda: workload_of(outcomes(), "cheap", "frontier", TERMS | {"cheap": terms("9", "9")}), "dearer and no b"),
        (lambda: workload_of(outcomes(), "frontier", "cheap", TERMS), "the other way round"),
        (lambda: Price(Decimal("NaN"), Decimal(1)), "finite amount"),
        (lambda: Demand(float("nan")), "finite number"),
        (lambda: workload_of(outcomes(cheap_right=5.0), "cheap", "frontier", TERMS), "every answer of"),
        (lambda: mix(weak=1.2), "must lie in"),
        (lambda: mix(verifier_auc=0.4), "verifier_auc must lie"),
        (lambda: plan(mix(n=500), RiskBudget(0.0, 0.1), BUSY, EXTRA, NOW), "epsilon must lie"),
        (lambda: plan(mix(n=500), RiskBudget(0.1, 0.1, 1.5), BUSY, EXTRA, NOW), "max_drop must lie"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_with_is_refused_with_a_reason(wrong: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        wrong()


def test_grades_that_are_scores_need_a_bar() -> None:
    t = outcomes()
    t = replace(t, grades={**t.grades, "cheap": t.grades["cheap"] * 0.7 + 0.1})
    with pytest.raises(DataError, match="which grade on an answer counts"):
        workload_of(t, "cheap", "frontier", TERMS, routers=("surface",))
    work = workload_of(t, "cheap", "frontier", TERMS, routers=("surface",), acceptable=0.5)
    assert set(np.unique(work.seen.grades[:, 0])) == {0.0, 1.0}
