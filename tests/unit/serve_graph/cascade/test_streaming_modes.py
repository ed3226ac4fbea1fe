"""When a tier may speak: prefixes, routes, budgets of seconds, and who takes the place of a tier that fails unseen."""

import asyncio
import math
from typing import Any, Literal

import pytest

from router_models.types import PREFIX_FINISH, Action, Query
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError, PolicyUnavailableError
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request
from serve_graph.protocol.requests import RequestOptions

QUERY = Query.from_prompt("why?")
LONG = "A long answer, with ☃ and\nnew lines: " + "word " * 40
TO_FRONTIER = FakeDecider("frontier", 0.1)
SLOW = StreamTerms(first_token_s=0.02)


class Stream:
    """One streamed request, and the chunks of it; `done` where it ended well."""

    def __init__(
        self,
        context: CascadeContext,
        query: Query = QUERY,
        terms: StreamTerms | None = None,
        with_mode: Literal["verify", "prefix", "route"] | None = None,
    ) -> None:
        self.sink = ListSink()
        self.service = Service(context, self.sink, terms)
        self.request: Request = self.service.open(query, "auto", True, RequestOptions(stream=with_mode))
        self.chunks: list[dict[str, Any]] = []

    async def read(self) -> "Stream":
        self.chunks = [chunk async for chunk in self.service.stream(self.request)]
        return self

    @property
    def done(self) -> bool:
        return bool(self.chunks) and "serve_graph" in self.chunks[-1]

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [choice for chunk in self.chunks for choice in chunk["choices"]]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)


async def test_prefix_that_passes_commits_the_answer_before_its_end() -> None:
    cheap = FakeEngine(LONG, hang_after=12)
    stream = Stream(fake_context(cheap, prefix_tokens=5), with_mode="prefix")
    chunks = stream.service.stream(stream.request)
    said = [(await anext(chunks))["choices"][0]["delta"].get("content") for _ in range(12)]
    assert LONG.startswith("".join(text or "" for text in said))
    await chunks.aclose()
    assert cheap.closed == 1


async def test_prefix_that_passes_shows_the_whole_answer_as_accepted() -> None:
    judge = FakeJudge(Action.ESCALATED)
    stream = await Stream(fake_context(FakeEngine(LONG), judge=judge, prefix_tokens=5), with_mode="prefix").read()
    assert (stream.text, stream.sink.records[0].outcome, len(judge.completions)) == (LONG, "accepted", 1)


async def test_prefix_judged_is_as_long_as_its_certificate_says_however_large_the_chunks() -> None:
    class Blocks(FakeEngine):
        def _chunks(self):  # type: ignore[no-untyped-def]
            for chunk in super()._chunks():
                for choice in chunk["choices"]:
                    if choice.get("logprobs"):
                        word = choice["delta"]["content"]
                        tokens = [{"token": letter, "logprob": -0.1, "top_logprobs": []} for letter in word]
                        choice["logprobs"] = {"content": tokens}
                yield chunk

    judge = FakeJudge()
    await Stream(fake_context(Blocks(LONG), judge=judge, prefix_tokens=6), with_mode="prefix").read()
    [seen] = judge.completions
    assert (seen.text, len(seen.token_logprobs), seen.finish_reason) == (LONG[:6], 6, PREFIX_FINISH)


async def test_prefix_that_fails_is_escalated_and_its_call_ended() -> None:
    cheap = FakeEngine(LONG, hang_after=12)
    judge = FakeJudge(prefix_action=Action.ESCALATED)
    stream = await Stream(fake_context(cheap, judge=judge, prefix_tokens=5), with_mode="prefix").read()
    record = stream.sink.records[0]
    assert (stream.text, record.outcome, cheap.closed) == ("frontier says", "escalated", 1)
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]


async def test_answer_shorter_than_the_prefix_is_judged_whole() -> None:
    judge = FakeJudge(Action.ESCALATED)
    stream = await Stream(fake_context(FakeEngine("short"), judge=judge, prefix_tokens=50), with_mode="prefix").read()
    assert (stream.text, stream.sink.records[0].outcome) == ("frontier says", "escalated")
    assert [completion.text for completion in judge.completions] == ["short"]


async def test_answer_of_exactly_n_tokens_is_judged_whole_however_its_end_is_told() -> None:
    judge = FakeJudge(prefix_action=Action.ESCALATED)
    context = fake_context(FakeEngine("eight ch", piece_chars=2), judge=judge, prefix_tokens=4)
    stream = await Stream(context, with_mode="prefix").read()
    assert (stream.text, [seen.text for seen in judge.completions]) == ("eight ch", ["eight ch"])


@pytest.mark.parametrize(
    "declared",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]},
    ],
)
async def test_an_answer_of_a_declared_shape_is_never_shown_by_its_beginning(declared: dict[str, Any]) -> None:
    query = Query(QUERY.messages, {}, declared)
    stream = Stream(fake_context(FakeEngine(LONG), prefix_tokens=3), query=query, with_mode="prefix")
    await stream.read()
    assert "a declared shape is judged whole: verify" in stream.sink.records[0].route_reason
    assert all(seen.finish_reason != PREFIX_FINISH for seen in stream.service.context.judge.completions)  # type: ignore[attr-defined]


async def test_prefix_without_a_certified_point_is_verify_and_says_so() -> None:
    judge = FakeJudge(Action.ESCALATED)
    stream = await Stream(fake_context(FakeEngine(LONG), judge=judge), with_mode="prefix").read()
    assert stream.text == "frontier says"
    assert "no certified prefix verdict: verify" in stream.sink.records[0].route_reason


