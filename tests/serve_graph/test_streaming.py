import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from router_models.types import Action, Completion, Query, Usage
from serve_graph.cascade import Graph
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError
from serve_graph.service import ABSTENTION, Request, Service
from serve_graph.streaming import KEEP_ALIVE, kept_alive
from serve_graph.testing import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_graph

QUERY = Query.from_prompt("why?")
LONG = "A long answer, with ☃ and\nnew lines: " + "word " * 40
TO_FRONTIER = FakeDecider("frontier", 0.1)


class Stream:
    """One streamed request, read to its end."""

    def __init__(self, graph: Graph, model: str = "auto", query: Query = QUERY, include_usage: bool = False) -> None:
        self.sink = ListSink()
        self.service = Service(graph, self.sink)
        self.request: Request = self.service.open(query, model, True)
        self.request.include_usage = include_usage

    async def read(self) -> "Stream":
        self.raw = [item async for item in await self.service.stream(self.request)]
        self.done = self.raw[-1] == b"data: [DONE]\n\n"
        events = self.raw[:-1] if self.done else self.raw
        assert all(item.startswith(b"data: ") and item.endswith(b"\n\n") for item in events)
        self.events: list[dict[str, Any]] = [json.loads(item.removeprefix(b"data: ")) for item in events]
        return self

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [event["choices"][0] for event in self.events if event.get("choices")]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)


GRAPHS = {
    "accepted, buffered": lambda: fake_graph(FakeEngine(LONG)),
    "escalated, live": lambda: fake_graph(frontier=FakeEngine(LONG), judge=FakeJudge(Action.ESCALATED)),
    "routed, live": lambda: fake_graph(frontier=FakeEngine(LONG), decider=TO_FRONTIER),
}


@pytest.fixture(params=GRAPHS.values(), ids=GRAPHS.keys())
def graph(request: pytest.FixtureRequest) -> Graph:
    made: Graph = request.param()
    return made


async def test_chunks_joined_are_the_answer(graph: Graph) -> None:
    assert (await Stream(graph).read()).text == LONG


async def test_role_comes_first_and_once(graph: Graph) -> None:
    choices = (await Stream(graph).read()).choices
    assert choices[0]["delta"]["role"] == "assistant"
    assert [c for c in choices[1:] if "role" in c["delta"]] == []


async def test_finish_reason_comes_last_and_once(graph: Graph) -> None:
    choices = (await Stream(graph).read()).choices
    assert choices[-1]["finish_reason"] == "stop"
    assert {c["finish_reason"] for c in choices[:-1]} == {None}


async def test_stream_ends_with_done(graph: Graph) -> None:
    stream = await Stream(graph).read()
    assert stream.done
    assert stream.raw.count(b"data: [DONE]\n\n") == 1


async def test_every_chunk_carries_one_id_and_the_tiers_name(graph: Graph) -> None:
    stream = await Stream(graph).read()
    assert {event["id"] for event in stream.events} == {f"chatcmpl-{stream.request.id[4:]}"}
    assert {event["object"] for event in stream.events} == {"chat.completion.chunk"}
    assert {event["model"] for event in stream.events} == {stream.request.trail.tier}


async def test_usage_is_sent_once_if_asked_for(graph: Graph) -> None:
    events = (await Stream(graph, include_usage=True).read()).events
    assert [i for i, event in enumerate(events) if event.get("usage")] == [len(events) - 1]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 5


async def test_usage_is_not_sent_unasked(graph: Graph) -> None:
    assert [event for event in (await Stream(graph).read()).events if "usage" in event] == []


async def test_last_event_says_what_happened_and_what_it_cost(graph: Graph) -> None:
    stream = await Stream(graph).read()
    [facts] = [event["serve_graph"] for event in stream.events if "serve_graph" in event]
    [record] = stream.sink.records
    assert facts["decision"] == record.id
    assert facts["tier"] == record.tier
    assert facts["outcome"] == record.outcome
    assert float(facts["cost_usd"]) == pytest.approx(float(record.cost_usd))
    assert record.cost_usd == sum(call.cost_usd for call in record.calls) > 0


