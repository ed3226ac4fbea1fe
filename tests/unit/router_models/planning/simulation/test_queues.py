"""Replays: exact golden traces, queueing theory as an oracle, and the served policy's own rules."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.planning.simulation.arrivals import Arrivals, draw_rows
from router_models.planning.simulation.itineraries import (
    Itinerary,
    Step,
    always_itineraries,
    ensemble_itineraries,
    mixed_itineraries,
    policy_itineraries,
)
from router_models.planning.simulation.queues import Overhead, PriceSchedule, ReplayTier, Simulated, simulate
from router_models.pricing.prices import Price
from router_models.types import Action, OperatingPoint, Usage
from router_models.versions.policy import Policy

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
CHEAP_PRICE, FRONTIER_PRICE = Price(Decimal("0.1"), Decimal("0.4")), Price(Decimal("2"), Decimal("8"))


def tier(
    service_s: list[float],
    slots: int = 1,
    grades: list[float] | None = None,
    prices: tuple[tuple[float, Price], ...] = ((0.0, CHEAP_PRICE),),
    queue_limit: int | None = None,
) -> ReplayTier:
    n = len(service_s)
    return ReplayTier(
        np.array([1.0] * n if grades is None else grades),
        (Usage(1000, 100),) * n,
        np.array(service_s, dtype=np.float64),
        slots,
        PriceSchedule(prices),
        queue_limit,
    )


def play_scenario(scenario: dict[str, Any]) -> Simulated:
    """A golden file's input, replayed."""
    tiers = {
        name: ReplayTier(
            np.array(t["grades"]),
            tuple(Usage(*u) for u in t["usage"]),
            np.array(t["service_s"]),
            t["slots"],
            PriceSchedule(tuple((start, Price(*map(Decimal, rates))) for start, rates in t["prices"])),
            t.get("queue_limit"),
        )
        for name, t in scenario["tiers"].items()
    }
    points = {name: OperatingPoint(*map(float, p)) for name, p in scenario.get("points", {}).items()}
    if scenario["pattern"] == "ensemble":
        ways = ensemble_itineraries(
            scenario["samples"], np.array(scenario["agreement"]), scenario["accept_at"], scenario["escalate_to"]
        )
    else:
        ways = policy_itineraries(
            Policy(tuple(scenario["tiers"]), points),
            {k: np.array(v) for k, v in scenario["p_route"].items()},
            {k: np.array(v) for k, v in scenario["p_answer"].items()},
        )
    arrivals = Arrivals(**scenario["arrivals"])
    n, seed = scenario["requests"], scenario["seed"]
    rows = draw_rows(n, len(ways), seed)
    overhead = Overhead(0.005, 0.002, Decimal("0.000001"), Decimal("0.000002"))
    return simulate(tiers, ways, arrivals.times(n, seed), rows, overhead, keep_trace=True)


def test_there_are_golden_traces_of_every_pattern() -> None:
    assert {path.stem for path in GOLDEN} == {
        "pre_route",
        "cascade",
        "ensemble",
        "three_tiers",
    }


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_trace_is_repeated_exactly(path: Path) -> None:
    golden = json.loads(path.read_text())
    seen = play_scenario(golden["scenario"])
    assert seen.to_json() == golden["result"]
    assert list(map(dict, seen.trace)) == golden["trace"]


def test_another_seed_gives_another_trace() -> None:
    scenario = json.loads(GOLDEN[0].read_text())["scenario"]
    assert play_scenario(scenario | {"seed": 99}).trace != play_scenario(scenario).trace


def test_a_rejected_cheap_answer_waits_for_both_tiers_and_pays_both() -> None:
    cheap, frontier = tier([1.0], grades=[0]), tier([3.0], prices=((0.0, FRONTIER_PRICE),))
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.9)})
    ways = policy_itineraries(policy, {"cheap": np.array([0.8])}, {"cheap": np.array([0.2])})
    seen = simulate({"cheap": cheap, "frontier": frontier}, ways, [10.0], [0], Overhead(0.1, 0.2))
    assert seen.latencies_s == pytest.approx([0.1 + 1.0 + 0.2 + 3.0])
    assert seen.cost_usd == CHEAP_PRICE.cost(Usage(1000, 100)) + FRONTIER_PRICE.cost(Usage(1000, 100))
    assert seen.actions == {"escalated": 1}
    assert seen.right == 1.0


def test_a_price_change_bills_calls_by_when_they_start() -> None:
    changing = tier([5.0], prices=((0.0, CHEAP_PRICE), (10.0, FRONTIER_PRICE)))
    seen = simulate({"a": changing}, always_itineraries("a", 1), [9.0, 9.5, 20.0], [0, 0, 0])
    # The second waits for the first until second 14, after the change.
    one = Usage(1000, 100)
    assert seen.cost_usd == CHEAP_PRICE.cost(one) + 2 * FRONTIER_PRICE.cost(one)


def test_a_full_queue_refuses_and_the_refused_are_not_answered() -> None:
    seen = simulate(
        {"a": tier([100.0], queue_limit=1)}, always_itineraries("a", 1), [0.0, 1.0, 2.0, 3.0], [0, 0, 0, 0]
    )
    assert (seen.answered, seen.refused, seen.actions["refused"]) == (2, 2, 2)
    assert seen.tiers["a"].calls == 2


def test_an_ensemble_runs_its_samples_at_once_and_holds_a_slot_for_each() -> None:
    ways = ensemble_itineraries(("cheap", "cheap", "cheap"), np.array([1.0, 0.3]), 0.6, "frontier")
    tiers = {"cheap": tier([2.0, 2.0], slots=3), "frontier": tier([4.0, 4.0])}
    seen = simulate(tiers, ways, [0.0, 10.0], [0, 1])
    assert seen.latencies_s == pytest.approx([2.0, 6.0])
    assert seen.tiers["cheap"].calls == 6
    assert simulate(tiers | {"cheap": tier([2.0, 2.0], slots=1)}, ways, [0.0], [0]).latencies_s == pytest.approx([6.0])