async def test_verifier_down_at_the_prefix_means_the_safe_tier() -> None:
    judge = FakeJudge(error=PolicyUnavailableError("down"))
    stream = await Stream(fake_context(FakeEngine(LONG), judge=judge, prefix_tokens=3), with_mode="prefix").read()
    assert (stream.text, stream.sink.records[0].outcome) == ("frontier says", "fallback")


async def test_route_streams_the_routed_tier_unjudged() -> None:
    judge = FakeJudge(Action.ESCALATED)
    terms = StreamTerms(StreamMode.ROUTE)
    stream = await Stream(fake_context(FakeEngine(LONG), judge=judge), terms=terms).read()
    assert (stream.text, stream.sink.records[0].outcome, judge.completions) == (LONG, "routed", [])
    assert "unjudged" in stream.sink.records[0].route_reason


async def test_a_requests_mode_replaces_the_policys() -> None:
    judge = FakeJudge(Action.ESCALATED)
    context = fake_context(FakeEngine(LONG), judge=judge)
    stream = await Stream(context, terms=StreamTerms(StreamMode.ROUTE), with_mode="verify").read()
    assert stream.text == "frontier says"


async def test_spent_budget_escalates_a_cheap_tier_that_has_shown_nothing() -> None:
    cheap = FakeEngine(LONG, hang_after=3)
    stream = await Stream(fake_context(cheap), terms=SLOW).read()
    record = stream.sink.records[0]
    assert (stream.text, record.outcome, cheap.closed) == ("frontier says", "escalated", 1)
    assert "nothing shown within 0.02 s" in record.route_reason
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]


@pytest.mark.parametrize("hang_after", [0, 3])
async def test_spent_budget_may_commit_the_cheap_tier_unjudged(hang_after: int) -> None:
    class Late(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def, override]
            for i, chunk in enumerate(self._chunks()):
                if i == hang_after:
                    await asyncio.sleep(1.0)
                yield chunk

    judge = FakeJudge(Action.ESCALATED)
    terms = StreamTerms(first_token_s=0.02, at_first_token="commit")
    stream = await Stream(fake_context(Late(LONG), judge=judge), terms=terms).read()
    assert (stream.text, stream.sink.records[0].outcome, judge.completions) == (LONG, "routed", [])
    assert "committed unjudged" in stream.sink.records[0].route_reason


async def test_budget_that_suffices_changes_nothing() -> None:
    judge = FakeJudge(Action.ESCALATED)
    stream = await Stream(fake_context(FakeEngine(LONG), judge=judge), terms=StreamTerms(first_token_s=30)).read()
    assert (stream.text, len(judge.completions)) == ("frontier says", 1)


@pytest.mark.parametrize("break_after", [0, 1])
async def test_last_tier_that_dies_before_it_says_anything_is_replaced_unseen(break_after: int) -> None:
    frontier = FakeEngine(LONG, break_after=break_after, breaks_with=EngineError("died"))
    stream = await Stream(fake_context(frontier=frontier, decider=TO_FRONTIER, safe_tier="cheap")).read()
    record = stream.sink.records[0]
    assert (stream.text, record.outcome, record.tier, stream.done) == ("cheap says", "fallback", "cheap", True)
    assert "frontier failed: died" in record.route_reason


async def test_rejected_answer_is_not_shown_because_the_last_tier_died() -> None:
    frontier = FakeEngine(error=EngineError("died"))
    context = fake_context(frontier=frontier, judge=FakeJudge(Action.ESCALATED), safe_tier="cheap")
    stream = Stream(context)
    with pytest.raises(EngineError, match="died"):
        await anext(stream.service.stream(stream.request))


async def test_every_choice_of_n_is_streamed_and_judged() -> None:
    judge = FakeJudge()
    query = Query(QUERY.messages, {}, {"n": 3})
    stream = await Stream(fake_context(FakeEngine("cheap says"), judge=judge), query=query).read()
    assert sorted({choice["index"] for choice in stream.choices}) == [0, 1, 2]
    assert len(judge.completions) == 3


async def test_last_tier_that_dies_before_it_says_anything_leaves_the_error_where_nobody_else_may() -> None:
    frontier = FakeEngine(LONG, break_after=1, breaks_with=EngineError("died"))
    stream = Stream(fake_context(frontier=frontier, decider=TO_FRONTIER))
    with pytest.raises(EngineError, match="died"):
        await anext(stream.service.stream(stream.request))


async def test_last_tier_streams_through_even_where_a_whole_answer_might_be_abstained_from() -> None:
    judge = FakeJudge(Action.ABSTAINED)
    context = fake_context(frontier=FakeEngine(LONG), decider=TO_FRONTIER, judge=judge, abstain_at_top=0.5)
    stream = await Stream(context).read()
    assert (stream.text, stream.sink.records[0].outcome, judge.completions) == (LONG, "routed", [])


async def test_engine_that_says_nothing_at_all_is_an_error_before_the_first_chunk() -> None:
    class Mute(FakeEngine):
        def _chunks(self):  # type: ignore[no-untyped-def]
            return iter(())

    stream = Stream(fake_context(frontier=Mute(), decider=TO_FRONTIER))
    with pytest.raises(EngineError, match="without finishing"):
        await anext(stream.service.stream(stream.request))


@pytest.mark.parametrize(
    ("error", "status"),
    [(EngineError("dead"), 503), (EngineTimeoutError("slow"), 504), (EngineRequestError("too long"), 400)],
)
async def test_error_before_the_first_chunk_is_raised_and_recorded(error: EngineError, status: int) -> None:
    stream = Stream(fake_context(frontier=FakeEngine(error=error), decider=TO_FRONTIER))
    with pytest.raises(type(error)):
        await anext(stream.service.stream(stream.request))
    [record] = stream.sink.records
    assert record.status == status
