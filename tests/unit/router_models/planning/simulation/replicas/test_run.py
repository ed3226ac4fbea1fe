"""The simulator of replicas: queueing theory and the exact replay as oracles, and controls that must fail."""

import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.planning.simulation.itineraries import Itinerary, Step, always_itineraries, ensemble_itineraries
from router_models.planning.simulation.load import Overhead, PriceSchedule, ReplayTier
from router_models.planning.simulation.queues import simulate
from router_models.planning.simulation.replicas.run import ReplicaRun, simulate_replicas
from router_models.planning.simulation.replicas.scaling import ReplicaScaling
from router_models.planning.simulation.replicas.tier_queue import ReplicaTier
from router_models.planning.simulation.replicas.traffic import BurstyTraffic, draw_requests
from router_models.pricing.prices import Price
from router_models.types import Action, FloatArray, IntArray, Usage

SENT_ON = Itinerary((Step(("cheap",), True), Step(("frontier",))), "frontier", Action.ESCALATED, True)
KEPT = Itinerary((Step(("cheap",), True),), "cheap", Action.ACCEPTED, True)
STRAIGHT = Itinerary((Step(("frontier",)),), "frontier", Action.ROUTED, True)
ASIDE = Overhead(0.005, 0.02)


def pieces(times: FloatArray, rows: IntArray, size: int) -> Iterator[tuple[FloatArray, IntArray]]:
    for begin in range(0, len(times), size):
        yield times[begin : begin + size], rows[begin : begin + size]


def drawn(n: int, per_s: float, prompts: int, seed: int) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1 / per_s, n)), rng.integers(0, prompts, n)


def replayed(tiers: dict[str, ReplicaTier], ways: Sequence[Itinerary], times: FloatArray, rows: IntArray) -> Any:
    from decimal import Decimal

    prices = PriceSchedule(((0.0, Price(Decimal(1), Decimal(1))),))
    slow = {
        name: ReplayTier(
            np.ones(len(ways)), (Usage(1, 1),) * len(ways), tier.service_s, tier.places * tier.replicas, prices,
            tier.queue_limit,
        )
        for name, tier in tiers.items()
    }  # fmt: skip
    return simulate(slow, ways, times.tolist(), rows.tolist(), ASIDE)


def one_tier(service_s: FloatArray, places: int, per_s: float, n: int, seed: int = 0, **given: Any) -> ReplicaRun:
    ways = always_itineraries("a", len(service_s))
    return simulate_replicas(
        {"a": ReplicaTier(service_s, places, **given)}, ways, draw_requests(BurstyTraffic(per_s), n, len(ways), seed)
    )


def erlang_c_wait(offered: float, places: int, service_s: float) -> float:
    """The mean wait of M/M/c, offered in Erlangs."""
    blocked = 1.0
    for c in range(1, places + 1):
        blocked = offered * blocked / (c + offered * blocked)
    waits = blocked / (1 - offered / places * (1 - blocked))
    return waits * service_s / (places - offered)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    per_s=st.floats(0.5, 12),
    places=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    limit=st.none() | st.integers(0, 4),
    size=st.integers(1, 120),
)
def test_it_does_what_the_replay_of_each_event_does(
    seed: int, per_s: float, places: tuple[int, int], limit: int | None, size: int
) -> None:
    rng = np.random.default_rng(seed)
    ways = [(KEPT, SENT_ON, STRAIGHT)[i] for i in rng.integers(0, 3, 40)]
    tiers = {
        name: ReplicaTier(rng.exponential(0.7, 40), n, 2, queue_limit=limit)
        for name, n in zip(("cheap", "frontier"), places, strict=True)
    }
    times, rows = drawn(300, per_s, 40, seed)
    seen = simulate_replicas(tiers, ways, pieces(times, rows, size), ASIDE)
    exact = replayed(tiers, ways, times, rows)
    assert seen.requests == seen.served + seen.refused == 300
    assert (seen.served, seen.refused) == (exact.answered, exact.refused)
    assert {n: t.calls for n, t in seen.tiers.items()} == {n: t.calls for n, t in exact.tiers.items()}
    assert seen.latencies.total_s == pytest.approx(exact.latencies_s.sum(), abs=1e-6)
    assert seen.latencies.greatest_s == pytest.approx(exact.latencies_s.max(initial=0.0), abs=1e-6)
    assert seen.duration_s == pytest.approx(exact.duration_s, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), every_s=st.floats(0.2, 5))