def test_abstained_requests_have_a_latency_but_no_grade() -> None:
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(-math.inf, 0.9, abstain_below=0.3)})
    ways = policy_itineraries(policy, {"cheap": np.array([0.5])}, {"cheap": np.array([0.1])})
    seen = simulate({"cheap": tier([1.0]), "frontier": tier([1.0])}, ways, [0.0], [0])
    assert (seen.abstained, seen.answered) == (1, 0)
    assert math.isnan(seen.right)
    assert seen.to_json()["right"] is None


def test_the_wait_in_a_single_server_queue_is_what_theory_says() -> None:
    """M/M/1 at 70 % load: mean time in system 1 / (μ - λ); and Little's law on the same path."""
    n = 60_000
    service = -np.log(1 - np.random.default_rng(1).random(n))
    times = Arrivals(0.7).times(n, seed=2)
    seen = simulate({"a": tier(service.tolist())}, always_itineraries("a", n), times, range(n))
    assert float(seen.latencies_s.mean()) == pytest.approx(1 / 0.3, rel=0.08)
    assert seen.tiers["a"].utilisation == pytest.approx(0.7, abs=0.02)
    waiting = float(seen.latencies_s.mean()) - service.mean()
    assert seen.tiers["a"].queue_mean == pytest.approx(waiting * n / seen.duration_s, rel=1e-9)


def test_more_slots_never_make_a_first_come_queue_slower() -> None:
    chance = np.random.default_rng(0)
    service = chance.exponential(1.0, 500).tolist()
    times = Arrivals(2.5).times(500, seed=5)
    means = [
        float(
            simulate({"a": tier(service, slots=s)}, always_itineraries("a", 500), times, range(500)).latencies_s.mean()
        )
        for s in (2, 3, 4, 8)
    ]
    assert means == sorted(means, reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 4), st.floats(0.1, 5.0))
def test_every_request_is_answered_abstained_or_refused_exactly_once(
    seed: int, n: int, slots: int, rate: float
) -> None:
    chance = np.random.default_rng(seed)
    policy = Policy(
        ("cheap", "frontier"),
        {"cheap": OperatingPoint(0.4, 0.5, 0.1), "frontier": OperatingPoint(math.inf, -math.inf, 0.1)},
    )
    ways = policy_itineraries(
        policy, {"cheap": chance.random(7)}, {"cheap": chance.random(7), "frontier": chance.random(7)}
    )
    tiers = {
        "cheap": tier(chance.exponential(1.0, 7).tolist(), slots, queue_limit=3),
        "frontier": tier(chance.exponential(2.0, 7).tolist(), slots, queue_limit=3),
    }
    seen = simulate(tiers, ways, Arrivals(rate).times(n, seed), draw_rows(n, 7, seed))
    assert seen.answered + seen.abstained + seen.refused == n == sum(seen.actions.values())
    assert all(0 <= load.utilisation <= 1 for load in seen.tiers.values())


def test_bursts_raise_the_rate_where_they_should() -> None:
    arrivals = Arrivals(2.0, burst_factor=5.0, burst_every_s=100.0, burst_length_s=10.0)
    times = np.array(arrivals.times(20_000, seed=3))
    in_burst = times % 100 >= 90
    length = times[-1]
    assert in_burst.sum() / (0.1 * length) == pytest.approx(10.0, rel=0.05)
    assert (~in_burst).sum() / (0.9 * length) == pytest.approx(2.0, rel=0.05)


def test_rows_are_drawn_so_that_every_prompt_is_sent_equally_often() -> None:
    rows = draw_rows(30, 10, seed=1)
    assert sorted(rows) == sorted(list(range(10)) * 3)
    assert rows != draw_rows(30, 10, seed=2)


def test_prompts_are_sent_where_a_mask_says() -> None:
    ways = mixed_itineraries(np.array([True, False]), "cheap", "frontier")
    assert [way.answered_by for way in ways] == ["frontier", "cheap"]


def test_pre_routed_answers_are_not_judged() -> None:
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, -math.inf)})
    ways = policy_itineraries(policy, {"cheap": np.array([0.9, 0.1])}, {})
    assert ways[0] == Itinerary((Step(("cheap",)),), "cheap", Action.ACCEPTED, routed=True)
    assert ways[1] == Itinerary((Step(("frontier",)),), "frontier", Action.ROUTED, routed=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Arrivals(0.0), "arrival rate"),
        (lambda: Arrivals(1.0, 2.0), "bursts need"),
        (lambda: Arrivals(1.0).times(0, 1), "at least one request"),
        (lambda: PriceSchedule(((5.0, CHEAP_PRICE),)), "begin at second 0"),
        (lambda: tier([1.0], slots=0), "at least one slot"),
        (lambda: tier([float("nan")]), "service times must be finite"),
        (lambda: ensemble_itineraries(("a",), np.array([1.0]), 0.5, "b"), "at least two samples"),
        (lambda: simulate({"a": tier([1.0])}, always_itineraries("b", 1), [0.0], [0]), "not replayed"),
        (
            lambda: policy_itineraries(
                Policy(("a", "b"), {"a": OperatingPoint(0.1, 0.5)}), {"a": np.array([0.5])}, {}
            ),
            "no scores of them",
        ),
        (lambda: policy_itineraries(Policy(("a", "b"), {}), {"a": np.array([np.nan])}, {}), "NaN"),
    ],
)
def test_impossible_scenarios_are_refused_with_a_reason(wrong: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        wrong()
