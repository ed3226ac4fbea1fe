"""Requests under way while a certificate ends, and new ones after it."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router_models.types import Completion, Decision, Query, Verdict
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request
from serve_graph.policy.validity import CertificateStatus, Validity, ValidityPeriod

MADE = datetime(2026, 1, 1, tzinfo=UTC)
EXPIRES = MADE + timedelta(days=90)
MOMENT = timedelta(seconds=1)


@dataclass
class Calendar:
    """A clock that stands still until it is moved."""

    now: datetime = MADE

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Serving:
    """A Service over fakes whose certificate ends at EXPIRES, at a time of the test's own."""

    calendar: Calendar = field(default_factory=Calendar)
    sink: ListSink = field(default_factory=ListSink)

    def over(
        self, context: CascadeContext, terms: StreamTerms | None = None, prefix_ends: datetime = EXPIRES
    ) -> Service:
        ends = {name: ValidityPeriod((MADE, end), (None, f"over: {name}")) for name, end in
                (("whole", EXPIRES), ("cheap", prefix_ends))}  # fmt: skip
        certificate_status = CertificateStatus(
            Validity(ends["whole"], {"cheap": ends["cheap"]}), "fake/1", self.calendar
        )
        return Service(context, self.sink, terms, routing=RoutingContext(0.9, certificate_status=certificate_status))

    @property
    def outcome(self) -> tuple[str, str]:
        [record] = self.sink.records
        return record.tier, record.outcome

    @property
    def reason(self) -> str:
        [record] = self.sink.records
        return record.route_reason


def asked(service: Service, forced: str = "auto", stream: bool = False) -> Request:
    return service.open(Query.from_prompt("why?"), forced, stream)


async def streamed(service: Service) -> str:
    said = ""
    async for chunk in service.stream(asked(service, stream=True)):
        said += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    return said


@pytest.mark.parametrize("safe_tier", ["cheap", "frontier"])
@pytest.mark.parametrize("stream", [False, True])
async def test_after_the_end_the_last_tier_answers_marked_whatever_the_safe_tier(safe_tier: str, stream: bool) -> None:
    serving, cheap, decider = Serving(), FakeEngine("cheap says"), FakeDecider()
    service = serving.over(fake_context(cheap, decider=decider, safe_tier=safe_tier))
    serving.calendar.now = EXPIRES
    if stream:
        assert await streamed(service) == "frontier says"
    else:
        reply = await service.answer(asked(service))
        assert reply["serve_graph"]["outcome"] == "fallback"
    assert serving.outcome == ("frontier", "fallback")
    assert "over: whole" in serving.reason
    assert serving.sink.records[0].evidence["promised"] is None
    assert cheap.queries == []
    assert decider.queries == []


async def test_a_moment_before_the_end_nothing_is_different() -> None:
    serving = Serving(Calendar(EXPIRES - MOMENT))
    service = serving.over(fake_context())
    await service.answer(asked(service))
    assert serving.outcome == ("cheap", "accepted")
    assert serving.sink.records[0].evidence["promised"] == 0.9


class Ends(FakeEngine):
    """An engine during whose answer the certificate ends."""

    def __init__(self, calendar: Calendar, **fields: Any) -> None:
        super().__init__("cheap says a lot of things", **fields)
        self.calendar = calendar

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        self.calendar.now = EXPIRES
        return await super().generate(query, left_s)

    async def stream(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def, override]
        async for i, chunk in numbered(super().stream(query, left_s)):
            if i == 12:
                self.calendar.now = EXPIRES
            yield chunk


async def numbered(chunks: Any) -> Any:
    i = 0
    async for chunk in chunks:
        yield i, chunk
        i += 1


class EndsWhileJudged(FakeJudge):
    calendar: Calendar

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        verdict = await super().judge(query, completion, decision)
        self.calendar.now = EXPIRES
        return verdict


@pytest.mark.parametrize("safe_tier", ["cheap", "frontier"])
async def test_cheap_answer_in_flight_at_the_end_is_not_accepted(safe_tier: str) -> None:
    serving, judge = Serving(), FakeJudge()
    service = serving.over(fake_context(Ends(serving.calendar), judge=judge, safe_tier=safe_tier))
    reply = await service.answer(asked(service))
    assert reply["choices"][0]["message"]["content"] == "frontier says"
    assert serving.outcome == ("frontier", "fallback")
    assert judge.completions == []


async def test_verdict_in_flight_at_the_end_does_not_count() -> None:
    serving, judge = Serving(), EndsWhileJudged()
    judge.calendar = serving.calendar
    service = serving.over(fake_context(judge=judge))
    await service.answer(asked(service))
    assert serving.outcome == ("frontier", "fallback")
    assert len(judge.completions) == 1


async def test_stream_that_was_let_through_before_the_end_goes_on() -> None:
    serving = Serving()
    context = fake_context(Ends(serving.calendar, piece_chars=1), prefix_tokens=4)
    assert await streamed(serving.over(context, StreamTerms(StreamMode.PREFIX))) == "cheap says a lot of things"
    assert serving.outcome == ("cheap", "accepted")


async def test_stream_that_is_still_hidden_at_the_end_is_dropped_unseen() -> None:
    serving = Serving()
    context = fake_context(Ends(serving.calendar, piece_chars=1), prefix_tokens=16, safe_tier="cheap")
    assert await streamed(serving.over(context, StreamTerms(StreamMode.PREFIX))) == "frontier says"
    assert serving.outcome == ("frontier", "fallback")


async def test_without_its_prefix_certificate_an_answer_is_judged_whole() -> None:
    serving, judge = Serving(), FakeJudge()
    context = fake_context(FakeEngine("cheap says a lot"), judge=judge, prefix_tokens=2)
    service = serving.over(context, StreamTerms(StreamMode.PREFIX), prefix_ends=MADE + MOMENT)
    serving.calendar.now = MADE + MOMENT
    assert await streamed(service) == "cheap says a lot"
    assert serving.outcome == ("cheap", "accepted")
    assert [c.finish_reason for c in judge.completions] == ["stop"]


async def test_beginning_judged_in_the_moment_its_certificate_ended_is_escalated() -> None:
    serving = Serving()
    context = fake_context(Ends(serving.calendar, piece_chars=1), prefix_tokens=16)
    service = serving.over(context, StreamTerms(StreamMode.PREFIX), prefix_ends=EXPIRES - 2 * MOMENT)
    request = asked(service, stream=True)
    serving.calendar.now = EXPIRES - 2 * MOMENT
    pieces = [chunk async for chunk in service.stream(request)]
    assert pieces[-1]["serve_graph"]["tier"] == "frontier"


async def test_a_tier_asked_for_by_name_needs_no_certificate() -> None:
    serving = Serving(Calendar(EXPIRES))
    service = serving.over(fake_context())
    await service.answer(asked(service, forced="cheap"))
    assert serving.outcome == ("cheap", "forced")