def test_replicas_that_may_not_change_are_the_same_at_any_pace_of_decisions(seed: int, every_s: float) -> None:
    rng = np.random.default_rng(seed)
    ways = [(KEPT, SENT_ON, STRAIGHT)[i] for i in rng.integers(0, 3, 40)]
    times, rows = drawn(300, 5.0, 40, seed)
    fixed = {name: ReplicaTier(rng.exponential(0.7, 40), 2, 2) for name in ("cheap", "frontier")}
    bound = ReplicaScaling(2, 2, 1.0, start_s=5.0)
    tied = {name: ReplicaTier(tier.service_s, 2, 2, bound) for name, tier in fixed.items()}
    plain = simulate_replicas(fixed, ways, pieces(times, rows, 50), ASIDE)
    scaled = simulate_replicas(tied, ways, pieces(times, rows, 50), ASIDE, every_s=every_s)
    assert scaled.latencies.total_s == pytest.approx(plain.latencies.total_s)
    assert (scaled.latencies.counts == plain.latencies.counts).all()


@pytest.mark.parametrize(("places", "load"), [(1, 0.7), (4, 0.8), (16, 0.9)])
def test_mean_waits_are_those_of_erlang_c(places: int, load: float) -> None:
    service = np.random.default_rng(1).exponential(1.0, 20_000)
    mean = float(service.mean())
    offered = load * places
    seen = one_tier(service, places, offered / mean, 300_000)
    assert seen.tiers["a"].waits.mean_s == pytest.approx(erlang_c_wait(offered, places, mean), rel=0.06)


def test_the_check_of_erlang_c_finds_one_place_too_many() -> None:
    service = np.random.default_rng(1).exponential(1.0, 20_000)
    mean = float(service.mean())
    seen = one_tier(service, 5, 3.2 / mean, 300_000)
    assert seen.tiers["a"].waits.mean_s != pytest.approx(erlang_c_wait(3.2, 4, mean), rel=0.06)


def test_the_mean_wait_with_fixed_service_is_that_of_pollaczek_and_khinchine() -> None:
    """M/D/1: half that of M/M/1, ρ·s / (2 (1 − ρ))."""
    seen = one_tier(np.ones(1), 1, 0.8, 300_000)
    assert seen.tiers["a"].waits.mean_s == pytest.approx(0.8 / (2 * 0.2), rel=0.06)


def test_calls_at_once_are_those_a_second_times_the_seconds_of_each() -> None:
    """Little's law, with calls counted moment by moment while replicas come and go."""
    rule = ReplicaScaling(2, 12, 3.0, 7.0, upscale_delay_s=1, downscale_delay_s=5, look_back_s=5)
    service = np.random.default_rng(2).exponential(2.0, 5_000)
    traffic = BurstyTraffic(8.0, 3.0, 30.0, 60.0)
    tiers = {"a": ReplicaTier(service, 4, 2, rule)}
    seen = simulate_replicas(tiers, always_itineraries("a", 5_000), draw_requests(traffic, 40_000, 5_000, 3))
    assert seen.tiers["a"].most_replicas > 4, "nothing scaled: the check would say less than it should"
    assert seen.tiers["a"].ongoing_s == pytest.approx(seen.latencies.total_s, rel=0.02)


