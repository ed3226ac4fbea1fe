import json
import math
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any, Literal

import pytest
from openai.types.chat import ChatCompletionChunk

from router_models.types import Action, Completion, Query, Usage
from serve_graph.api.formats import ChatFormat, TextFormat
from serve_graph.api.responses import ResponsesFormat, ResponsesRequest
from serve_graph.api.transport.sse import DONE, chat_events, unbroken
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.cascade.streaming import ABSTENTION
from serve_graph.errors import EngineError, EngineTimeoutError
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request
from serve_graph.gateway.tool_affinity import bound
from serve_graph.protocol.requests import RequestOptions

QUERY = Query.from_prompt("why?")
LONG = "A long answer, with ☃ and\nnew lines: " + "word " * 40
TO_FRONTIER = FakeDecider("frontier", 0.1)


class Stream:
    """One streamed request, read to its end."""

    def __init__(
        self,
        context: CascadeContext,
        model: str = "auto",
        query: Query = QUERY,
        include_usage: bool = False,
        terms: StreamTerms | None = None,
        with_mode: Literal["verify", "prefix", "route"] | None = None,
    ) -> None:
        self.sink = ListSink()
        self.service = Service(context, self.sink, terms)
        self.request: Request = self.service.open(query, model, True, RequestOptions(stream=with_mode))
        self.include_usage = include_usage

    def events_as_sent(self) -> AsyncGenerator[bytes, None]:
        return chat_events(unbroken(self.service.stream(self.request)), self.include_usage)

    async def read(self) -> "Stream":
        self.raw = [item async for item in self.events_as_sent()]
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
    "accepted, buffered": lambda: fake_context(FakeEngine(LONG)),
    "escalated, live": lambda: fake_context(frontier=FakeEngine(LONG), judge=FakeJudge(Action.ESCALATED)),
    "routed, live": lambda: fake_context(frontier=FakeEngine(LONG), decider=TO_FRONTIER),
}


@pytest.fixture(params=GRAPHS.values(), ids=GRAPHS.keys())
def context(request: pytest.FixtureRequest) -> CascadeContext:
    made: CascadeContext = request.param()
    return made


async def test_chunks_joined_are_the_answer(context: CascadeContext) -> None:
    assert (await Stream(context).read()).text == LONG


async def test_role_comes_first_and_once(context: CascadeContext) -> None:
    choices = (await Stream(context).read()).choices
    assert choices[0]["delta"]["role"] == "assistant"
    assert [c for c in choices[1:] if "role" in c["delta"]] == []


async def test_finish_reason_comes_last_and_once(context: CascadeContext) -> None:
    choices = (await Stream(context).read()).choices
    assert choices[-1]["finish_reason"] == "stop"
    assert {c["finish_reason"] for c in choices[:-1]} == {None}


async def test_stream_ends_with_done(context: CascadeContext) -> None:
    stream = await Stream(context).read()
    assert stream.done
    assert stream.raw.count(b"data: [DONE]\n\n") == 1


async def test_every_chunk_carries_one_id_and_the_tiers_name(context: CascadeContext) -> None:
    stream = await Stream(context).read()
    assert {event["id"] for event in stream.events} == {f"chatcmpl-{stream.request.id[4:]}"}
    assert {event["object"] for event in stream.events} == {"chat.completion.chunk"}
    assert {event["model"] for event in stream.events} == {stream.request.state.tier}


async def test_usage_is_sent_once_if_asked_for(context: CascadeContext) -> None:
    events = (await Stream(context, include_usage=True).read()).events
    assert [i for i, event in enumerate(events) if event.get("usage")] == [len(events) - 1]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 5


async def test_every_chunk_has_a_choice_unless_usage_was_asked_for(context: CascadeContext) -> None:
    """Callers read `choices[0]` of every chunk; OpenAI leaves it out of the one with the usage alone."""
    events = (await Stream(context).read()).events
    assert all(event["choices"] for event in events)
    assert "serve_graph" in events[-1]