async def test_one_record_is_written_before_done(graph: Graph) -> None:
    stream = Stream(graph)
    async for item in await stream.service.stream(stream.request):
        assert len(stream.sink.records) == (item == b"data: [DONE]\n\n")
    [record] = stream.sink.records
    assert (record.status, record.stream, record.error) == (200, True, None)


async def test_logprobs_are_shown_only_to_who_asked(graph: Graph) -> None:
    assert [c for c in (await Stream(graph).read()).choices if c.get("logprobs")] == []


async def test_logprobs_of_a_live_stream_are_kept_if_asked_for() -> None:
    graph = fake_graph(frontier=FakeEngine("abcdefgh"), decider=TO_FRONTIER)
    stream = await Stream(graph, query=Query(QUERY.messages, {}, {"logprobs": True})).read()
    tokens = [t["token"] for c in stream.choices if c.get("logprobs") for t in c["logprobs"]["content"]]
    assert tokens == ["abcd", "efgh"]


async def test_logprobs_and_tool_calls_of_a_buffered_answer_are_kept() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1}]}
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    payload = {"choices": [{"message": message, "finish_reason": "tool_calls", "logprobs": logprobs}]}

    class ToolEngine(FakeEngine):
        async def generate(self, query: Query) -> Completion:
            return Completion("", "tool_calls", Usage(3, 1), (), 0.0, payload)

    stream = await Stream(fake_graph(ToolEngine()), query=Query(QUERY.messages, {}, {"logprobs": True})).read()
    assert stream.choices[0]["logprobs"] == logprobs
    assert [c["delta"]["tool_calls"] for c in stream.choices if "tool_calls" in c["delta"]] == [
        [{"index": 0, **calls[0]}]
    ]
    assert stream.choices[-1]["finish_reason"] == "tool_calls"


async def test_abstention_is_streamed_instead_of_the_answer() -> None:
    stream = await Stream(fake_graph(FakeEngine(LONG), judge=FakeJudge(Action.ABSTAINED))).read()
    assert stream.text == ABSTENTION
    assert stream.sink.records[0].outcome == "abstained"


async def test_last_tier_streams_through_even_where_a_whole_answer_might_be_abstained_from() -> None:
    judge = FakeJudge(Action.ABSTAINED)
    graph = fake_graph(frontier=FakeEngine(LONG), decider=TO_FRONTIER, judge=judge, abstain_at_top=0.5)
    stream = await Stream(graph).read()
    assert (stream.text, stream.sink.records[0].outcome, judge.completions) == (LONG, "routed", [])


@pytest.mark.parametrize(
    ("error", "status"),
    [(EngineError("dead"), 503), (EngineTimeoutError("slow"), 504), (EngineRequestError("too long"), 400)],
)
async def test_error_before_the_first_chunk_is_raised_and_recorded(error: EngineError, status: int) -> None:
    stream = Stream(fake_graph(frontier=FakeEngine(error=error), decider=TO_FRONTIER))
    with pytest.raises(type(error)):
        await stream.service.stream(stream.request)
    [record] = stream.sink.records
    assert record.status == status


async def test_engine_that_says_nothing_at_all_is_an_error_before_the_first_chunk() -> None:
    class Mute(FakeEngine):
        def _chunks(self):  # type: ignore[no-untyped-def]
            return iter(())

    stream = Stream(fake_graph(frontier=Mute(), decider=TO_FRONTIER))
    with pytest.raises(EngineError, match="without finishing"):
        await stream.service.stream(stream.request)


