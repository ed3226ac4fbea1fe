"""A rollout moves by rules that hold whatever happens to it, in whatever order."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.policy.rollout.assignment import arm_of, unit_of
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent, next_state

AT = "2026-11-29T09:00:00.000+00:00"
STEPS = st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(
    lambda s: tuple(float(x) for x in sorted(s))
)
EVENTS = st.builds(
    RolloutEvent,
    st.sampled_from(list(Happened)),
    at=st.just(AT),
    weight=st.none() | st.floats(-0.5, 1.5),
    stable=st.sampled_from(["router/1", "router/2", "router/3", "none"]),
)


def begun(*steps: float, **options: Any) -> Rollout:
    return Rollout.begin("router", "router/1", "router/2", at=AT, by="os:ann@here", steps=steps, **options)


def after(rollout: Rollout, *happened: Happened | RolloutEvent) -> Rollout:
    for event in happened:
        rollout = next_state(rollout, event if isinstance(event, RolloutEvent) else RolloutEvent(event, AT))
    return rollout


@given(st.just(()) | STEPS, st.lists(EVENTS, max_size=12))
def test_the_rules_hold_in_whatever_order_things_happen(steps: tuple[float, ...], events: list[RolloutEvent]) -> None:
    now = begun(*steps)
    for event in events:
        before = now
        with suppress(ValueError):
            now = next_state(before, event)
            assert before.is_active, "an end is final"
            assert now.epoch == before.epoch + 1
        assert 0 <= now.weight <= 1
        if now.kind == "shadow":
            assert now.weight == 0, "a shadow answers nobody"
        if now.state in (RolloutState.DEGRADED, RolloutState.ABORTED):
            assert now.weight == 0, "all traffic is the stable version's again"
        if {before.state, now.state} == {RolloutState.PROGRESSING}:
            assert now.weight >= before.weight, "nobody is taken back while it progresses"
        if now.state is RolloutState.PROGRESSING and now.kind == "canary":
            assert now.weight >= now.steps[now.step] / 100
        if now.state is RolloutState.HEALTHY and before is not now:
            assert event.what is Happened.STABLE_CHANGED, "healthy is what the graph serves, not what was meant"
            assert event.stable == now.candidate


def test_a_canary_passes_its_steps_is_promoted_by_evidence_and_ends_healthy() -> None:
    canary = begun(1, 25, 100)
    assert (canary.kind, canary.weight, canary.state) == ("canary", 0.01, "Progressing")
    weights = [canary.weight]
    while not canary.is_last_step:
        canary = after(canary, Happened.STEP_PASSED)
        weights.append(canary.weight)
    assert weights == [0.01, 0.25, 1.0]
    canary = after(canary, Happened.EVIDENCE_PROMOTE)
    assert (canary.state, canary.weight) == ("Promoting", 1.0)
    assert after(canary, RolloutEvent(Happened.STABLE_CHANGED, AT, stable="router/2")).state == "Healthy"


def test_a_weight_that_a_person_sets_stays_until_it_is_resumed_at_the_next_step() -> None:
    canary = after(begun(1, 25, 100), RolloutEvent(Happened.SET_WEIGHT, AT, weight=0.1))
    assert (canary.state, canary.weight) == ("Paused", 0.1)
    with pytest.raises(ValueError, match="paused"):
        after(canary, Happened.EVIDENCE_PROMOTE)
    canary = after(canary, Happened.RESUME)
    assert (canary.state, canary.weight, canary.step) == ("Progressing", 0.25, 1)
    higher = after(begun(1, 25), RolloutEvent(Happened.SET_WEIGHT, AT, weight=0.6), Happened.RESUME)
    assert (higher.step, higher.weight) == (1, 0.6)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (RolloutEvent(Happened.ABORT, AT), "Aborted"),
        (RolloutEvent(Happened.WITHDRAWN, AT), "Aborted"),
        (RolloutEvent(Happened.STABLE_CHANGED, AT, stable="router/7"), "Aborted"),
        (RolloutEvent(Happened.EVIDENCE_ROLL_BACK, AT), "Degraded"),
        (RolloutEvent(Happened.NOT_LOADABLE, AT), "Degraded"),
    ],
)
def test_what_ends_a_rollout_ends_a_paused_one_and_a_shadow_too(event: RolloutEvent, state: str) -> None:
    for rollout in (begun(5), after(begun(5), Happened.PAUSE), begun()):
        ended = after(rollout, event)
        assert (ended.state, ended.weight) == (state, 0.0)
        with pytest.raises(ValueError, match="has ended"):
            after(ended, Happened.RESUME)


def test_while_it_is_promoted_it_can_only_succeed_be_refused_withdrawn_or_not_loadable() -> None:
    promoting = after(begun(5), Happened.PROMOTE)
    with pytest.raises(ValueError, match="rollback"):
        after(promoting, Happened.ABORT)
    assert after(promoting, Happened.PROMOTE_REFUSED).state == "Paused"
    assert after(promoting, Happened.WITHDRAWN).state == "Aborted"
    assert after(promoting, Happened.NOT_LOADABLE).state == "Degraded"


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        ((5, 5), {}),
        ((0, 5), {}),
        ((50, 20), {}),
        ((101,), {}),
        ((5,), {"pause_s": -1.0}),
        ((5,), {"pause_s": float("nan")}),
        ((5,), {"rate": 1.5}),
        ((5,), {"minimum": 5, "rate": 0.0}),
        ((), {"rate": 0.0}),
    ],
)
def test_a_rollout_that_could_not_go_on_is_not_begun(steps: tuple[float, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rise|pause|rate"):
        begun(*steps, **options)


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_whoever_is_the_candidates_at_one_weight_stays_so_at_a_greater_one(
    unit: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert (arm_of("rol-1", unit, low), arm_of("rol-1", unit, high)) != ("candidate", "stable")
    assert (arm_of("rol-1", unit, 0.0), arm_of("rol-1", unit, 1.0)) == ("stable", "candidate")


def test_shares_are_the_weight_and_another_rollout_draws_anew() -> None:
    units = [unit_of(f"s{n}", None, "") for n in range(4000)]
    one, other = ([arm_of(name, unit, 0.25) == "candidate" for unit in units] for name in ("rol-1", "rol-2"))
    assert sum(one) / 4000 == pytest.approx(0.25, abs=0.03)
    assert sum(a and b for a, b in zip(one, other, strict=True)) / 4000 == pytest.approx(0.0625, abs=0.02)


def test_the_unit_is_the_session_else_the_key_else_the_prompt() -> None:
    assert unit_of("s", "k", "one") == unit_of("s", "other", "two")
    assert unit_of(None, "k", "one") == unit_of(None, "k", "two")
    assert unit_of(None, None, "one") != unit_of(None, None, "two")
    assert len({unit_of("x", None, ""), unit_of(None, "x", ""), unit_of(None, None, "x")}) == 3
