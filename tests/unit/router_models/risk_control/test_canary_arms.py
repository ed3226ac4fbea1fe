"""Two versions serve a part of the traffic each: errors, slow answers, and whether the parts are as assigned."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.monitoring.canary import ArmOutcome, CanaryEvidence, CanaryFinding, CanaryLimits

LIMITS = CanaryLimits(latency_limit_s=2.0)
STABLE, CANDIDATE = ArmOutcome("stable", 0.5, False, 1.0, 0.01), ArmOutcome("candidate", 0.5, False, 1.0, 0.01)
FAILED, SLOW = replace(CANDIDATE, failed=True), replace(CANDIDATE, latency_s=3.0)

units = st.builds(
    ArmOutcome,
    st.sampled_from(["stable", "candidate"]),
    st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from([1.0, 3.0, float("inf")]),
    st.just(0.01),
)


def seen(outcomes: list[ArmOutcome], limits: CanaryLimits = LIMITS) -> dict[str, CanaryFinding]:
    return {f.name: f for f in CanaryEvidence.of([], outcomes, limits).findings}


def test_a_candidate_that_fails_is_rolled_back_after_a_few_units():
    outcomes = [STABLE, FAILED] * 9
    assert CanaryEvidence.of([], outcomes, LIMITS).verdict == "roll_back"
    assert seen(outcomes)["errors_worse"].reached
    assert seen(outcomes)["errors_worse"].estimate == -1


def test_at_five_percent_three_failures_suffice():
    at_five = [[replace(unit, weight=0.05) for unit in (*[STABLE] * 19, FAILED)] * n for n in (1, 3)]
    assert [CanaryEvidence.of([], outcomes, LIMITS).verdict for outcomes in at_five] == ["go_on", "roll_back"]


def test_failures_that_both_share_are_no_reason():
    assert CanaryEvidence.of([], [replace(STABLE, failed=True), FAILED] * 200, LIMITS).verdict == "go_on"


def test_slow_answers_count_where_a_limit_is_set_and_a_failure_is_no_quick_answer():
    assert seen([STABLE, SLOW] * 10)["latency_worse"].reached
    assert not seen([STABLE, SLOW] * 10)["errors_worse"].reached
    assert "latency_worse" not in seen([STABLE, SLOW], CanaryLimits())
    assert seen([STABLE, FAILED] * 10)["latency_worse"].reached


def test_where_one_arm_was_certain_nothing_is_compared():
    shadow = [replace(STABLE, weight=0.0, failed=True)] * 100
    last_step = [replace(FAILED, weight=1.0)] * 100
    assert (seen(shadow)["errors_worse"].n, seen(last_step)["errors_worse"].value) == (0, 1.0)
    assert CanaryEvidence.of([], shadow + last_step, LIMITS).verdict == "go_on"


def test_records_of_the_candidate_that_are_missing_are_found():
    found = seen([*[STABLE] * 3, CANDIDATE] * 20)
    assert found["sample_ratio"].reached
    assert found["sample_ratio"].estimate == pytest.approx(-0.25)


def test_an_arm_that_could_not_be_is_found_at_once():
    assert seen([replace(CANDIDATE, weight=0.0)])["sample_ratio"].reached
    assert seen([replace(STABLE, weight=1.0)])["sample_ratio"].reached


def test_evidence_of_the_split_is_kept_from_one_weight_to_the_next():
    first, second = [replace(STABLE, weight=0.25)] * 13, [STABLE] * 6
    reached = [seen(part)["sample_ratio"].reached for part in (first, second, first + second)]
    assert reached == [False, False, True]


def test_only_the_order_within_a_weight_matters_to_the_split():
    low, high = [replace(STABLE, weight=0.1)] * 30, [STABLE, CANDIDATE] * 15
    mixed = [unit for pair in zip(low, high, strict=True) for unit in pair]
    last = [CanaryEvidence.of([], outcomes, LIMITS).findings for outcomes in (mixed, low + high)]
    assert [f.estimate for f in last[0]] == pytest.approx([f.estimate for f in last[1]])


@given(st.lists(units, max_size=60), st.lists(units, max_size=60))
def test_more_units_never_lower_a_value(first: list[ArmOutcome], more: list[ArmOutcome]):
    before, after = seen(first), seen(first + more)
    assert all(after[name].value >= finding.value for name, finding in before.items())


@given(st.lists(units, max_size=60))
def test_a_failure_of_the_stable_version_never_speaks_against_the_candidate(outcomes: list[ArmOutcome]):
    worse = [replace(unit, failed=unit.failed or unit.arm == "stable") for unit in outcomes]
    for name in ("errors_worse", "latency_worse"):
        assert seen(worse)[name].value <= seen(outcomes)[name].value


@pytest.mark.parametrize(
    "wrong",
    [
        replace(STABLE, weight=1.5),
        replace(STABLE, weight=float("nan")),
        replace(STABLE, latency_s=-1.0),
        replace(STABLE, arm="canary"),  # type: ignore[arg-type]
    ],
)
def test_a_unit_that_cannot_be_is_refused(wrong: ArmOutcome):
    with pytest.raises(DataError):
        CanaryEvidence.of([], [wrong], LIMITS)
