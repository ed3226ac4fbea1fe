from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.monitoring.traffic_changes import (
    LEAST_VALUES,
    ServedDecision,
    TrafficLimits,
    compare_traffic,
    first_of_units,
)

N = 400


def traffic(
    seed: int, change: Callable[[ServedDecision, float], ServedDecision] = lambda d, _: d
) -> list[ServedDecision]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(N):
        score, u = float(rng.random()), float(rng.random())
        tried = score > 0.4
        escalated = bool(u < 0.2) if tried else None
        tier = "cheap" if tried and not escalated else "frontier"
        usual = ServedDecision(
            tier, score, score if tried else None, u, escalated, u > 0.97, u > 0.9, u < 0.1, (f"prompt {seed} {i}",)
        )
        made.append(change(usual, float(rng.random())))
    return made


def reported(before: list[ServedDecision], now: list[ServedDecision], **limits: float | None) -> set[str]:
    return {c.figure for c in compare_traffic(before, now, TrafficLimits(**limits)) if c.is_reported}  # type: ignore[arg-type]


def test_the_same_traffic_shows_no_change_and_every_figure_is_compared() -> None:
    found = compare_traffic(traffic(1), traffic(2))
    assert [c.figure for c in found] == [
        "router_score", "answer_score", "distance", "escalation", "refusals", "hedging", "uncovered", "tiers",
        "escalation_ceiling",
    ]  # fmt: skip
    assert not any(c.is_reported for c in found)
    assert all(c.adjusted >= c.p_value for c in found)


@pytest.mark.parametrize(
    ("figure", "change"),
    [
        ("router_score", lambda d, u: replace(d, router_score=(d.router_score or 0) * 0.7)),
        ("answer_score", lambda d, u: d if d.answer_score is None else replace(d, answer_score=d.answer_score**2)),
        ("distance", lambda d, u: replace(d, distance=(d.distance or 0) + 0.3)),
        ("escalation", lambda d, u: d if d.escalated is None else replace(d, escalated=u < 0.5)),
        ("refusals", lambda d, u: replace(d, refuses=u < 0.15)),
        ("hedging", lambda d, u: replace(d, hedges=u < 0.4)),
        ("uncovered", lambda d, u: replace(d, uncovered=u < 0.3)),
        ("tiers", lambda d, u: replace(d, tier="middle") if u < 0.2 else d),
        ("escalation_ceiling", lambda d, u: d if d.escalated is None else replace(d, escalated=u < 0.5)),
    ],
)
def test_a_change_of_one_figure_is_reported_as_that(
    figure: str, change: Callable[[ServedDecision, float], ServedDecision]
) -> None:
    assert figure in reported(traffic(3), traffic(4, change))


def test_the_tier_that_moved_most_is_named() -> None:
    moved = traffic(4, lambda d, u: replace(d, tier="middle") if u < 0.3 else d)
    (tiers,) = [c for c in compare_traffic(traffic(3), moved) if c.figure == "tiers"]
    assert tiers.tier == "middle"
    assert tiers.before == 0
    assert tiers.now > 0.2


def test_a_constant_rate_above_the_ceiling_is_reported_and_a_ceiling_can_be_left_out() -> None:
    high = lambda d, u: d if d.escalated is None else replace(d, escalated=u < 0.45)  # noqa: E731
    assert reported(traffic(5, high), traffic(6, high)) == {"escalation_ceiling"}
    assert reported(traffic(5, high), traffic(6, high), escalation_at_most=0.6) == set()
    assert reported(traffic(5, high), traffic(6, high), escalation_at_most=None) == set()


def test_one_decision_of_each_session_and_prompt_counts() -> None:
    kept = first_of_units(
        [
            ServedDecision("a", units=("s1", "p1")),
            ServedDecision("b", units=("s1", "p2")),
            ServedDecision("c", units=("s2", "p2")),  # its prompt was that of a turn that does not count
            ServedDecision("d", units=("s3", "p3")),
            ServedDecision("e"),
            ServedDecision("f"),
        ]
    )
    assert [d.tier for d in kept] == ["a", "d", "e", "f"]
    one_caller = [replace(d, units=("the same",)) for d in traffic(7, lambda d, u: replace(d, tier="middle"))]
    assert compare_traffic(traffic(8), one_caller) == []


@given(st.integers(0, LEAST_VALUES - 1), st.integers(0, 60))
def test_too_few_decisions_are_not_compared(before: int, now: int) -> None:
    made = [ServedDecision("a", 0.5, 0.5, 0.5, True, True, True, True)] * 60
    assert [c.figure for c in compare_traffic(made[:before], made[:now], TrafficLimits(escalation_at_most=None))] == []


def test_limits_outside_their_range_are_refused() -> None:
    for bad in ({"false_share": 0.0}, {"escalation_at_most": 1.5}, {"false_share": float("nan")}):
        with pytest.raises(DataError, match="between 0 and 1"):
            TrafficLimits(**bad)
