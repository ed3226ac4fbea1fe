import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from router_models.pricing.prices import Price, PriceList
from router_models.pricing.savings import savings
from router_models.types import Action, Attempt, Call, Completion, Query, Usage
from serve_graph.cascade.asked import AskedCall, AskedReply, make_call, told_signals
from serve_graph.cascade.billing import answered, purposes, timed, total, unanswered
from serve_graph.cascade.context import AskedTerms
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import RequestState
from serve_graph.errors import EngineError, EngineTimeoutError, PolicyUnavailableError
from serve_graph.gateway.handler import Service
from serve_graph.protocol.responses import usage_of
from serve_graph.records.explanation import sentences

Endpoints = Callable[..., Any]
D = Decimal
OWN = {"cheap": Price(D(1), D(2), engine_usd_per_s=D("0.001")), "frontier": Price(D(10), D(20))}


def a_call(tier: str) -> Call:
    return Call(tier, Usage(1, 1), 0.1, D(1))


@pytest.mark.parametrize(
    ("tiers", "tier", "action", "words"),
    [
        (["cheap"], "cheap", Action.ACCEPTED, ["answer"]),
        (["cheap", "frontier"], "frontier", Action.ESCALATED, ["attempt", "escalation"]),
        (["cheap", "frontier"], "frontier", Action.FALLBACK, ["attempt", "fallback"]),
        (["cheap"], "frontier", Action.ESCALATED, ["attempt"]),
        (["frontier"], "frontier", Action.ROUTED, ["answer"]),
        ([], "none", Action.ROUTED, []),
    ],
)
def test_each_call_says_what_it_was_for(tiers: list[str], tier: str, action: Action, words: list[str]) -> None:
    assert [call.what for call in purposes([a_call(t) for t in tiers], tier, action)] == words


def test_time_on_ones_own_engine_is_paid_beside_the_tokens() -> None:
    line = answered(OWN, "cheap", Completion("", usage=Usage(10, 5)), 2.0)
    assert line.parts == {"input": D("0.00001"), "output": D("0.00001"), "engine_time": D("0.002")}
    assert line.cost_usd == total(line.parts.values()) == D("0.00202")


def test_the_tariff_that_the_api_says_it_applied_is_charged() -> None:
    prices = {"cheap": Price(D(1), D(2), batch_factor=D("0.5"), priority_factor=D(2))}
    usual, batch, flex, priority, unknown = (
        answered(prices, "cheap", Completion("", usage=Usage(10, 5), payload={"service_tier": tariff}), 0.0).cost_usd
        for tariff in ("default", "batch", "flex", "priority", None)
    )
    assert batch == flex == usual / 2
    assert unknown == usual == priority / 2 == D("0.00002")


def test_a_call_is_charged_the_price_of_when_it_began() -> None:
    cut = datetime.now(UTC) - timedelta(seconds=30)
    prices = {"cheap": PriceList(Price(D(8), D(8)), ((cut, Price(D(1), D(1))),))}
    completion = Completion("", usage=Usage(1, 0))
    assert answered(prices, "cheap", completion, 1.0).cost_usd == D("0.000001")
    assert answered(prices, "cheap", completion, 60.0).cost_usd == D("0.000008")


def test_broken_calls_hold_the_engines_time_and_admit_that_tokens_are_unknown() -> None:
    failed = unanswered(OWN, "cheap", 2.0, EngineError("dead"))
    cancelled = unanswered(OWN, "cheap", 2.0, asyncio.CancelledError())
    assert (failed.what, cancelled.what) == ("failed", "cancelled")
    for late in (TimeoutError(), EngineTimeoutError("took over 9 s")):
        assert unanswered(OWN, "cheap", 2.0, late).what == "cancelled", "nobody waited any longer"
    assert failed.cost_usd == cancelled.cost_usd == D("0.002")
    assert not failed.metered


def test_the_time_of_router_and_verifier_is_a_line_at_their_price() -> None:
    line = timed("router", "routing", 0.5, D("0.002"))
    assert (line.tier, line.what, line.usage, line.latency_s) == ("router", "routing", Usage(), 0.5)
    assert line.cost_usd == line.parts["time"] == D("0.001")
    free = timed("verifier", "judging", 0.5, D(0))
    assert (free.cost_usd, free.parts) == (0, {})


async def test_time_is_billed_however_it_ends() -> None:
    sink = ListSink()
    down = PolicyUnavailableError("down")
    context = replace(fake_context(decider=FakeDecider(error=down)), router_usd_per_s=D(1000))
    service = Service(context, sink)
    await service.answer(service.open(Query.from_prompt("hello"), "auto", False))
    [line] = [line for line in sink.records[0].bill if line.tier == "router"]
    assert (line.what, line.usage) == ("routing", Usage())
    assert line.cost_usd == line.parts["time"] > 0


@pytest.mark.parametrize(
    "details", [{"cache_write_tokens": 30}, {"cache_creation_tokens": 30}, {"cache_write_tokens": 30, "audio": 1}]
)
def test_written_tokens_are_read_under_either_name(details: dict[str, int]) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 20, **details}}
    assert usage_of(usage) == Usage(100, 5, 20, 30)
    assert usage_of({}) == usage_of({"prompt_tokens": None, "prompt_tokens_details": None}) == Usage()


