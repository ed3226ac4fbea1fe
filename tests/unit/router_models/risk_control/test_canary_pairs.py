"""A candidate and the stable version decide the same requests: what is proved of quality, harm and cost."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.monitoring.canary import CanaryEvidence, CanaryFinding, CanaryLimits, PairedRequest

ALIKE = PairedRequest(True, None, None, None, None, 0.01, 0.01)
BETTER = PairedRequest(False, 0.0, 1.0, True, False, 0.01, 0.01)
WORSE = PairedRequest(False, 1.0, 0.0, False, True, 0.01, 0.01)
UNGRADED = PairedRequest(False, None, None, None, None, 0.01, 0.01)
TIE = PairedRequest(False, None, None, None, None, 0.01, 0.01, tie=True)
BOTH = PairedRequest(False, 1.0, 1.0, False, False, 0.01, 0.01)
LIMITS = CanaryLimits()
COSTED = CanaryLimits(cost_bound_usd=0.02)

streams = st.lists(
    st.sampled_from(
        [ALIKE, BETTER, WORSE, UNGRADED, TIE, replace(WORSE, slices=("legal",)), replace(BETTER, slices=("it",))]
    ),
    max_size=80,
)


def seen(pairs: list[PairedRequest], limits: CanaryLimits = LIMITS) -> dict[tuple[str, str], CanaryFinding]:
    return {(f.name, f.scope): f for f in CanaryEvidence.of(pairs, [], limits).findings}


def overall(name: str, pairs: list[PairedRequest], limits: CanaryLimits = LIMITS) -> CanaryFinding:
    return seen(pairs, limits)[name, "overall"]


def test_versions_that_decide_alike_are_promoted_after_some_two_hundred_and_fifty_requests():
    assert CanaryEvidence.of([ALIKE] * 220, [], LIMITS).verdict == "go_on"
    assert CanaryEvidence.of([ALIKE] * 290, [], LIMITS).verdict == "promote"


def test_nothing_observed_proves_nothing():
    evidence = CanaryEvidence.of([], [], COSTED)
    assert evidence.verdict == "go_on"
    assert {finding.value for finding in evidence.findings if finding.effect != "block"} == {1.0}


def test_a_candidate_that_breaks_answers_is_rolled_back_soon():
    assert CanaryEvidence.of([*[ALIKE] * 9, WORSE] * 10, [], LIMITS).verdict == "roll_back"


def test_a_drop_within_the_margin_is_no_reason_to_roll_back_however_long_it_is_watched():
    slightly_worse = [*[ALIKE] * 97, WORSE, BETTER, WORSE] * 100
    assert CanaryEvidence.of(slightly_worse, [], LIMITS).verdict == "promote"
    assert overall("quality_worse", slightly_worse).value == 1


def test_a_limit_that_was_reached_is_not_taken_back_and_rolling_back_goes_first():
    proved_then_bad = [ALIKE] * 400 + [WORSE] * 200
    evidence = CanaryEvidence.of(proved_then_bad, [], LIMITS)
    assert overall("quality", proved_then_bad).reached
    assert evidence.verdict == "roll_back"


def test_the_order_of_arrival_decides_when_a_limit_is_reached():
    assert overall("quality", [ALIKE] * 400 + [WORSE] * 40).reached
    assert not overall("quality", [WORSE] * 40 + [ALIKE] * 400).reached


def test_what_is_not_graded_counts_against_promotion_and_not_for_rolling_back():
    pairs = [*[ALIKE] * 9, UNGRADED] * 200
    found = CanaryEvidence.of(pairs, [], LIMITS)
    assert (found.verdict, found.undetermined) == ("go_on", 200)
    assert overall("quality", pairs).estimate == pytest.approx(-0.1)
    assert overall("quality_worse", pairs).estimate == pytest.approx(0.1)


def test_a_tie_is_no_difference_in_quality_and_no_harm():
    pairs = [*[ALIKE] * 16, TIE, BOTH, BOTH, BOTH] * 40  # 5 % ties: counted as lost they would be beyond the margin
    found = CanaryEvidence.of(pairs, [], LIMITS)
    assert (found.verdict, found.undetermined) == ("promote", 0)
    for name in ("quality", "harm", "quality_worse", "harm_worse"):
        assert overall(name, pairs).estimate == 0
    assert (overall("ties", pairs).value, overall("ties", pairs).n) == (0.25, 160)
    lost = [replace(pair, tie=False) for pair in pairs]
    assert CanaryEvidence.of(lost, [], LIMITS).verdict == "go_on", "as it was"


def test_a_tie_counts_what_the_judge_said_over_both_orders():
    """Worse in one order and equal in the other is half a difference: taken for none, it hides what is worse."""
    half = replace(TIE, stable_right=1.0, candidate_right=0.5)
    pairs = [*[ALIKE] * 8, BOTH, half] * 200
    for name, estimate in {"quality": -0.05, "quality_worse": -0.05, "harm": 0.0}.items():
        assert overall(name, pairs).estimate == pytest.approx(estimate)
    assert (overall("ties", pairs).value, overall("ties", pairs).n) == (0.5, 400)
    assert CanaryEvidence.of(pairs, [], LIMITS).verdict == "roll_back"
    known_by_place = replace(TIE, stable_right=0.5, candidate_right=0.5)
    assert overall("quality", [known_by_place, BOTH] * 20).estimate == 0
    assert overall("ties", [known_by_place, BOTH] * 20).value == 0.5


def test_a_judge_that_tells_no_answers_apart_promotes_nothing():
    pairs = [*[ALIKE] * 9, TIE] * 200
    assert overall("quality", pairs).reached
    assert overall("ties", pairs).reached
    assert CanaryEvidence.of(pairs, [], LIMITS).verdict == "go_on"
    later = [*pairs, *[BOTH, *[ALIKE] * 4] * 200]
    assert not overall("ties", later).reached, "of all pairs so far"
    assert CanaryEvidence.of(later, [], LIMITS).verdict == "promote"


def test_few_ties_block_nothing_that_would_be_promoted_with_each_counted_as_lost():
    pairs = [*[ALIKE] * 499, TIE, *[ALIKE] * 500]
    assert overall("ties", pairs).value == 1
    assert not overall("ties", pairs).reached
    assert CanaryEvidence.of(pairs, [], LIMITS).verdict == "promote"


def test_the_same_answer_by_another_path_is_nothing_that_was_judged():
    same = PairedRequest(False, 0.5, 0.5, False, False, 0.01, 0.01)
    assert overall("ties", [same] * 50).n == 0


def test_half_a_grade_is_used_as_far_as_it_goes():
    lost_at_most_all = [replace(UNGRADED, stable_right=1.0)]
    assert overall("quality", lost_at_most_all).estimate == -1
    assert overall("quality_worse", lost_at_most_all).estimate == 0
    assert overall("quality", [replace(UNGRADED, candidate_right=0.25)]).estimate == -0.75


def test_of_a_group_the_first_request_counts_graded_or_not():
    session = [replace(pair, group="a") for pair in (UNGRADED, BETTER, WORSE)]
    evidence = CanaryEvidence.of([*session, replace(BETTER, group="b"), BETTER, BETTER], [], LIMITS)
    assert (evidence.pairs, evidence.repeats, evidence.undetermined) == (4, 2, 1)
    assert evidence.findings[0].estimate == pytest.approx((-1 + 1 + 1 + 1) / 4)


def test_harm_is_tested_beside_quality_unless_it_is_switched_off():
    harm_for_nothing_gained = [*[ALIKE] * 9, replace(WORSE, stable_right=0.0)] * 20
    assert overall("quality_worse", harm_for_nothing_gained).value == 1
    assert overall("harm_worse", harm_for_nothing_gained).reached
    assert not [name for name, _ in seen([WORSE], CanaryLimits(harm_margin=None)) if name.startswith("harm")]


def test_a_slice_is_rolled_back_for_at_its_part_of_the_level():
    pairs = [*[ALIKE] * 49, replace(WORSE, slices=("legal", "legal"))] * 12
    limits = CanaryLimits(slices=("legal", "it"))
    found = seen(pairs, limits)
    assert not found["quality_worse", "overall"].reached
    assert (found["quality_worse", "legal"].limit, found["quality_worse", "legal"].n) == (40.0, 12)
    assert found["quality_worse", "legal"].reached
    assert CanaryEvidence.of(pairs, [], limits).verdict == "roll_back"
    assert found["harm_worse", "it"].n == 0


def test_slices_that_were_not_named_share_the_level_in_order_of_appearance():
    found = seen([replace(ALIKE, slices=(name,)) for name in ("b", "a", "c") * 3])
    spent = [1 / found["quality_worse", name].limit for name in ("b", "a", "c")]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] == pytest.approx(0.05 * 6 / np.pi**2)
    assert ("quality_worse", "elsewhere") not in seen(
        [replace(ALIKE, slices=("elsewhere",))], CanaryLimits(slices=("a",))
    )


def test_a_candidate_that_costs_more_is_not_promoted_and_one_that_costs_the_same_is():
    assert CanaryEvidence.of([ALIKE] * 400, [], COSTED).verdict == "promote"
    dear = [*[ALIKE] * 4, replace(BETTER, candidate_usd=0.02)] * 100
    assert CanaryEvidence.of(dear[:60], [], COSTED).verdict == "go_on"
    assert CanaryEvidence.of(dear, [], COSTED).verdict == "roll_back"


def test_without_a_bound_one_that_asks_the_last_tier_for_more_is_rolled_back_and_not_promoted():
    last = {"last_usd": 0.5}
    dear = [*[replace(ALIKE, **last)] * 9, replace(BETTER, candidate_usd=0.5, **last)] * 100
    evidence = CanaryEvidence.of(dear, [], LIMITS)
    assert (evidence.verdict, [f.name for f in evidence.findings if f.effect == "promote" and not f.reached]) == (
        "roll_back",
        ["relative_cost"],
    )
    assert [f.name for f in evidence.findings if f.effect == "roll_back" and f.reached] == ["relative_cost_worse"]
    assert CanaryEvidence.of(dear, [], CanaryLimits(cost_ceiling=20.0)).verdict == "promote"


def test_costs_without_a_bound_are_shares_of_the_last_tiers_cost():
    def left(*pairs: PairedRequest) -> float | None:
        return overall("relative_cost", list(pairs)).estimate

    assert left(replace(WORSE, stable_usd=0.01, candidate_usd=0.02, last_usd=0.1)) == pytest.approx(-0.09)
    assert left(replace(WORSE, stable_usd=0.2, candidate_usd=0.4, last_usd=0.1)) == pytest.approx(-0.45)
    assert left(replace(WORSE, stable_usd=0.01, candidate_usd=0.02)) == pytest.approx(-0.45)
    assert left(replace(ALIKE, last_usd=0.1)) == pytest.approx(0.01)
    assert left(replace(WORSE, stable_usd=0.0, candidate_usd=0.0)) == pytest.approx(0.1)


def test_cheap_answers_that_cost_a_little_more_are_no_reason_against_one_that_saves_dear_ones():
    """A dearer verifier doubles what nine in ten requests cost, and spares the last tier in one."""
    cheap = replace(ALIKE, alike=False, stable_usd=0.001, candidate_usd=0.002, stable_right=1.0, candidate_right=1.0,
                    stable_harm=False, candidate_harm=False, last_usd=0.1)  # fmt: skip
    spared = replace(cheap, stable_usd=0.1)
    assert CanaryEvidence.of([*[cheap] * 9, spared] * 50, [], LIMITS).verdict == "promote"


def test_a_cost_beyond_the_stated_bound_blocks_promotion_and_is_named():
    pairs = [ALIKE] * 400 + [replace(BETTER, candidate_usd=0.021)]
    evidence = CanaryEvidence.of(pairs, [], COSTED)
    assert evidence.verdict == "go_on"
    assert [f.name for f in evidence.findings if f.effect == "block" and f.reached] == ["cost_overrun"]


def test_what_the_stable_version_costs_beyond_the_bound_is_counted_as_the_bound():
    dear_before = [replace(BETTER, stable_usd=usd) for usd in (0.02, 5.0)]
    assert overall("cost", dear_before[:1], COSTED) == overall("cost", dear_before[1:], COSTED)
    rolled_back = [replace(BETTER, candidate_usd=0.02)] * 40
    assert overall("cost_worse", rolled_back, COSTED).reached
    assert not overall("cost_worse", [*rolled_back, dear_before[1]], COSTED).reached


@given(streams, streams)
def test_more_observations_never_lower_a_value(first: list[PairedRequest], more: list[PairedRequest]):
    before, after = seen(first), seen(first + more)
    tests = {key: finding for key, finding in before.items() if finding.name != "ties"}  # a share, no test
    assert all(after[key].value >= finding.value for key, finding in tests.items())


@given(streams, st.integers(0, 79))
def test_losing_a_grade_never_helps_either_side(pairs: list[PairedRequest], at: int):
    blinded = [UNGRADED if i == at and not pair.alike else replace(pair, slices=()) for i, pair in enumerate(pairs)]
    graded = [replace(pair, slices=()) for pair in pairs]
    before, after = seen(graded), seen(blinded)
    tests = {key: finding for key, finding in before.items() if finding.name != "ties"}  # it may block more
    assert all(after[key].value <= finding.value * (1 + 1e-12) for key, finding in tests.items())


@given(st.lists(st.sampled_from([ALIKE, UNGRADED, BETTER]), max_size=200))
def test_a_candidate_that_is_nowhere_known_to_be_worse_is_never_rolled_back(pairs: list[PairedRequest]):
    found = seen(pairs)
    assert {f.value for f in found.values() if f.effect == "roll_back"} == {1.0}


@given(streams)
def test_evidence_is_json(pairs: list[PairedRequest]):
    evidence = CanaryEvidence.of(pairs, [], COSTED)
    assert json.loads(json.dumps(evidence.to_json(), allow_nan=False))["verdict"] == evidence.verdict


@pytest.mark.parametrize(
    "wrong",
    [
        replace(WORSE, stable_right=1.5),
        replace(WORSE, candidate_right=float("nan")),
        replace(WORSE, candidate_usd=-0.01),
        replace(WORSE, stable_usd=float("inf")),
        replace(WORSE, last_usd=-0.01),
    ],
)
def test_what_cannot_be_observed_is_refused(wrong: PairedRequest):
    with pytest.raises(DataError):
        CanaryEvidence.of([ALIKE, wrong], [], COSTED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": 0.0},
        {"alpha": 1.0},
        {"harm_margin": -0.1},
        {"cost_bound_usd": 0.0},
        {"latency_limit_s": float("inf")},
        {"slices": ("a", "a")},
    ],
)
def test_limits_that_limit_nothing_are_refused(wrong: dict):
    with pytest.raises(DataError):
        CanaryLimits(**wrong)
