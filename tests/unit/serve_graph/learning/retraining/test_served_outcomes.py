"""What served traffic is worth as outcomes: rows, whose grades they have, what chance drew, what weights stand for."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.starter import Task
from router_models.types import Call, DecisionRecord, Usage
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.learning.retraining.selection import Selection, is_drawn, selection_of
from serve_graph.learning.retraining.served_answers import ServedDecision
from serve_graph.learning.retraining.served_outcomes import served_outcomes
from serve_graph.learning.retraining.served_prompts import ServedPrompt, served_prompts
from serve_graph.records.comparisons import Comparison
from serve_graph.records.feedback import Feedback

TIERS = ("cheap", "frontier")
JUDGE = "judge:critic/m"


def beside(tier: str, text: str = "said") -> dict[str, Any]:
    return {"tier": tier, "answer": text, "finish_reason": "stop", "usage": [9, 4, 1], "signals": {"lp_mean": -0.5}}


def label(name: str, value: float, source: str = "human", **fields: Any) -> Feedback:
    return Feedback(name, "label", source, "2026-03-01", value, **fields)


def pair(name: str, cheap: bool, last: bool, rate: float | None = None, source: str = JUDGE) -> Feedback:
    """A label of an accepted answer that was compared with the last tier's."""
    detail = {"verdict": "right", "beside": [beside("frontier")]}
    return label(name, float(cheap), source, last_tier_right=last, probability=rate, detail=detail)


def decision(
    name: str,
    *labels: Feedback,
    route: str = "accepted",
    prompt: str | None = None,
    comparisons: Iterable[Comparison] = (),
    programmed: dict[str, float] | None = None,
    **fields: Any,
) -> ServedDecision:
    """A decision that was answered in a way, with what was said of it."""
    tier = "cheap" if route == "accepted" else fields.pop("tier", "frontier")
    evidence: dict[str, Any] = {"answer": "shown", "signals": {"finish_reason": "length", "lp_mean": -0.1}}
    if route == "escalated":
        evidence["beside"] = [beside("cheap")]
    calls = [Call("cheap", Usage(7, 3, 2), 0.5, Decimal(0))] if route in ("accepted", "escalated") else []
    if tier == "frontier":
        calls.append(Call("frontier", Usage(8, 5), 0.25, Decimal(0)))
    text = prompt or f"question {name}"
    values: dict[str, Any] = {
        "created_at": f"2026-01-01T00:00:{len(name):02}", "requested_model": "auto", "version": "router/1",
        "status": 200, "stream": False, "prompt_sha256": "ab", "prompt_chars": 5, "route_reason": "",
        "p_cheap_ok": None, "distance": None, "verdict_reason": None, "p_answer_ok": None,
        "cost_usd": Decimal(0), "latency_s": 1.0,
    }  # fmt: skip
    record = DecisionRecord(
        name, tier=tier, outcome=route, calls=tuple(calls), evidence=evidence, prompt=text, **values | fields
    )
    task = Task(name, text, "sums", 0, "en", "", {}, "", None)
    return ServedDecision(record, task, "frontier", labels, tuple(comparisons), programmed or {})


def compared(name: str, cheap: float, last: float, grader: str = JUDGE) -> Comparison:
    return Comparison(
        "rol-1", name, "2026-01-01", "stable", 0.05, "u", 0.5, False, False, "cheap", "frontier", "accepted", "routed",
        Decimal(0), Decimal(0), cheap, last, grader=grader, detail={"beside": [beside("frontier")]},
    )  # fmt: skip


def only(*asked: ServedDecision, share: float = 1.0, source: str | None = None) -> ServedPrompt:
    [found] = served_prompts(asked, TIERS, share, source)
    return found


def test_the_answers_of_every_tier_are_found_wherever_they_were_kept() -> None:
    for one in (
        decision("a", pair("a", True, True)),
        decision("b", route="escalated"),
        decision("c", comparisons=[compared("c", 0.0, 1.0)]),
    ):
        assert set(one.answers()) == set(TIERS)
    accepted = decision("a").answers()["cheap"]
    assert (accepted.text, accepted.finish_reason, accepted.usage, accepted.latency_s) == (
        "shown", "length", Usage(7, 3, 2), 0.5,
    )  # fmt: skip
    rejected = decision("b", route="escalated").answers()["cheap"]
    assert (rejected.text, rejected.usage, rejected.logprobs) == ("said", Usage(9, 4, 1), {"lp_mean": -0.5})
    assert decision("d", route="abstained").answers() == {}, "that nothing is said is no answer"


