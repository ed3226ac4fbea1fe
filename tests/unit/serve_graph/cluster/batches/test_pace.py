"""Batches take what is left: no place beside interactive requests but one, and all of them when nobody asks."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.access.caller import CALLER, Caller
from serve_graph.access.turns import InteractiveTraffic
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.cluster.batches.pace import Pace
from serve_graph.cluster.load.admission import AdmissionController
from tests.fixtures.made_up_time import settled
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, jsonl, line


def test_places_double_while_nobody_asks_and_are_one_as_soon_as_somebody_does() -> None:
    now = [100.0]
    traffic = InteractiveTraffic(lambda: now[0])
    pace = Pace(traffic, 32, clock=lambda: now[0])
    seen = []
    for _ in range(7):
        seen.append(pace.places())
        now[0] += 0.25
    assert seen == [1, 2, 4, 8, 16, 32, 32]
    traffic.under_way += 1
    assert pace.places() == 1
    now[0] += 60.0
    assert pace.places() == 1  # a long stream is interactive to its end
    traffic.under_way -= 1
    traffic.left_at = now[0]
    now[0] += 0.9
    assert pace.places() == 1
    now[0] += 0.2
    assert pace.places() == 1
    now[0] += 0.25
    assert pace.places() == 2


async def test_places_are_given_in_turn_and_never_more_than_there_are() -> None:
    pace = Pace(InteractiveTraffic(), 3, 3)
    most, order = 0, []

    async def work(n: int) -> None:
        nonlocal most
        async with pace.place():
            order.append(n)
            most = max(most, pace.under_way)
            await asyncio.sleep(0.005)

    await asyncio.gather(*(work(n) for n in range(12)))
    assert (most, order) == (3, list(range(12)))
    assert pace.under_way == 0


async def test_within_a_second_of_a_request_no_more_than_one_line_is_begun(
    graph: Callable[..., BatchGraph],
) -> None:
    """The batch has all places; requests begin, and what the batch begins from then on is one at a time."""
    begun: list[float] = []
    loop = asyncio.get_running_loop()

    class Noting(FakeEngine):
        async def generate(self, query: Any, left_s: float = 9.0) -> Any:
            if CALLER.get().in_background:
                begun.append(loop.time())
            return await super().generate(query, left_s)

    at = graph(batches={"concurrency": 16}, fakes={"cheap": Noting("x", slow_s=0.5)})
    batch = await at.create(jsonl(*(line(n) for n in range(400))))
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    async with at.working(), at.client() as client:
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 40)
        alone = sum(loop.time() - 1.0 < moment for moment in begun)
        since = loop.time()
        while loop.time() < since + 3.0:
            assert (await client.post(CHAT, json=body)).status_code == 200
        beside = sum(since + 1.0 <= moment < since + 3.0 for moment in begun)
    assert alone > 8  # a second of 16 at a time: 32 on a machine that has nothing else to do
    assert 1 <= beside <= 6  # two seconds of one at a time: it does not starve


async def test_calls_behind_take_half_of_a_tiers_places_and_go_last() -> None:
    gate = AdmissionController("cheap", 4, 10)
    held: list[Any] = []

    async def hold(kind: str, until: asyncio.Event) -> None:
        async with gate.place(9.0) if kind == "asked" else gate.place_behind(9.0) as left:
            held.append((kind, left > 0))
            await until.wait()

    end, end_of_asked = asyncio.Event(), asyncio.Event()
    behind = [asyncio.create_task(hold("behind", end)) for _ in range(3)]
    await settled()
    assert (len(held), gate.in_flight) == (2, 2)  # half of four
    asked = [asyncio.create_task(hold("asked", end_of_asked)) for _ in range(3)]
    await settled()
    assert [kind for kind, _ in held[2:]] == ["asked", "asked"]
    end_of_asked.set()
    await settled()
    assert [kind for kind, _ in held[2:]] == ["asked"] * 3
    assert (gate.in_flight, len(gate.behind)) == (2, 1)
    behind[2].cancel()
    await settled()
    end.set()
    await asyncio.gather(*behind, *asked, return_exceptions=True)
    assert (gate.in_flight, len(gate.behind)) == (0, 0)


async def test_one_that_is_cancelled_as_it_is_given_a_place_gives_it_back() -> None:
    gate = AdmissionController("cheap", 2, 10)

    async def hold(until: asyncio.Event) -> None:
        async with gate.place_behind(9.0):
            await until.wait()

    end = asyncio.Event()
    first = asyncio.create_task(hold(end))
    await settled()
    second = asyncio.create_task(hold(asyncio.Event()))
    await settled()
    assert len(gate.behind) == 1
    end.set()
    while gate.behind:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert gate.in_flight == 0


@pytest.mark.parametrize(
    ("policy", "in_background", "priority"), [("priority", True, 1), ("priority", False, None), ("fcfs", True, None)]
)
async def test_vllm_is_told_that_nobody_waits_where_it_schedules_by_priority(
    policy: str, in_background: bool, priority: int | None
) -> None:
    from router_models.types import Query
    from serve_graph.cluster.tier_client import HandleEngine
    from serve_graph.config.tiers.kinds import VllmTierConfig

    tier = VllmTierConfig.model_validate(
        {
            "name": "cheap", "engine": "vllm", "weights": {"folder": "/models/x"},
            "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1},
            "engine_kwargs": {"scheduling_policy": policy},
        }
    )  # fmt: skip

    class Handle:
        def options(self, **_: Any) -> "Handle":
            return self

    token = CALLER.set(Caller(in_background=in_background))
    try:
        body = HandleEngine(Handle(), tier)._body(Query.from_prompt("x"))  # type: ignore[arg-type]
    finally:
        CALLER.reset(token)
    assert body.get("priority") == priority


async def test_requests_in_the_background_give_way_and_are_nothing_that_batches_yield_to(
    graph: Callable[..., BatchGraph],
) -> None:
    seen: list[tuple[int, bool]] = []

    class Seen(FakeEngine):
        async def generate(self, query: Any, left_s: float = 9.0) -> Any:
            seen.append((places.under_way, CALLER.get().in_background))
            return await super().generate(query, left_s)

    at = graph(keys=({"name": "ann"},), fakes={"cheap": Seen("x", slow_s=0.02)})
    places = Pace(at.accounts.traffic, 8)
    at.accounts.background_place = places.place
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    async with at.client("ann") as ann:
        headers = {"x-serve-graph-background": "1"}
        replies = await asyncio.gather(*(ann.post(CHAT, json=body, headers=headers) for _ in range(20)))
        assert {reply.status_code for reply in replies} == {200}
        assert not at.accounts.traffic.is_there
        at.accounts.traffic.under_way += 1  # somebody waits
        await asyncio.gather(*(ann.post(CHAT, json=body, headers=headers) for _ in range(5)))
        assert [one for one, _ in seen[20:]] == [1] * 5
        assert all(in_background for _, in_background in seen)
        assert (await ann.post(CHAT, json=body)).status_code == 200
    assert seen[-1] == (0, False)
    assert at.accounts.traffic.is_here
