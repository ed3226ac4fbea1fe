"""The tests of a promise on labels: what their values are, and that betting on a rise earns nothing without one."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.monitoring.promise_watch import (
    OVERALL,
    WRONG,
    PromiseWatch,
    WatchedPromise,
    WatchLimits,
    findings_of,
    log_ratios,
    raised_risks,
    watch_promise,
)
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Compared, Promise
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, HARM_RISK

MARKS = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
RISKS = st.floats(0.01, 0.6)
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def certificate(**fields: Any) -> Certificate:
    values: dict[str, Any] = {
        "what": ACCEPTED_RISK,
        "epsilon": 0.1,
        "delta": 0.1,
        "level": 0.1,
        "n": 9,
        "accepted_n": 9,
    }
    values |= {"errors": 0, "upper": 0.1, "threshold": 0.5, "label_source": "human", "binds": {}}
    return Certificate(**values | {"made_at": MADE, "expires_at": MADE + timedelta(days=9)} | fields)


@given(MARKS, RISKS)
def test_the_values_are_those_of_the_definitions(marks: list[float], epsilon: float) -> None:
    ratios = np.exp(log_ratios(marks, epsilon))
    state = PromiseWatch(epsilon).update(marks)
    n = len(marks)
    products = [ratios[j:].prod(axis=0) for j in range(n)]
    cusum = np.max(products, axis=0)  # the best beginning of all
    wealth = sum(products[j] / ((j + 1) * (j + 2)) for j in range(n))
    assert np.exp(state.log_detectors) == pytest.approx(cusum)
    assert np.exp(state.log_wealth) == pytest.approx(wealth)
    assert (state.n, state.errors) == (n, sum(marks))


@given(MARKS, MARKS, RISKS)
def test_marks_may_come_in_any_parts(first: list[float], second: list[float], epsilon: float) -> None:
    begun = PromiseWatch(epsilon)
    assert begun.update(first).update(second) == begun.update(first + second)


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_at_the_promised_risk_the_e_process_earns_nothing_on_average_exactly(epsilon: float) -> None:
    steps = 8
    expected = 0.0
    for marks in product([0.0, 1.0], repeat=steps):
        state = PromiseWatch(epsilon).update(marks)
        value = np.exp(state.log_wealth).mean() + 1 / (steps + 1)
        expected += value * epsilon ** sum(marks) * (1 - epsilon) ** (steps - sum(marks))
    assert expected == pytest.approx(1.0)


@given(MARKS, RISKS, st.data())
def test_a_mark_that_is_less_than_the_truth_makes_an_alarm_later_never_sooner(
    marks: list[float], epsilon: float, data: Any
) -> None:
    known = [x * data.draw(st.sampled_from([0.0, 1.0])) for x in marks]
    true, seen = PromiseWatch(epsilon).update(marks), PromiseWatch(epsilon).update(known)
    assert seen.peak_detector <= true.peak_detector * (1 + 1e-12)
    assert seen.peak_e_value <= true.peak_e_value * (1 + 1e-12)


@given(st.floats(0.001, 0.999))
def test_the_risks_bet_on_are_risks_above_the_promised_one(epsilon: float) -> None:
    p = raised_risks(epsilon)
    assert ((p > epsilon) & (p < 1)).all()


@pytest.mark.parametrize("mark", [-0.1, 1.1, np.nan])
def test_what_is_no_mark_is_refused(mark: float) -> None:
    with pytest.raises(DataError):
        PromiseWatch(0.1).update([mark])


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_marks_between_earn_nothing_at_the_promised_mean_either(epsilon: float) -> None:
    """A judge's tie is half: half of it at twice the rate has the same mean, and earns the same on average."""
    halves = np.exp(log_ratios([0.5, 0.0], epsilon))
    assert 2 * epsilon * halves[0] + (1 - 2 * epsilon) * halves[1] == pytest.approx(1.0)
    assert PromiseWatch(epsilon).update([0.5, 0.5, 0.0]).errors == 1.0


def test_a_promise_is_read_off_its_certificate() -> None:
    held = Promise(ACCEPTED_RISK, 0.1, 0.05, 100, 1, 0.08, 0.5)
    sliced = certificate(slices={"fr": held, "de": Promise(ACCEPTED_RISK, 0.1, 0.05, 9, 5, 0.9)})
    assert WatchedPromise.of(sliced) == WatchedPromise(0.1, slices=("fr",))
    assert WatchedPromise.of(certificate(what=HARM_RISK)).harm
    assert WatchedPromise.of(certificate(label_source="judge:m")).judge == "judge:m"


@pytest.mark.parametrize(
    ("harm", "right", "last", "mark"),
    [
        (False, True, None, 0.0),
        (False, False, None, 1.0),
        (True, True, False, 0.0),
        (True, False, True, 1.0),
        (True, False, False, 0.0),
        (True, False, None, 0.0),
    ],
)
def test_harm_is_known_only_with_the_last_tiers_answer(
    harm: bool, right: bool, last: bool | None, mark: float
) -> None:
    shown = WatchedPromise(0.1, harm).mark(right, last)
    assert (shown.happened, shown.wrong) == (mark, float(not right))


def test_a_slice_that_goes_bad_is_found_by_itself_and_named() -> None:
    promise, limits = WatchedPromise(0.1, slices=("de", "fr")), WatchLimits(1000, 0.05)
    marks = [promise.mark(i % 2 > 0 or name != "fr", None, name) for i in range(300) for name in ("de", "fr", None)]
    found = findings_of(watch_promise(promise, marks), limits)
    assert [(one.kind, one.scope) for one in found if one.scope != OVERALL] == [("revoked", "fr"), ("drift", "fr")]
    assert {one.limit for one in found if one.scope == "fr"} == {2 * 2 / 0.05, 2000}


def test_marks_within_the_promise_raise_nothing() -> None:
    promise = WatchedPromise(0.1)
    marks = [promise.mark(i % 12 > 0) for i in range(5000)]
    assert findings_of(watch_promise(promise, marks), WatchLimits()) == []


def test_of_harm_more_wrong_answers_than_were_measured_are_a_drift_of_their_own_and_revoke_nothing() -> None:
    span = (0.0, 0.0, 0.0)
    found = certificate(what=HARM_RISK, compared=Compared(900, 500, 50, 20, 5, 0, span, span))
    promise = WatchedPromise.of(found)
    assert promise.wrong_at_most == pytest.approx(0.1250, abs=2e-4)  # Clopper-Pearson, one-sided, of 50 in 500
    few = [promise.mark(i % 9 > 0) for i in range(1000)]
    many = [promise.mark(i % 3 > 0) for i in range(400)]
    assert findings_of(watch_promise(promise, few), WatchLimits()) == []
    assert [(f.kind, f.scope) for f in findings_of(watch_promise(promise, many), WatchLimits())] == [("drift", WRONG)]
    assert WatchedPromise.of(certificate(compared=found.compared)).wrong_at_most is None
