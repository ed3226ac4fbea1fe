"""Callers who hang up again and again keep places of their key, and nobody else's."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router_models.types import DecisionRecord, Query
from serve_graph.access.accounts import HUNG_UP, Accounts
from serve_graph.access.hang_ups import FREE_PER_MIN, KEPT_S, HangUps
from serve_graph.cascade.fakes import FakeEngine, ListSink, fake_context
from serve_graph.config.access import KeyConfig
from serve_graph.errors import RateLimitedError, ServeGraphError
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.made_up_time import run


def key(name: str = "mallory", **limits: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": name, "sha256": "ab" * 32, **limits})


def test_a_few_a_minute_keep_no_place_and_more_keep_one_for_a_while() -> None:
    hang_ups = HangUps()
    for _ in range(FREE_PER_MIN):
        hang_ups.note("a", 0.0)
    assert hang_ups.kept("a", 0.0) == 0
    for n in range(5):
        hang_ups.note("a", 0.0)
        assert hang_ups.kept("a", 0.0) == n + 1
    assert hang_ups.kept("b", 0.0) == 0
    assert hang_ups.kept("a", KEPT_S) == 0
    hang_ups.note("a", 60.0)
    assert hang_ups.kept("a", 60.0) == 0, "a minute later"


def test_places_that_are_kept_are_bounded() -> None:
    hang_ups = HangUps()
    for _ in range(10_000):
        hang_ups.note("a", 0.0)
    assert hang_ups.kept("a", 0.0) <= 256


@pytest.mark.parametrize(
    "ending",
    [
        {"status": 499, "error": HUNG_UP},
        {"status": 504, "error": "timeout_error", "evidence": {"wishes": {"deadline_s": 0.1}}},
    ],
    ids=["hangs up", "deadline"],
)
def test_a_flood_of_hang_ups_is_held_to_the_keys_concurrency(
    a_record: Callable[..., DecisionRecord], ending: dict[str, Any]
) -> None:
    """Each is abandoned at once: without places that are kept, as many as can be sent would be begun in a second."""
    now = [0.0]
    accounts, mallory, alice = Accounts(clock=lambda: now[0]), key(concurrency=4), key("alice", concurrency=1)
    abandoned = a_record(key="mallory", **ending)

    def begun(seconds: float) -> int:
        done, until = 0, now[0] + seconds
        while now[0] < until:
            now[0] += 0.001
            try:
                accounts.enter(mallory)
            except RateLimitedError:
                continue
            done += 1
            accounts.charge(replace(abandoned, id=f"dec-{now[0]}"), mallory)
            accounts.leave(mallory)
        return done

    begun(1.0)
    assert begun(10.0) <= 10 * 4 / KEPT_S + 10 * FREE_PER_MIN / 60
    accounts.enter(alice)
    accounts.leave(alice)
    now[0] += KEPT_S
    accounts.enter(mallory)


@pytest.mark.parametrize("error", [None, "timeout_error", "overloaded_error"])
def test_answers_and_other_ends_keep_no_place(a_record: Callable[..., DecisionRecord], error: str | None) -> None:
    accounts = Accounts(clock=lambda: 0.0)
    for _ in range(3 * FREE_PER_MIN):
        accounts.charge(a_record(key="mallory", error=error), key())
    assert accounts.hang_ups.kept("mallory", 0.0) == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("hang_after", [None, 2], ids=["before an answer", "in the middle"])
def test_requests_that_their_own_deadline_ends_count_and_those_that_the_graphs_ends_do_not(
    stream: bool, hang_after: int | None
) -> None:
    slow_s = 0.0 if hang_after and stream else math.inf

    async def ended(service: Service, request: Request) -> None:
        if stream:
            async for _ in service.stream(request):
                pass
        else:
            await service.answer(request)

    async def kept(graphs_s: float | None, own_s: float | None) -> int:
        context, sink = fake_context(cheap=FakeEngine(slow_s=slow_s, hang_after=hang_after)), ListSink()
        service = Service(context, sink, deadline_s=graphs_s, clock=asyncio.get_running_loop().time)
        request = service.open(Query.from_prompt("why?"), "cheap", stream, RequestOptions(deadline_s=own_s))
        with pytest.raises(ServeGraphError):
            await ended(service, request)
        accounts, [record] = Accounts(clock=lambda: 0.0), sink.records
        for n in range(2 * FREE_PER_MIN):
            accounts.charge(replace(record, key="mallory", id=f"dec-{n}"), key())
        return accounts.hang_ups.kept("mallory", 0.0)

    assert run(kept(None, 0.5)) == FREE_PER_MIN
    assert run(kept(0.5, None)) == 0