@pytest.mark.parametrize(
    ("engine", "status", "word"),
    [
        (FakeEngine(LONG, break_after=3, breaks_with=EngineError("the replica died")), 503, "the replica died"),
        (FakeEngine(LONG, break_after=3, breaks_with=EngineTimeoutError("fell silent")), 504, "fell silent"),
        (FakeEngine(LONG, break_after=3, breaks_with=KeyError("secret")), 500, "internal error"),
        (FakeEngine(LONG, finishes=False), 503, "without finishing"),
    ],
    ids=["dead", "silent", "bug", "cut"],
)
async def test_error_after_the_first_chunk_is_an_event_and_no_done(engine: FakeEngine, status: int, word: str) -> None:
    stream = await Stream(fake_graph(frontier=engine, decider=TO_FRONTIER)).read()
    assert not stream.done
    assert word in stream.events[-1]["error"]["message"]
    assert stream.events[-1]["error"]["code"] == "stream_broken"
    assert "secret" not in stream.raw[-1].decode()
    assert LONG.startswith(stream.text)
    [record] = stream.sink.records
    assert (record.status, len(record.calls)) == (status, 1)


async def test_tier_never_changes_after_the_first_chunk() -> None:
    cheap = FakeEngine("cheap says")
    engine = FakeEngine(LONG, break_after=3, breaks_with=EngineError("died"))
    stream = await Stream(fake_graph(cheap, engine, TO_FRONTIER)).read()
    assert cheap.queries == []
    assert stream.sink.records[0].tier == "frontier"


async def test_caller_who_leaves_ends_the_engines_call_and_is_recorded() -> None:
    frontier = FakeEngine(LONG)
    stream = Stream(fake_graph(frontier=frontier, decider=TO_FRONTIER))
    events = await stream.service.stream(stream.request)
    await anext(events)
    await events.aclose()
    assert frontier.closed == 1
    [record] = stream.sink.records
    assert (record.status, record.error, len(record.calls)) == (499, "client_closed_request", 1)


async def test_caller_who_leaves_before_reading_anything_is_recorded_too() -> None:
    frontier = FakeEngine(LONG)
    stream = Stream(fake_graph(frontier=frontier, decider=TO_FRONTIER))
    events = await stream.service.stream(stream.request)
    await events.aclose()
    assert frontier.closed == 1
    [record] = stream.sink.records
    assert record.status == 499


async def test_caller_who_hangs_up_on_done_has_had_the_whole_answer() -> None:
    stream = Stream(fake_graph(frontier=FakeEngine(LONG), decider=TO_FRONTIER))
    events = await stream.service.stream(stream.request)
    async for item in events:
        if item == b"data: [DONE]\n\n":
            await events.aclose()
            break
    [record] = stream.sink.records
    assert record.status == 200


async def _said_slowly(ended: list[str], silence_s: float) -> AsyncGenerator[bytes, None]:
    try:
        yield b"data: 1\n\n"
        await asyncio.sleep(silence_s)
        yield b"data: 2\n\n"
    finally:
        ended.append("ended")


async def test_silence_is_filled_with_comments_and_no_event_is_lost() -> None:
    ended: list[str] = []
    said = [item async for item in kept_alive(_said_slowly(ended, 0.2), 0.05)]
    assert [item for item in said if item != KEEP_ALIVE] == [b"data: 1\n\n", b"data: 2\n\n"]
    assert said[1] == said[2] == KEEP_ALIVE
    assert ended == ["ended"]


async def test_a_stream_that_speaks_in_time_gets_no_comment() -> None:
    assert KEEP_ALIVE not in [item async for item in kept_alive(_said_slowly([], 0), 5)]


async def test_caller_who_leaves_during_a_silence_ends_the_events() -> None:
    ended: list[str] = []
    events = kept_alive(_said_slowly(ended, 60), 0.02)
    assert [await anext(events), await anext(events)] == [b"data: 1\n\n", KEEP_ALIVE]
    await events.aclose()
    assert ended == ["ended"]


async def test_cancelled_task_group_ends_the_events_during_a_silence() -> None:
    ended: list[str] = []
    events = kept_alive(_said_slowly(ended, 60), 60)

    async def read() -> None:
        async for _ in events:
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await asyncio.sleep(0.05)
        group.cancel_scope.cancel()
    await events.aclose()
    assert ended == ["ended"]