GRADES = [
    ([label("a", 1.0)], {"cheap": 1.0}),
    ([label("a", 0.0, last_tier_right=True)], {"cheap": 0.0, "frontier": 1.0}),
    ([label("a", 1.0, labeller="x"), label("a", 1.0, labeller="y"), label("a", 0.0, labeller="z")], {"cheap": 1.0}),
    ([label("a", 1.0, labeller="x"), label("a", 0.0, labeller="y")], {}),
    ([label("a", 1.0, JUDGE, detail={"verdict": "tie"})], {"cheap": 0.0}),
]


@pytest.mark.parametrize(("labels", "grades"), GRADES)
def test_labels_grade_the_answers_they_speak_of(labels: list[Feedback], grades: dict[str, float]) -> None:
    """Several labels: the majority, and a draw says nothing; a tie counts against the cheap answer."""
    assert next(iter(decision("a", *labels).grades().values()), {}) == grades


def test_a_rejected_answer_is_graded_by_the_judge_that_compared_it() -> None:
    said = label("a", 1.0, JUDGE, detail={"verdict": "right", "cheap_right": False})
    assert decision("a", said, route="escalated").grades() == {(JUDGE, "label"): {"frontier": 1.0, "cheap": 0.0}}
    tie = label("a", 1.0, JUDGE, detail={"verdict": "tie"})
    assert decision("a", tie, route="escalated").grades() == {(JUDGE, "label"): {"cheap": 0.0}}


def test_a_tie_between_two_versions_answers_grades_neither() -> None:
    tie = compared("a", 0.5, 1.0)
    assert decision("a", comparisons=[tie]).grades() == {(JUDGE, "compared"): {"cheap": 1.0, "frontier": 1.0}}
    tie = replace(tie, detail={**tie.detail, "verdict": "tie"})
    assert decision("a", comparisons=[tie]).grades() == {}


def test_one_source_grades_a_prompt_and_people_come_before_programs_and_judges() -> None:
    judged, person = pair("a", True, True, 1.0), label("a", 0.0)
    assert (only(decision("a", judged, person)).source, only(decision("a", judged)).source) == ("human", JUDGE)
    assert only(decision("a", judged, person)).grades == {"cheap": 0.0}, "a judge's word fills no gap of people's"
    assert only(decision("a", judged, person), source=JUDGE).is_whole(TIERS)
    program = decision("a", judged, programmed={"cheap": 1.0})
    assert (only(program).source, only(program).probability) == ("programmatic", 1.0)
    assert only(decision("a", judged), source="human").grades == {}


@pytest.mark.parametrize("route", ["forced", "ensemble"])
def test_a_prompt_that_was_asked_again_has_one_row_and_forced_requests_complete_it_by_choice(route: str) -> None:
    asked = [
        decision("a", label("a", 1.0), prompt="same"),
        decision("bb", label("bb", 1.0), route=route, prompt="same"),
    ]
    found = only(*asked)
    assert (found.first.record.id, found.requests) == ("a", 2)
    assert found.is_whole(TIERS)
    assert found.probability is None, "chance did not have it asked again"
    assert served_prompts(asked[1:], TIERS, 1.0) == [], "nobody routed it"
    own = only(decision("a", pair("a", True, True, 1.0), prompt="same"), asked[1])
    assert own.probability == 1.0, "its own row is whole"


def test_the_probability_is_known_only_of_decisions_that_the_hash_drew() -> None:
    drawn, other = (
        next(n for n in map(str, range(99)) if up_for_labelling(n, 0.3) is inside) for inside in (True, False)
    )
    for name, known in ((drawn, 0.3), (other, None)):
        assert only(decision(name, label(name, 1.0)), share=0.3).probability == known
        assert only(decision(name, pair(name, True, True, 0.3)), share=1.0).probability == known
    assert only(decision("a", comparisons=[compared("a", 0.0, 1.0)])).probability is None


