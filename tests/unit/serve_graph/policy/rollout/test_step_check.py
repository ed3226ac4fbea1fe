"""Whether a candidate may have a greater share: what the tiers would have at once, and whether its tries pay."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.rollout.capacity import LiveLoad, PathCalls, overload_of, places_of
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.step_check import StepCheck
from serve_graph.records.comparisons import Comparison, ComparisonsTable
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import echo_graph

AT = datetime.fromisoformat("2026-11-29T09:00:00.000+00:00")
CANARY = Rollout.begin(
    "router", "router/1", "router/2", at=AT.isoformat(timespec="milliseconds"), by="os:ann@here", steps=(5.0, 100.0)
)
LOAD = LiveLoad(100.0, 200, {"cheap": 200, "frontier": 40}, {"cheap": 100.0, "frontier": 400.0})
"""2 requests a second; the last tier has 4 requests at once, of 10 s each."""
FEW, MANY = {"cheap": 100, "frontier": 20}, {"cheap": 100, "frontier": 60}


@pytest.mark.parametrize(
    ("places", "paths", "wanted", "needs"),
    [
        (14, PathCalls(100, FEW, MANY), 1.0, None),
        (13, PathCalls(100, FEW, MANY), 1.0, "12 requests at once on average, now 4, and takes 13 "),
        (13, PathCalls(100, FEW, MANY), 0.9, None),
        (4, PathCalls(100, FEW, MANY), 0.05, "4.4 requests at once"),
        (4, PathCalls(100, FEW, FEW), 1.0, None),
        (2, PathCalls(100, MANY, FEW), 1.0, None),
        (4, PathCalls(19, FEW, MANY), 1.0, None),
    ],
    ids=["carried", "too much", "a step less", "full already", "needs no more", "needs less", "too few pairs"],
)
def test_a_tier_has_calls_a_second_times_seconds_a_call_at_once(
    places: int, paths: PathCalls, wanted: float, needs: str | None
) -> None:
    said = overload_of({"cheap": 1000, "frontier": places}, LOAD, paths, 0.0, wanted, 0.9)
    assert (said is None) == (needs is None)
    assert needs is None or (said is not None and needs in said)


def test_places_are_what_all_replicas_take_and_a_hosted_tier_has_those_that_it_is_given() -> None:
    scaling = {"max_replicas": 3, "max_ongoing_requests": 8}
    hosted = {"engine": "openai", "model": "m", "context_tokens": 100}
    tiers: list[dict[str, Any]] = [
        {"engine": "echo", "name": "cheap", "scaling": scaling},
        {"engine": "echo", "name": "gated", "scaling": scaling, "admission": {"max_in_flight": 5}},
        {**hosted, "name": "free"},
        {**hosted, "name": "bounded", "admission": {"max_in_flight": 7}},
    ]
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    priced = [tier | {"price": price} for tier in tiers]
    config = GraphConfig.model_validate({"tiers": priced, "policy": {"safe_tier": "bounded"}})
    assert config.http.scaling.max_replicas == 2
    assert places_of(config) == {"cheap": 24, "gated": 10, "bounded": 14}


async def test_what_is_kept_of_traffic_and_comparisons_says_what_the_next_step_needs(
    store: DecisionStore, tmp_path: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """30 requests in 29 s, 4 s in the cheap tier each; the candidate would send all of them to the last one too."""
    config = tight(tmp_path, places=4)
    await store.write_many([a_record(f"dec-{n}", **fields(n, [("cheap", 4.0)])) for n in range(29)])
    await store.write_many([a_record("dec-29", **fields(29, [("cheap", 4.0), ("frontier", 5.0)]))])
    unrouted = [{"outcome": "forced"}, {"route_reason": "embeddings"}]
    await store.write_many([a_record(f"no-{n}", **fields(n, []) | unrouted[n % 2]) for n in range(8)])
    await store.write_many([a_record("dec-old", **fields(-400, [("frontier", 5000.0)]))])
    rows = [paired(f"dec-{n}", {"stable": ["cheap"], "candidate": ["cheap", "frontier"]}) for n in range(25)]
    await ComparisonsTable(store).write([*rows, paired("dec-25", None)])
    check, now = StepCheck(config, store), AT + timedelta(seconds=29)
    said = await check.fault(CANARY, 1.0, now)
    assert said is not None
    assert "tier 'frontier' would have 5.09 requests at once on average, now 0.172, and takes 4" in said
    assert "1.00 calls of it by the candidate and 0.00 by the stable version, of 5 s each" in said
    assert await check.fault(CANARY, 0.5, now) is None
    assert await check.fault(replace(CANARY, weight=1.0), 1.0, now) is None, "it has its share already"
    off = config.model_copy(update={"rollouts": config.rollouts.model_copy(update={"capacity_share": None})})
    assert await StepCheck(off, store).fault(CANARY, 1.0, now) is None


@pytest.mark.parametrize(("repeated", "loses"), [(24, True), (20, False), (2, False)])
async def test_a_candidate_whose_tries_are_repeated_too_often_for_their_price_loses_money(
    store: DecisionStore,
    tmp_path: Path,
    a_record: Callable[..., DecisionRecord],
    repeated: int,
    loses: bool,
) -> None:
    """A try costs a third of what it spares, so that tries pay while fewer than two thirds are repeated."""
    config = tight(tmp_path, places=1000)
    for n in range(24):
        calls = [("cheap", 1.0)] + ([("frontier", 1.0)] if n < repeated else [])
        await store.write_many([a_record(f"dec-{n}", **fields(n, calls, "router/2"))])
        other = fields(n, [("frontier", 1.0), ("frontier", 1.0)])
        failed = replace(other["calls"][0], usage=Usage(), what="failed")
        await store.write_many([a_record(f"other-{n}", **other | {"calls": (failed, other["calls"][1])})])
    said = await StepCheck(config, store).fault(CANARY, 1.0, AT + timedelta(seconds=30))
    assert (said is not None) == loses
    assert said is None or "loses money: 100.0% of 24 tries" in said
    allowed = config.model_copy(update={"policy": config.policy.model_copy(update={"allow_loss": True})})
    assert await StepCheck(allowed, store).fault(CANARY, 1.0, AT + timedelta(seconds=30)) is None


def tight(folder: Path, places: int) -> GraphConfig:
    """Two echo tiers, of which the last takes so many requests at once and costs three times as much."""
    data = echo_graph(folder).model_dump()
    data["policy"]["allow_loss"] = False
    cheap, last = data["tiers"]
    last["scaling"] |= {"max_replicas": 1, "max_ongoing_requests": places, "target_ongoing_requests": 1}
    for tier, usd in ((cheap, 1), (last, 3)):
        tier["price"] |= {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}
    return GraphConfig.model_validate(data)


def fields(second: int, calls: list[tuple[str, float]], version: str = "router/1") -> dict[str, Any]:
    lines = tuple(Call(tier, Usage(100, 100), seconds, Decimal(0)) for tier, seconds in calls)
    came = (AT + timedelta(seconds=second)).isoformat(timespec="milliseconds")
    return {"created_at": came, "version": version, "calls": lines, "overhead": (), "status": 200}


def paired(decision: str, calls: dict[str, list[str]] | None) -> Comparison:
    tiers = ("cheap", "frontier", "accepted", "escalated")
    detail = {} if calls is None else {"calls": calls}
    at = AT.isoformat()
    usd = (Decimal(0), Decimal(0))
    return Comparison(CANARY.id, decision, at, "stable", 0.05, "u", 1.0, False, False, *tiers, *usd, detail=detail)
