"""One deadline for cheap try, verdict and escalation. Time is made up: it passes only while everybody waits."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.types import Action, Completion, Decision, Query, Verdict
from serve_graph.cascade.deadline import SLACK_S
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.errors import (
    DeadlineError,
    ServeGraphError,
    status_of,
)
from serve_graph.gateway.constraints import Latencies, RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.made_up_time import run
from tests.fixtures.sampling import examples

EPSILON = 1e-9


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Asked(FakeEngine):
    """An engine that notes when it was asked, and sleeps `pause_s` between two chunks."""

    pause_s: float = 0.0
    asked_at: list[float] = field(default_factory=list)

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        self.asked_at.append(now())
        return await super().generate(query, left_s)

    async def stream(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def, override]
        self.asked_at.append(now())
        async for chunk in super().stream(query, left_s):
            yield chunk
            await asyncio.sleep(self.pause_s)


@dataclass
class SlowJudge(FakeJudge):
    slow_s: float = 0.0

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        await asyncio.sleep(self.slow_s)
        return await super().judge(query, completion, decision)


class Usual(Latencies):
    """What every tier is known to take usually."""

    def __init__(self, **usual_s: float) -> None:
        super().__init__()
        self.usual_s = usual_s

    def expected_s(self, tier: str) -> float | None:
        return self.usual_s.get(tier)


@dataclass
class Seen:
    """What became of one request."""

    text: str
    took_s: float
    error: ServeGraphError | None
    sink: ListSink

    @property
    def status(self) -> int:
        return 200 if self.error is None else status_of(self.error)[0]

    @property
    def outcome(self) -> tuple[str, str]:
        return self.sink.records[0].tier, self.sink.records[0].outcome


async def ask(
    context: Any,
    deadline_s: float | None,
    *,
    wish_s: float | None = None,
    stream: bool = False,
    terms: StreamTerms | None = None,
    latencies: Latencies | None = None,
    model: str = "auto",
) -> Seen:
    sink = ListSink()
    routing = RoutingContext(0.9, latencies=latencies or Latencies())
    service = Service(context, sink, terms, routing=routing, deadline_s=deadline_s, clock=now)
    options = RequestOptions(deadline_s=wish_s)
    request = service.open(Query.from_prompt("why?"), model, stream, options)
    text, error = "", None
    try:
        if stream:
            async for chunk in service.stream(request):
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        else:
            text = (await service.answer(request))["choices"][0]["message"]["content"]
    except ServeGraphError as failure:
        error = failure
    return Seen(text, now(), error, sink)


@settings(max_examples=examples(100, whole=300), deadline=None)
@given(
    deadline_s=st.floats(0.01, 5.0),
    cheap_s=st.floats(0.0, 6.0),
    frontier_s=st.floats(0.0, 6.0),
    pause_s=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    verdict_s=st.floats(0.0, 3.0),
    usual=st.fixed_dictionaries({}, optional={"cheap": st.floats(0.1, 4.0), "frontier": st.floats(0.1, 4.0)}),
    verdict=st.sampled_from([Action.ACCEPTED, Action.ESCALATED, Action.ABSTAINED]),
    safe_tier=st.sampled_from(["cheap", "frontier"]),
    prefix_tokens=st.none() | st.integers(1, 3),
    stream=st.booleans(),
    mode=st.sampled_from(list(StreamMode)),
    first_token_s=st.none() | st.floats(0.1, 4.0),
    at_first_token=st.sampled_from(["commit", "escalate"]),
    hangs=st.sampled_from([None, None, None, 0, 2]),
    model=st.sampled_from(["auto", "auto", "auto", "cheap", "frontier"]),
)
def test_nobody_gets_more_time_than_is_left_and_every_reply_comes_in_time(
    deadline_s: float,
    cheap_s: float,
    frontier_s: float,
    pause_s: float,
    verdict_s: float,
    usual: dict[str, float],
    verdict: Action,
    safe_tier: str,
    prefix_tokens: int | None,
    stream: bool,
    mode: StreamMode,
    first_token_s: float | None,
    at_first_token: Literal["commit", "escalate"],
    hangs: int | None,
    model: str,
) -> None:
    cheap = Asked("the cheap one says", slow_s=cheap_s, pause_s=pause_s)
    frontier = Asked("THE DEAR ONE SAYS", slow_s=frontier_s, pause_s=pause_s, hang_after=hangs)
    judge = SlowJudge(verdict, slow_s=verdict_s)
    context = fake_context(cheap, frontier, judge=judge, safe_tier=safe_tier, prefix_tokens=prefix_tokens)
    terms = StreamTerms(mode, first_token_s, at_first_token)
    seen: Seen = run(ask(context, deadline_s, stream=stream, terms=terms, latencies=Usual(**usual), model=model))
    assert seen.took_s <= deadline_s + SLACK_S + EPSILON
    for engine in (cheap, frontier):
        for asked_at, left_s in zip(engine.asked_at, engine.left_s, strict=True):
            assert 0 < left_s <= deadline_s - asked_at + EPSILON
    assert seen.status in (200, 504)
    [record] = seen.sink.records
    assert record.status == seen.status
    told = {"cheap": cheap.text, "frontier": frontier.text}
    if record.outcome != "abstained":
        assert told[record.tier].startswith(seen.text)
        assert seen.error or seen.text == told[record.tier]


def test_escalation_gets_what_a_slow_cheap_answer_left() -> None:
    cheap, frontier = Asked(slow_s=1.5), Asked("THE DEAR ONE", slow_s=0.3)
    seen = run(ask(fake_context(cheap, frontier, judge=SlowJudge(Action.ESCALATED, slow_s=0.1)), 2.0))
    assert (seen.text, seen.outcome) == ("THE DEAR ONE", ("frontier", "escalated"))
    assert cheap.left_s == [pytest.approx(2.0)]
    assert frontier.left_s == [pytest.approx(0.4)]


def test_what_closing_the_cheap_stream_takes_is_off_the_escalations_time() -> None:
    class SlowToClose(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def]
            try:
                async for chunk in super().stream(query, left_s):
                    yield chunk
            finally:
                await asyncio.sleep(0.5)

    frontier = Asked("THE DEAR ONE")
    context = fake_context(SlowToClose(hang_after=2), frontier)
    seen = run(ask(context, 3.0, stream=True, terms=StreamTerms(first_token_s=1.0)))
    assert seen.outcome == ("frontier", "escalated")
    assert frontier.left_s == [pytest.approx(1.5)]


@pytest.mark.parametrize("stream", [False, True])
def test_escalation_that_does_not_fit_is_tried_and_ends_in_a_504(stream: bool) -> None:
    frontier = Asked(slow_s=1.0)
    context = fake_context(Asked(slow_s=1.5), frontier, judge=FakeJudge(Action.ESCALATED))
    seen = run(ask(context, 2.0, stream=stream))
    assert (seen.status, seen.text) == (504, "")
    assert frontier.left_s == [pytest.approx(0.5)]
    assert seen.took_s == pytest.approx(2.0)


@pytest.mark.parametrize("stream", [False, True])
def test_cheap_try_leaves_the_last_tier_what_it_usually_takes(stream: bool) -> None:
    frontier = Asked("THE DEAR ONE", slow_s=0.7)
    context = fake_context(Asked(slow_s=9.0), frontier)
    seen = run(ask(context, 2.0, stream=stream, latencies=Usual(frontier=0.8)))
    assert seen.text == "THE DEAR ONE"
    assert frontier.asked_at == [pytest.approx(1.2)]
    assert seen.outcome in [("frontier", "fallback"), ("frontier", "escalated")]


def test_where_the_last_tier_would_not_fit_anyway_the_cheap_try_has_it_all() -> None:
    cheap = Asked(slow_s=1.9)
    assert run(ask(fake_context(cheap), 2.0, latencies=Usual(frontier=5.0))).outcome == ("cheap", "accepted")
    assert cheap.left_s == [2.0]


def test_known_to_be_too_slow_together_goes_straight_to_the_last_tier() -> None:
    cheap = Asked(slow_s=1.0)
    seen = run(ask(fake_context(cheap, Asked(slow_s=1.0)), 2.0, latencies=Usual(cheap=1.2, frontier=1.2)))
    assert (seen.outcome, cheap.asked_at) == (("frontier", "routed"), [])


def test_stream_that_speaks_already_ends_with_the_error_at_the_deadline() -> None:
    context = fake_context(frontier=Asked("0123456789ABCDEF", pause_s=0.5), decider=FakeDecider("frontier"))
    seen = run(ask(context, 1.2, stream=True))
    assert isinstance(seen.error, DeadlineError)
    assert 0 < len(seen.text) < 16
    assert "0123456789ABCDEF".startswith(seen.text)
    assert seen.took_s <= 1.2 + SLACK_S + EPSILON
    assert context.engines["frontier"].closed == 1  # type: ignore[attr-defined]


def test_engine_that_keeps_no_deadline_is_cut_off() -> None:
    class Deaf(FakeEngine):
        async def _think(self, left_s: float) -> None:
            await asyncio.sleep(3600)

    deaf = Deaf()
    seen = run(ask(fake_context(deaf), 1.0))
    assert (seen.status, seen.took_s, deaf.closed) == (504, 1.0 + SLACK_S, 1)


def test_verifier_that_hangs_does_not_outlast_the_deadline_nor_let_the_answer_through() -> None:
    seen = run(ask(fake_context(judge=SlowJudge(slow_s=3600)), 1.0))
    assert (seen.status, seen.text) == (504, "")
    assert "within the deadline of 1 s" in str(seen.error)


@pytest.mark.parametrize(
    ("own", "wish", "counts"), [(2.0, 1.0, 1.0), (1.0, 2.0, 1.0), (None, 1.0, 1.0), (1.0, None, 1.0)]
)
def test_sooner_of_the_configured_and_the_requests_own_counts(
    own: float | None, wish: float | None, counts: float
) -> None:
    cheap = Asked()
    run(ask(fake_context(cheap), own, wish_s=wish))
    assert cheap.left_s == [counts]


def test_without_a_deadline_nothing_is_in_a_hurry() -> None:
    cheap, frontier = Asked(slow_s=5000.0), Asked("THE DEAR ONE", slow_s=5000.0)
    seen = run(ask(fake_context(cheap, frontier, judge=FakeJudge(Action.ESCALATED)), None))
    assert (seen.text, seen.took_s, frontier.left_s) == ("THE DEAR ONE", 10_000.0, [math.inf])


def test_what_was_cancelled_is_on_the_bill() -> None:
    class Deaf(FakeEngine):
        async def _think(self, left_s: float) -> None:
            await asyncio.sleep(3600)

    [record] = run(ask(fake_context(Deaf()), 1.0)).sink.records
    assert [(line.tier, line.what) for line in record.bill if line.what == "cancelled"] == [("cheap", "cancelled")]
    assert (record.status, record.error) == (504, "timeout_error")
    assert record.evidence["deadline_s"] == 1.0