def chance(name: str, salt: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{salt}{name}".encode()).digest()[:8], "big") / 2**64


def traffic(n: int, rates: dict[str, float], routed: int = 0) -> list[ServedDecision]:
    """n accepted and n escalated requests, each way judged at a rate of its own, and some that went straight up."""
    found = []
    for i in range(n):
        for route, rate in rates.items():
            name = f"{route}{i:04}"
            cheap, last = chance(name, "c") < 0.5, chance(name, "l") < 0.9
            said = []
            if up_for_labelling(name, rate):
                detail = {"verdict": "right", "cheap_right": cheap}
                told = label(name, float(last), JUDGE, probability=rate, detail=detail)
                said = [pair(name, cheap, last, rate) if route == "accepted" else told]
            found.append(decision(name, *said, route=route))
    return found + [decision(f"up{i:04}", route="routed") for i in range(routed)]


def stated(decisions: list[ServedDecision], shares: list[float]) -> tuple[list[ServedPrompt], Selection]:
    served = served_prompts(decisions, TIERS, 1.0)
    return served, selection_of(served, TIERS, shares)


def test_rows_that_were_drawn_at_other_rates_are_weighted_by_their_inverse() -> None:
    served, found = stated(traffic(800, {"accepted": 0.4, "escalated": 0.1}), [1.0, 0.1])
    weights = found.correction.weights
    assert weights is not None
    by_route = {
        route: {
            weights[one.first.task.prompt_id] for one in served if one.first.record.outcome == route and one.grades
        }
        for route in ("accepted", "escalated")
    }
    [accepted], [escalated] = by_route["accepted"], by_route["escalated"]
    assert escalated == pytest.approx(4 * accepted)
    assert sum(weights.values()) == pytest.approx(len(weights))
    assert found.draw.holds
    assert found.draw.share == 0.1, "at .1 all have their row, at 1 they have not"
    assert found.draw.tried == 2
    made = served_outcomes(served, found, TIERS, {})
    rows = {one.metadata["drawn"] for one in made.outcomes if one.metadata["served_as"] == "accepted, cheap"}
    assert rows == {"yes", "no"}
    assert {one.metadata["draws_tried"] for one in made.outcomes} == {"2"}, "which `certify` divides δ by"
    assert {one.metadata["sample_weight"] for one in made.outcomes if one.label_source == ""} == {"0.0"}


def test_where_chance_left_a_part_out_the_correction_is_refused_by_name_and_number() -> None:
    _, found = stated(traffic(300, {"accepted": 0.5, "escalated": 0.5}, routed=40), [1.0, 0.5])
    assert found.correction.weights is None
    [why] = found.correction.why_not
    assert "40 of 640 prompts were routed (frontier) first" in why
    assert "propensity is 0" in why
    assert not found.draw.holds
    assert "routed, frontier: no answer of cheap was kept" in found.draw.missing


def test_too_few_effective_rows_are_refused_with_their_number() -> None:
    _, found = stated(traffic(60, {"accepted": 0.9, "escalated": 0.05}), [1.0])
    assert found.correction.weights is None
    [why] = found.correction.why_not
    assert re.search(r"the \d+ whole rows that chance chose are worth \d+ by their weights; 50 are needed", why)
    assert 0 < found.correction.effective_n < 50


def test_a_sample_that_is_smaller_than_its_rate_is_not_believed() -> None:
    """A judge that left out what was long, say, left it out for what it was."""
    decisions = traffic(400, {"accepted": 0.5, "escalated": 0.5})
    shed = [
        replace(one, labels=()) if one.record.outcome == "accepted" and i % 3 else one
        for i, one in enumerate(decisions)
    ]
    _, found = stated(shed, [1.0, 0.5])
    assert found.correction.weights is None
    [why] = found.correction.why_not
    assert "of 400 prompts accepted (cheap) first" in why
    assert "what is missing is not missing by that chance" in why


@given(st.lists(st.booleans(), min_size=5, max_size=40), st.sampled_from([0.3, 1.0]))
def test_nothing_is_drawn_unless_every_prompt_of_the_draw_has_its_row(whole: list[bool], share: float) -> None:
    decisions = [
        decision(f"d{i:03}", *([pair(f"d{i:03}", True, True, share)] if has else [])) for i, has in enumerate(whole)
    ]
    served, found = stated(decisions, [share])
    inside = [one for one in served if up_for_labelling(one.first.record.id, share)]
    holds = bool(inside) and all(one.is_whole(TIERS) for one in inside)
    assert found.draw.holds is holds
    assert [one for one in served if is_drawn(one, found.draw)] == (inside if holds else [])


def test_an_outage_is_no_part_of_the_draw_and_its_rows_certify_nothing() -> None:
    gone = decision("x", pair("x", True, True, 1.0), route="fallback", tier="frontier")
    served, found = stated([decision("a", pair("a", True, True, 1.0)), gone], [1.0])
    assert (found.outages, found.draw.prompts, found.draw.holds) == (1, 1, True)
    assert [is_drawn(one, found.draw) for one in served] == [True, False]


def test_the_statement_says_who_was_answered_by_whom_and_what_is_not_known() -> None:
    served, found = stated(traffic(30, {"accepted": 0.5}, routed=7), [1.0, 0.5])
    said = "\n".join(served_outcomes(served, found, TIERS, {"left out, of other versions": 3}).lines())
    assert "37 requests, 37 prompts" in said
    assert "7 prompts were answered by frontier alone" in said
    assert "training is NOT corrected" in said
    assert "may certify: nothing. Of" in said
    assert "3 decisions left out, of other versions" in said


def test_rows_carry_what_they_were_asked_under_and_their_session_and_time() -> None:
    made: Callable[..., Any] = lambda **fields: served_outcomes(*_stated_one(**fields), TIERS, {}).outcomes  # noqa: E731
    [cheap, last] = made(session="s1", metadata={"domain": "law", "grade": "9", "lp_mean": "x"})
    assert (cheap.tier, last.tier, cheap.grade, last.grade, cheap.label_source) == (
        "cheap",
        "frontier",
        1.0,
        1.0,
        JUDGE,
    )
    for name, value in (("session", "s1"), ("domain", "law"), ("served_by", "router/1"), ("turns", "1")):
        assert cheap.metadata[name] == value
    assert not {"grade", "lp_mean"} & set(cheap.metadata), "a caller's metadata fills no column of outcomes"


def test_a_row_that_a_program_graded_has_the_probability_with_which_its_answers_were_made() -> None:
    """It grades whatever there is: a last answer is there where a judge's sample, or a rollout, had it made."""
    name = next(f"d{n}" for n in range(100) if up_for_labelling(f"d{n}", 0.25))
    right = {"cheap": 1.0, "frontier": 1.0}
    sampled = decision(name, pair(name, True, True, 0.25), programmed=right)
    disagreed = decision(name, comparisons=[compared(name, 1.0, 1.0)], programmed=right)
    escalated = decision(name, route="escalated", programmed=right)
    assert [only(one).probability for one in (sampled, disagreed, escalated)] == [0.25, None, 1.0]


def test_a_caller_gives_rows_no_weight_and_says_nothing_of_how_they_were_drawn_or_asked() -> None:
    said = {
        "sample_weight": "1000000",
        "drawn": "yes",
        "draws_tried": "0",
        "draw_id": "mine",
        "collected_at": "2099-01-01T00:00:00+00:00",
        "max_tokens": "9",
        "latency_s": "x",
        "domain": "law",
    }
    [first, _] = served_outcomes(*_stated_one(metadata=said), TIERS, {}).outcomes
    assert first.metadata["drawn"] == "yes", "it was drawn, whoever says so"
    assert first.metadata["domain"] == "law"
    assert first.metadata["collected_at"] == first.metadata["served_at"], "by the graph's clock"
    assert len(first.metadata["draw_id"]) == 16
    assert not {"sample_weight", "max_tokens", "latency_s"} & set(first.metadata)


def _stated_one(**fields: Any) -> tuple[list[ServedPrompt], Selection]:
    return stated([decision("a", pair("a", True, True, 1.0), **fields)], [1.0])
