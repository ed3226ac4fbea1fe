from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.planning.capacity import BusiestHour, PolicyLoad, TierPlaces, version_load
from router_models.planning.evidence_page import capacity_section
from router_models.planning.patterns import Extra, RiskBudget, play_out
from router_models.planning.plan import Demand, Plan, plan
from router_models.planning.simulation.itineraries import Itinerary, Step, ensemble_itineraries
from router_models.planning.workload import Workload, workload_of
from router_models.types import Action
from tests.unit.router_models.planning.test_plan import TERMS, outcomes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = {"cheap": TierPlaces(most=64, of_replica=16), "frontier": TierPlaces(most=20)}


@pytest.fixture(scope="module")
def recorded() -> Workload:
    return workload_of(outcomes(), "cheap", "frontier", TERMS, routers=("surface",), verifiers=("combined",))


def planned(work: Workload, per_s: float = 20.0, places: Any = PLACES, **given: Any) -> Plan:
    busiest = BusiestHour(per_s, places, **given)
    return plan(work, RiskBudget(0.1, 0.1), Demand(100_000), Extra(), NOW, busiest=busiest)


@pytest.fixture(scope="module")
def made(recorded: Workload) -> Plan:
    return planned(recorded)


def at_once(load: PolicyLoad) -> tuple[float, float]:
    cheap, frontier = (tier.at_once for tier in load.tiers)
    assert cheap is not None
    assert frontier is not None
    return cheap.value, frontier.value


def test_a_tier_alone_has_its_requests_a_second_times_its_seconds(made: Plan, recorded: Workload) -> None:
    rows = ~recorded.choosing
    assert recorded.cheap_s is not None
    assert recorded.frontier_s is not None
    _, cheap, frontier = made.loads
    assert at_once(cheap) == pytest.approx((20 * recorded.cheap_s[rows].mean(), 0.0))
    assert at_once(frontier) == pytest.approx((0.0, 20 * recorded.frontier_s[rows].mean()))
    assert [tier.calls for tier in frontier.tiers] == [0.0, 1.0]


def test_a_pattern_has_what_a_queue_without_waiting_has_on_average(made: Plan, recorded: Workload) -> None:
    """Told by another way: requests that come by chance, each there from its call's begin to its end."""
    rng = np.random.default_rng(0)
    played = play_out(recorded, made.option(made.shown).operated, ~recorded.choosing, Extra())
    rows = np.flatnonzero(~recorded.choosing)
    assert recorded.cheap_s is not None
    assert recorded.frontier_s is not None
    span = 3000.0
    came = np.sort(rng.uniform(0, span, rng.poisson(20 * span)))
    which = rng.integers(0, len(rows), len(came))
    cheap_s = np.where(played.tried[which], recorded.cheap_s[rows[which]], 0.0)
    frontier_s = np.where(played.kept[which], 0.0, recorded.frontier_s[rows[which]])
    seen = rng.uniform(span / 10, span * 9 / 10, 400)
    begun, escalated = came + cheap_s, came + cheap_s + frontier_s
    there = [
        (np.mean((came <= at) & (at < begun)) * len(came), np.mean((begun <= at) & (at < escalated)) * len(came))
        for at in seen
    ]
    assert at_once(made.loads[0]) == pytest.approx(np.mean(there, axis=0), rel=0.1)
    assert 0 < at_once(made.loads[0])[1] < at_once(made.loads[2])[1], "it spares the last tier something"


def test_replicas_leave_a_tenth_of_their_places_free_at_the_intervals_upper_end(recorded: Workload) -> None:
    for share in (0.5, 0.9):
        cheap = planned(recorded, 60.0, share=share).loads[1].tiers[0]
        assert cheap.at_once is not None
        assert cheap.replicas == int(np.ceil(cheap.at_once.high / (share * 16)))
        assert cheap.fits is (cheap.at_once.high <= share * 64)


def test_a_hosted_tier_has_no_replicas_and_is_full_where_its_calls_are_more_than_it_may_have(
    recorded: Workload,
) -> None:
    loads = {per_s: planned(recorded, per_s).loads[2].tiers[1] for per_s in (5.0, 50.0)}
    assert [load.fits for load in loads.values()] == [True, False]
    assert [load.replicas for load in loads.values()] == [None, None]


def test_what_is_not_known_is_said_and_nothing_is_concluded(recorded: Workload) -> None:
    blind = planned(replace(recorded, frontier_s=None), places={})
    cheap, frontier = blind.loads[0].tiers
    assert cheap.at_once is not None
    assert (cheap.replicas, cheap.fits) == (None, None)
    assert (frontier.at_once, frontier.fits) == (None, None)
    assert "latency not known" in capacity_section(blind)


def test_the_page_says_who_carries_it_and_nothing_where_it_was_not_asked(made: Plan, recorded: Workload) -> None:
    text = capacity_section(planned(recorded, 50.0))
    assert "50 requests a second" in text
    assert "| always frontier | frontier | 1.000 |" in text
    assert "**no**" in text
    assert f"**{made.shown}**" in text
    assert capacity_section(replace(made, busiest=None)) == ""


def test_a_version_has_the_calls_of_its_itineraries_at_once() -> None:
    """By hand: of four prompts three try the cheap tier, one of these is sent on; 10 requests a second."""
    kept = Itinerary((Step(("cheap",), True),), "cheap", Action.ACCEPTED)
    sent_on = Itinerary((Step(("cheap",), True), Step(("frontier",))), "frontier", Action.ESCALATED)
    straight = Itinerary((Step(("frontier",)),), "frontier", Action.ROUTED)
    seconds = {"cheap": np.array([1.0, 2.0, 3.0, 50.0]), "frontier": np.array([70.0, 70.0, 4.0, 8.0])}
    busiest = BusiestHour(10.0, PLACES)
    load = version_load("version 7", [kept, kept, sent_on, straight], seconds, busiest, 0, np.arange(4))
    assert load.name == "version 7"
    assert at_once(load) == pytest.approx((10 * (1 + 2 + 3) / 4, 10 * (4 + 8) / 4))
    assert [tier.calls for tier in load.tiers] == [0.75, 0.5]
    assert load.tiers[1].fits is False
    (three,) = ensemble_itineraries(("cheap",) * 3, np.array([1.0]), 0.5, "frontier")
    several = version_load("", [three], {"cheap": np.ones(1), "frontier": None}, busiest, 0, np.zeros(1, dtype=int))
    assert several.tiers[0].calls == 3.0
    assert several.tiers[1].at_once is None


@pytest.mark.parametrize(("per_s", "share"), [(0, 0.9), (-1, 0.9), (float("nan"), 0.9), (1, 0), (1, 1.1)])
def test_what_is_no_rate_or_share_is_refused(per_s: float, share: float) -> None:
    with pytest.raises(DataError, match="found"):
        BusiestHour(per_s, {}, share)
