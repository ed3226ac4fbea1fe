"""What requests may cost is held before they cost it, and nobody has calls for nothing by hanging up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from router_models.estimators.questions.terms import AskedSettings
from router_models.pricing.prices import Price
from router_models.types import Query, Usage
from serve_graph.access.accounts import AccountingSink, Accounts
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.context import AskedTerms
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.config.access import KeyConfig
from serve_graph.errors import (
    AccessError,
    BudgetSpentError,
    EngineError,
    EngineTimeoutError,
    RateLimitedError,
    RequestError,
)
from serve_graph.gateway.context_length import Room, prompt_tokens
from serve_graph.gateway.handler import Service
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.request import Request
from serve_graph.gateway.worst_case import permitted, worst_case, worst_signals

NOON = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
ROOMS = {"cheap": Room(2_000, 256), "frontier": Room(None, 512)}
PRICES = {"cheap": Price(Decimal(1), Decimal(1)), "frontier": Price(Decimal(10), Decimal(10))}


def key(**limits: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": "a", "sha256": "0" * 64, **limits})


def asking(**parameters: Any) -> Query:
    return Query(Query.from_prompt("hello").messages, parameters=parameters)


@dataclass
class Desk:
    """A service whose requests are those of one key."""

    service: Service
    accounts: Accounts
    caller: Caller

    def open(self, stream: bool = False, reserves: bool = True, **parameters: Any) -> Request:
        token = CALLER.set(self.caller)
        try:
            return self.service.open(asking(**parameters), "auto", stream, reserves=reserves)
        finally:
            CALLER.reset(token)


@pytest.fixture
def desk() -> Callable[..., Desk]:
    def make(engine: FakeEngine | None = None, sink: ListSink | None = None, **limits: Any) -> Desk:
        accounts = Accounts(today=lambda: NOON)
        context = fake_context(frontier=engine or FakeEngine("yes"), decider=FakeDecider("frontier"))
        charging = AccountingSink(sink or ListSink(), accounts, lambda _: key())
        return Desk(Service(context, charging, accounts=accounts), accounts, Caller(key(**limits)))

    return make


@pytest.mark.parametrize(
    ("parameters", "longest"),
    [({}, (256, 512)), ({"max_tokens": 10, "n": 3}, (30, 30)), ({"max_tokens": 2**31 - 1}, (2_000, 2**31 - 1))],
    ids=["the tiers' defaults", "every choice", "no longer than the context"],
)
def test_the_most_is_the_longest_answer_of_every_choice(parameters: dict[str, int], longest: tuple[int, int]) -> None:
    query = asking(**parameters)
    found = worst_case(query, ("cheap", "frontier"), PRICES, ROOMS)
    sent = prompt_tokens(query)
    assert list(found.values()) == [
        price.cost(Usage(sent, tokens)) for price, tokens in zip(PRICES.values(), longest, strict=True)
    ]
    assert worst_case(query, ("cheap",), PRICES, ROOMS, answers=False)["cheap"] == PRICES["cheap"].cost(Usage(sent, 0))


def test_a_budget_is_held_for_requests_in_progress_and_settled_with_their_records(desk: Callable[..., Desk]) -> None:
    at = desk(usd_per_day="0.01")
    first = at.open(max_tokens=200)
    with pytest.raises(BudgetSpentError, match="no room for a request that may cost"):
        at.open(max_tokens=2_000_000)
    assert at.accounts.spending.in_progress("a") == 1
    asyncio.run(at.service.answer(first))
    assert at.accounts.spending.in_progress("a") == 0
    assert at.accounts.spending.spent("a", NOON)[0] == first.cost_usd
    at.open(max_tokens=200)


def test_many_requests_at_once_are_not_let_in_beyond_the_budget(desk: Callable[..., Desk]) -> None:
    at = desk(usd_per_day="0.05")
    most = sum(worst_case(asking(max_tokens=1_000), ("cheap", "frontier"), at.service.context.prices, {}).values())
    for _ in range(int(Decimal("0.05") // most)):
        at.open(max_tokens=1_000)
    with pytest.raises(BudgetSpentError):
        at.open(max_tokens=1_000)
    assert at.accounts.spending.in_progress("a") > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_hangs_up_on_a_call_that_nobody_counts_pays_an_estimate(
    desk: Callable[..., Desk], stream: bool
) -> None:
    at = desk(FakeEngine("word " * 50, slow_s=60), usd_per_day="0.1")
    opened = at.open(stream, max_tokens=100)
    work = at.service.stream(opened) if stream else None
    task = asyncio.ensure_future(anext(work) if work else at.service.answer(opened))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if work is not None:
        await work.aclose()
    at.service.record(opened, asyncio.CancelledError())
    worst = worst_case(opened.query, ("frontier",), at.service.context.prices, {})["frontier"]
    assert at.accounts.spending.in_progress("a") == 0
    assert at.accounts.spending.spent("a", NOON)[0] == worst > opened.cost_usd


def test_a_key_has_as_many_requests_in_progress_as_it_may(desk: Callable[..., Desk]) -> None:
    at = desk(concurrency=2)
    first, _ = at.open(), at.open()
    with pytest.raises(RateLimitedError, match="2 request"):
        at.open()
    at.service.record(first, asyncio.CancelledError())
    at.open()


def test_a_request_that_is_only_checked_holds_nothing(desk: Callable[..., Desk]) -> None:
    at = desk(concurrency=1)
    at.open(reserves=False)
    assert at.accounts.spending.in_progress("a") == 0


def test_a_record_that_cannot_be_written_is_charged_all_the_same(desk: Callable[..., Desk]) -> None:
    class Full(ListSink):
        def write(self, record: Any) -> None:
            raise OSError(28, "No space left on device")

    at = desk(sink=Full(), concurrency=1)
    asyncio.run(at.service.answer(at.open()))
    assert at.accounts.spending.in_progress("a") == 0
    assert at.accounts.spending.spent("a", NOON)[0] > 0


@pytest.mark.parametrize(
    ("limits", "parameters", "floor", "named"),
    [
        ({"max_tokens": 100}, {"max_tokens": 101}, None, "max_tokens is 101"),
        ({"max_choices": 2}, {"n": 3}, None, "n is 3"),
        ({"max_quality_floor": 0.9}, {}, 1.0, "quality floor of 1"),
    ],
)
def test_what_a_key_does_not_permit_is_refused_by_name(
    limits: dict[str, Any], parameters: dict[str, Any], floor: float | None, named: str
) -> None:
    with pytest.raises((RequestError, AccessError), match=named):
        permitted(asking(**parameters), key(**limits), ResolvedOptions(quality_floor=floor), ROOMS)


def test_a_keys_own_floor_is_no_request_of_it() -> None:
    own = key(max_quality_floor=0.5, quality_floor=0.8)
    assert permitted(asking(), own, ResolvedOptions(quality_floor=0.8), ROOMS) == asking()


def test_answers_are_no_longer_than_the_key_permits_where_the_request_does_not_say() -> None:
    assert permitted(asking(), key(max_tokens=100), ResolvedOptions(), ROOMS).parameters == {"max_tokens": 100}
    assert permitted(asking(), key(max_tokens=600), ResolvedOptions(), ROOMS) == asking()


def test_what_is_asked_about_an_answer_is_held_of_whoever_is_asked() -> None:
    terms = AskedTerms({"cheap": ("agreement", "last_tier_verdict")}, "frontier")
    query = asking(max_tokens=10)
    sent = prompt_tokens(query)
    found = worst_signals(query, terms, ("cheap", "frontier"), PRICES, ROOMS)
    assert found["cheap"] == PRICES["cheap"].cost(Usage(3 * sent, 30))
    assert found["frontier"] == PRICES["frontier"].cost(Usage(sent + 10 + 25, 1))
    assert worst_signals(query, terms, ("frontier",), PRICES, ROOMS) == {}
    several = worst_signals(asking(max_tokens=10, n=2), terms, ("cheap",), PRICES, ROOMS)
    assert several == {tier: 2 * usd for tier, usd in found.items()}


@pytest.mark.parametrize(
    ("error", "counts"),
    [(EngineTimeoutError("took over 9 s"), True), (EngineError("500"), False)],
    ids=["late", "dead"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_call_that_a_time_out_cut_off_takes_the_most_of_its_keys_budget_and_a_failed_one_nothing(
    desk: Callable[..., Desk], error: EngineError, counts: bool, stream: bool
) -> None:
    """The provider may bill the former; it is on no bill, as nobody knows how much."""
    at = desk(usd_per_day="1")
    cheap = fake_context(cheap=FakeEngine(error=error))
    at.service.context = cheap
    at.service.terms = StreamTerms(StreamMode.ROUTE)
    opened = at.open(stream, max_tokens=100)
    if stream:
        assert [chunk async for chunk in at.service.stream(opened)]
    else:
        await at.service.answer(opened)
    assert opened.state.tier == "frontier"
    spent, _ = at.accounts.spending.spent("a", NOON)
    worst = worst_case(opened.query, ("cheap",), at.service.context.prices, {})["cheap"]
    assert spent == opened.cost_usd + (worst if counts else 0)


async def test_a_stream_that_said_nothing_in_time_and_was_left_for_another_tier_counts_at_the_most(
    desk: Callable[..., Desk],
) -> None:
    at = desk(usd_per_day="1")
    at.service.context = fake_context(cheap=FakeEngine(slow_s=60))
    at.service.terms = StreamTerms(StreamMode.PREFIX, first_token_s=0.05)
    opened = at.open(True, max_tokens=100)
    assert [chunk async for chunk in at.service.stream(opened)]
    assert opened.state.tier == "frontier"
    worst = worst_case(opened.query, ("cheap",), at.service.context.prices, {})["cheap"]
    assert at.accounts.spending.spent("a", NOON)[0] == opened.cost_usd + worst


def test_every_sampled_verdict_is_held_for() -> None:
    once, sampled = (
        worst_signals(
            asking(max_tokens=10), AskedTerms({"cheap": ("self_verification",)}, "frontier", settings=settings),
            ("cheap",), PRICES, ROOMS,
        )["cheap"]
        for settings in (AskedSettings(), AskedSettings(verdicts=4, verdict_tokens=30))
    )  # fmt: skip
    a_token = PRICES["cheap"].cost(Usage(0, 1))
    assert sampled == 4 * (once - a_token) + 120 * a_token


def test_a_budget_has_room_for_what_is_asked_about_an_answer(desk: Callable[..., Desk]) -> None:
    prices = fake_context().prices
    most = sum(worst_case(asking(max_tokens=10), ("cheap", "frontier"), prices, {}).values())
    at, other = (desk(usd_per_day=str(most)) for _ in range(2))
    at.open(max_tokens=10)
    context = other.service.context
    other.service.context = replace(context, asked=AskedTerms({"cheap": ("last_tier_verdict",)}, "frontier"))
    with pytest.raises(BudgetSpentError):
        other.open(max_tokens=10)