async def billed(**fakes: Any) -> Any:
    sink = ListSink()
    context = replace(fake_context(**fakes), router_usd_per_s=D(1), verifier_usd_per_s=D(1))
    service = Service(context, sink)
    request = service.open(Query.from_prompt("hello"), "auto", False)
    await service.answer(request)
    return sink.records[0]


async def test_an_escalated_requests_bill_has_every_line() -> None:
    record = await billed(judge=FakeJudge(Action.ESCALATED))
    assert [(line.tier, line.what) for line in record.bill] == [
        ("cheap", "attempt"),
        ("frontier", "escalation"),
        ("router", "routing"),
        ("verifier", "judging"),
    ]
    assert record.cost_usd == sum(line.cost_usd for line in record.bill)
    assert record.cost_usd > D("0.00022")  # what the two calls alone cost
    assert all(line.cost_usd == sum(line.parts.values()) for line in record.bill)


async def test_a_failed_cheap_call_is_on_the_bill() -> None:
    record = await billed(cheap=FakeEngine(error=EngineError("dead")))
    assert [(line.tier, line.what) for line in record.bill] == [
        ("frontier", "fallback"),
        ("router", "routing"),
        ("cheap", "failed"),
    ]


async def test_a_cancelled_request_pays_for_what_it_began() -> None:
    called = asyncio.Event()

    @Function
    async def never(_: Query, left_s: float) -> Completion:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError

    sink = ListSink()
    context = fake_context()
    service = Service(replace(context, engines={**context.engines, "cheap": never}, prices=OWN), sink)
    task = asyncio.ensure_future(service.answer(service.open(Query.from_prompt("hello"), "auto", False)))
    await called.wait()
    await asyncio.sleep(0.02)  # what it costs is by the second
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [record] = sink.records
    [line] = [line for line in record.bill if line.tier == "cheap"]
    assert (record.status, line.what, line.metered) == (499, "cancelled", False)
    assert line.cost_usd == record.cost_usd > D("0.00001")
    assert service.metrics.unmetered[("cheap", "cancelled")] == 1
    text = "\n".join(sentences(record, None))
    assert "Paid: cancelled by cheap, tokens unknown" in text
    assert "excluding the tokens of 1 call(s) without usage data." in text
    assert "1 call is only partly included" in savings([record], "frontier", context.prices).text()


async def test_verdicts_that_nobody_waits_for_any_longer_end_and_are_on_the_bill() -> None:
    class FirstIsDown(FakeJudge):
        async def judge(self, query, completion, decision):  # type: ignore[no-untyped-def]
            self.completions.append(completion)
            if len(self.completions) == 1:
                raise PolicyUnavailableError("no reply in 2 s")
            await asyncio.Event().wait()

    sink = ListSink()
    service = Service(fake_context(judge=FirstIsDown()), sink)
    query = replace(Query.from_prompt("hello"), parameters={"n": 3})
    await service.answer(service.open(query, "auto", False))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    [record] = sink.records
    assert record.outcome == "fallback"
    assert [line.tier for line in record.overhead] == ["router", "verifier", "verifier", "verifier"]


class Function:
    """An Engine of one function."""

    def __init__(self, generate: Callable[[Query], Any]) -> None:
        self.generate = generate


async def test_forced_requests_pay_no_router(endpoint: Endpoints) -> None:
    at = endpoint(decider=FakeDecider())
    await at.chat("frontier")
    assert [line.what for line in at.record.bill] == ["answer"]


@pytest.mark.parametrize("answers", [True, False])
async def test_what_a_call_for_a_signal_was_charged_without_an_answer_is_on_the_bill(answers: bool) -> None:
    """Both ways of asking: with a tier at hand, and with replies from elsewhere, as in passes over a dataset."""
    charged = (Attempt("a", 502, 0.1, {"prompt_tokens": 100, "completion_tokens": 7}), Attempt("b", 503, 0.1))
    said = Completion("yes", usage=Usage(100, 1), attempts=charged)
    failed = EngineError("no answer", charged)

    class Charging(FakeEngine):
        async def generate(self, query: Query, left_s: float = 9.0) -> Completion:
            if answers:
                return said
            raise failed

    context = replace(fake_context(), asked=AskedTerms({"cheap": ("p_true",)}, "frontier", {"cheap": Charging()}))
    calls = [AskedCall("p_true", "cheap", Query(()))]
    near, far = RequestState(), RequestState()
    with nullcontext() if answers else pytest.raises(EngineError, match="no answer"):
        await make_call(context, calls[0], near, 9.0)
    reply = AskedReply(said if answers else failed, 0.1)
    told_signals(context, Completion("an answer"), ("p_true",), calls, [reply], far)
    own = "p_true" if answers else "failed"
    for state in (near, far):
        assert [(line.what, line.usage.prompt_tokens) for line in state.overhead] == [
            (own, 100 if answers else 0), ("p_true", 100),
        ]  # fmt: skip
        price = context.prices["cheap"].at(datetime.now(UTC))
        assert state.overhead[1].cost_usd == price.cost(Usage(100, 7)) > 0