async def test_choices_from_which_an_api_left_out_what_is_empty_are_made_whole() -> None:
    class Sparing(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[dict[str, Any], None]:
            yield {"choices": [{"delta": {"content": "hi"}}]}
            yield {"choices": [{"index": 0, "content_filter_results": {}}]}
            yield {"choices": [{"finish_reason": "stop"}]}

    responses = ResponsesFormat(ResponsesRequest(model="auto", input=""))
    for response_format in (ChatFormat(False), TextFormat(False), responses):
        stream = Stream(fake_context(frontier=Sparing(), decider=TO_FRONTIER))
        said = [item async for item in response_format.events(unbroken(stream.service.stream(stream.request)))]
        assert b"completed" in said[-1] if isinstance(response_format, ResponsesFormat) else said[-1] == DONE
    [first, second, third] = (await Stream(stream.service.context).read()).choices
    assert first == {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
    assert (second["delta"], second["finish_reason"]) == ({}, None)
    assert third == {"index": 0, "delta": {}, "finish_reason": "stop"}


async def test_usage_is_not_sent_unasked(context: CascadeContext) -> None:
    assert [event for event in (await Stream(context).read()).events if "usage" in event] == []


async def test_last_event_says_what_happened_and_what_it_cost(context: CascadeContext) -> None:
    stream = await Stream(context).read()
    [facts] = [event["serve_graph"] for event in stream.events if "serve_graph" in event]
    [record] = stream.sink.records
    assert facts["decision"] == record.id
    assert facts["tier"] == record.tier
    assert facts["outcome"] == record.outcome
    assert float(facts["cost_usd"]) == pytest.approx(float(record.cost_usd))
    assert record.cost_usd == sum(call.cost_usd for call in record.calls) > 0


async def test_one_record_is_written_before_done(context: CascadeContext) -> None:
    stream = Stream(context)
    async for item in stream.events_as_sent():
        assert len(stream.sink.records) == (item == DONE or b'"finish_reason":"stop"' in item)
    [record] = stream.sink.records
    assert (record.status, record.stream, record.error) == (200, True, None)


async def test_logprobs_are_shown_only_to_who_asked(context: CascadeContext) -> None:
    assert [c for c in (await Stream(context).read()).choices if c.get("logprobs")] == []


async def test_logprobs_of_a_live_stream_are_kept_if_asked_for() -> None:
    context = fake_context(frontier=FakeEngine("abcdefgh"), decider=TO_FRONTIER)
    stream = await Stream(context, query=Query(QUERY.messages, {}, {"logprobs": True})).read()
    tokens = [t["token"] for c in stream.choices if c.get("logprobs") for t in c["logprobs"]["content"]]
    assert tokens == ["abcd", "efgh"]


async def test_logprobs_and_tool_calls_of_a_buffered_answer_are_kept() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1}]}
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    payload = {"choices": [{"message": message, "finish_reason": "tool_calls", "logprobs": logprobs}]}

    class ToolEngine(FakeEngine):
        async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
            return Completion("", "tool_calls", Usage(3, 1), (), 0.0, payload)

    stream = await Stream(fake_context(ToolEngine()), query=Query(QUERY.messages, {}, {"logprobs": True})).read()
    assert stream.choices[0]["logprobs"] == logprobs
    assert [c["delta"]["tool_calls"] for c in stream.choices if "tool_calls" in c["delta"]] == [
        [{"index": 0, **calls[0], "id": stream.service.tool_affinity.tag("cheap", "c1", bound((), None))}]
    ]
    assert stream.choices[-1]["finish_reason"] == "tool_calls"


async def test_abstention_is_streamed_instead_of_the_answer() -> None:
    stream = await Stream(fake_context(FakeEngine(LONG), judge=FakeJudge(Action.ABSTAINED))).read()
    assert stream.text == ABSTENTION
    assert stream.sink.records[0].outcome == "abstained"
    assert "".join(choice["delta"].get("refusal") or "" for choice in stream.choices) == ABSTENTION
    for event in stream.events:
        ChatCompletionChunk.model_validate(event, strict=True)


@pytest.mark.parametrize("delta", ["text", {"content": ["text"]}, {"tool_calls": ["call"]}], ids=str)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_piece_that_is_none_is_its_tiers_failure(delta: Any, begun: bool) -> None:
    class Garbling(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[dict[str, Any], None]:
            if begun:
                yield {"choices": [{"index": 0, "delta": {"content": "It is"}}]}
            yield {"choices": [{"index": 0, "delta": delta}]}

    stream = await Stream(fake_context(frontier=Garbling(), decider=TO_FRONTIER, safe_tier="cheap")).read()
    record = stream.sink.records[0]
    if begun:
        assert (record.status, stream.text, stream.done) == (503, "It is", False)
        assert "sent a malformed chunk" in stream.events[-1]["error"]["message"]
    else:
        assert (record.status, stream.text, record.outcome) == (200, "cheap says", "fallback")


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
    stream = await Stream(fake_context(frontier=engine, decider=TO_FRONTIER)).read()
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
    stream = await Stream(fake_context(cheap, engine, TO_FRONTIER)).read()
    assert cheap.queries == []
    assert stream.sink.records[0].tier == "frontier"


async def test_caller_who_leaves_a_stream_pays_for_the_tokens_that_were_named() -> None:
    stream = Stream(fake_context(frontier=FakeEngine(LONG, piece_chars=4), decider=TO_FRONTIER))
    events = stream.service.stream(stream.request)
    for _ in range(5):  # the role, and four tokens
        await anext(events)
    await events.aclose()
    [line] = stream.sink.records[0].calls
    assert (line.usage, line.metered) == (Usage(completion_tokens=4), False)
    assert stream.sink.records[0].cost_usd == line.cost_usd == 4 * Decimal(20) / 1_000_000


async def test_caller_who_leaves_ends_the_engines_call_and_is_recorded() -> None:
    frontier = FakeEngine(LONG)
    stream = Stream(fake_context(frontier=frontier, decider=TO_FRONTIER))
    events = stream.service.stream(stream.request)
    await anext(events)
    await events.aclose()
    assert frontier.closed == 1
    [record] = stream.sink.records
    assert (record.status, record.error, len(record.calls)) == (499, "client_closed_request", 1)


@pytest.mark.parametrize("where", ["finish reason", "closing chunk"])
async def test_caller_who_hangs_up_at_the_end_has_had_the_whole_answer_and_pays_for_it(where: str) -> None:
    stream = Stream(fake_context(frontier=FakeEngine(LONG), decider=TO_FRONTIER))
    chunks = stream.service.stream(stream.request)
    async for chunk in chunks:
        if not chunk["choices"] or (where == "finish reason" and chunk["choices"][0]["finish_reason"]):
            await chunks.aclose()
            break
    record = stream.sink.records[0]
    assert (record.status, record.calls[0].metered) == (200, True)


async def test_what_was_said_with_the_finish_reason_is_shown_though_the_end_fails() -> None:
    class Breaking(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[dict[str, Any], None]:
            yield {"choices": [{"index": 0, "delta": {"content": "all of it"}, "finish_reason": "stop"}]}
            raise EngineError("died")

    stream = await Stream(fake_context(frontier=Breaking(), decider=TO_FRONTIER)).read()
    assert "all of it" in str(stream.events[0])
    assert ("error" in stream.events[-1], stream.done) == (True, False)