def test_a_call_that_waits_takes_the_replica_that_is_added_not_the_place_it_was_behind() -> None:
    rule = ReplicaScaling(1, 2, 1.0, start_s=4.0, upscale_delay_s=0, downscale_delay_s=1e9, look_back_s=1)
    tiers = {"a": ReplicaTier(np.array([100.0]), 1, 1, rule)}
    arrivals = [(np.array([0.5, 0.7]), np.array([0, 0]))]
    seen = simulate_replicas(tiers, always_itineraries("a", 1), arrivals, every_s=1.0)
    # Both are there at second 1, when the second replica is asked for; it answers from second 5 on.
    assert seen.latencies.greatest_s == pytest.approx(5.0 - 0.7 + 100.0)
    assert seen.tiers["a"].replicas == [(0.0, 1), (1.0, 2)]


def test_replicas_that_are_taken_away_end_what_they_have() -> None:
    rule = ReplicaScaling(1, 4, 1.0, start_s=0.0, upscale_delay_s=0, downscale_delay_s=3, look_back_s=1)
    tiers = {"a": ReplicaTier(np.array([2.0]), 1, 1, rule)}
    crowd = np.concatenate([np.full(4, 0.5), np.arange(20, 60, 5.0)])
    seen = simulate_replicas(tiers, always_itineraries("a", 1), [(crowd, np.zeros(12, dtype=np.int64))])
    assert seen.served == 12
    assert max(n for _, n in seen.tiers["a"].replicas) == 4
    assert seen.tiers["a"].replicas[-1][1] == 1


def test_expected_escalations_have_room_where_the_plain_rule_is_late() -> None:
    """A crowd at the cheap tier, all of it sent on two seconds later, and a last tier that takes five to start."""

    def late(*, anticipate: bool) -> float:
        last = ReplicaScaling(1, 40, 1.0, 5.0, upscale_delay_s=0, downscale_delay_s=60, look_back_s=10,
                              anticipate=anticipate)  # fmt: skip
        tiers = {
            "cheap": ReplicaTier(np.array([4.0]), 1000),
            "frontier": ReplicaTier(np.array([2.0]), 2, 1, last),
        }
        times = np.sort(np.random.default_rng(4).uniform(0, 20, 200))
        seen = simulate_replicas(tiers, [SENT_ON], [(times, np.zeros(200, dtype=np.int64))], every_s=0.1)
        return seen.latencies.share_above(9.0)

    assert late(anticipate=True) < late(anticipate=False) - 0.1


def test_memory_holds_what_is_under_way_not_what_has_been() -> None:
    alive: list[weakref.ref[FloatArray]] = []
    most = 0

    def watched() -> Iterator[tuple[FloatArray, IntArray]]:
        nonlocal most
        for times, rows in draw_requests(BurstyTraffic(100.0), 1_000_000, 10, 0):
            alive.append(weakref.ref(times))
            most = max(most, sum(one() is not None for one in alive))
            yield times, rows

    ways = always_itineraries("a", 10)
    seen = simulate_replicas({"a": ReplicaTier(np.full(10, 0.5), 80)}, ways, watched())
    assert seen.served == 1_000_000
    assert len(alive) > 15
    assert most <= 3


def test_what_it_cannot_simulate_is_said() -> None:
    tiers = {"cheap": ReplicaTier(np.ones(1), 1), "frontier": ReplicaTier(np.ones(1), 1)}
    one = [(np.array([1.0]), np.array([0]))]
    back = Itinerary((Step(("frontier",)), Step(("cheap",))), "cheap", Action.ROUTED)
    for ways, requests, said in (
        (ensemble_itineraries(("cheap", "cheap"), np.array([1.0]), 0.5, "frontier"), one, "several calls"),
        ([back], one, "after a dearer one"),
        ([KEPT, KEPT], one, "other prompts"),
        (always_itineraries("gone", 1), one, "not simulated"),
        ([KEPT], [(np.array([2.0, 1.0]), np.array([0, 0]))], "ascend"),
        ([KEPT], [], "at least one request"),
    ):
        with pytest.raises(DataError, match=said):
            simulate_replicas(tiers, ways, requests)
    with pytest.raises(DataError, match="above 0"):
        simulate_replicas(tiers, [KEPT], one, every_s=0.0)
    with pytest.raises(DataError, match="finite"):
        ReplicaTier(np.array([math.inf]), 1)
