"""A certificate speaks of the requests that it was proved on: who answers any other, and what the record says."""

from __future__ import annotations

import timeit
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router_models.types import Action, Decision, DecisionRecord, Message, Query, Usage
from router_models.types.conditions import conditions_of, system_prompt_of
from router_models.types.coverage import Coverage
from router_models.versions.policy import OverloadPoint
from serve_graph.api.messages import MessagesRequest, messages_query
from serve_graph.api.responses import ResponsesRequest, responses_query
from serve_graph.cascade.fakes import PRICES, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.errors import SaturatedError
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.protocol.requests import ChatRequest, CompletionRequest, RequestOptions, chat_query, completion_query
from serve_graph.records.explanation import explained
from serve_graph.records.metrics import render_metrics

BRIEF = "You are brief."
LONG = "You are a poet of the baroque. " * 400
ASK = {"role": "user", "content": "What is 2 + 2?"}
SAID = {"role": "assistant", "content": "4"}
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
COVERAGE = Coverage(
    decodings=("", '{"temperature":0.7}'),
    system_prompts=("", system_prompt_of((Message("system", BRIEF),))),
    turns=2,
    novelty=0.8,
    n=200,
)
TIERS = ({"temperature": 0.0, "max_tokens": 256}, {"temperature": 0.0, "max_tokens": 256})
FAR = 1.04

COVERED: dict[str, dict[str, Any]] = {
    "plain": {},
    "one decoding": {"temperature": 0.7},
    "what the tiers do by themselves": {"temperature": 0, "top_p": 0.5, "max_tokens": 256},
    "one system prompt": {"messages": [{"role": "system", "content": BRIEF}, ASK]},
    "the same as a developer": {
        "messages": [{"role": "developer", "content": [{"type": "text", "text": BRIEF}]}, ASK]
    },
    "both, two turns": {"messages": [{"role": "system", "content": BRIEF}, ASK, SAID, ASK], "temperature": 0.7},
    "what changes no answer": {"seed": 3, "user": "u", "n": 1, "stop": None, "metadata": {"a": "b"}, "logit_bias": {}},
}
UNCOVERED: dict[str, tuple[str, dict[str, Any]]] = {
    "temperature 1.9": ("decoding", {"temperature": 1.9}),
    "another top_p": ("decoding", {"temperature": 0.7, "top_p": 0.3}),
    "stop sequences": ("decoding", {"stop": ["\n"]}),
    "logit_bias": ("decoding", {"logit_bias": {"50": -100}}),
    "a reasoning effort": ("decoding", {"reasoning_effort": "high"}),
    "a field of tomorrow": ("decoding", {"a_field_of_tomorrow": 1}),
    "a long system prompt": ("system_prompt", {"messages": [{"role": "system", "content": LONG}, ASK]}),
    "a late system prompt": ("system_prompt", {"messages": [ASK, {"role": "system", "content": BRIEF}]}),
    "a system prompt alone": ("system_prompt", {"messages": [{"role": "system", "content": BRIEF}]}),
    "tools": ("tools", {"tools": TOOLS}),
    "functions": ("tools", {"functions": [TOOLS[0]["function"]]}),
    "results of tools": (
        "tool_loop",
        {
            "messages": [
                ASK,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "1", "content": "noon"},
            ]
        },
    ),
    "three turns": ("turns", {"messages": [ASK, SAID, ASK, SAID, ASK]}),
    "words put into its mouth": ("turns", {"messages": [SAID, ASK, SAID, ASK]}),
    "two choices": ("choices", {"n": 2}),
    "json_object": ("response_format", {"response_format": {"type": "json_object"}}),
    "json_schema": ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
    "max_tokens 3": ("max_tokens", {"max_tokens": 3}),
    "max_completion_tokens 3": ("max_tokens", {"max_completion_tokens": 3}),
    "a speaker's name": ("unread", {"messages": [ASK | {"name": "root"}]}),
    "a field beside a text": (
        "unread",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?", "hint": "say 5"}]}]},
    ),
    "a begun answer": ("prefilled", {"messages": [ASK, {"role": "assistant", "content": "The answer is"}]}),
}
NOVEL = ("novelty", {"messages": [{"role": "user", "content": "novel"}]})
WAYS: list[tuple[bool, str | None]] = [(False, None), (True, "verify"), (True, "prefix"), (True, "route")]


@dataclass
class Router:
    """Tries the cheap tier on everything; prompts that say "novel" are far from its training data."""

    queries: list[Query] = field(default_factory=list)

    async def decide(self, query: Query) -> Decision:
        self.queries.append(query)
        return Decision("cheap", "the cheap tier", 0.9, FAR if "novel" in query.text else 0.3)


class Asked:
    """Requests to a service whose certificate promises 0.9 of what `COVERAGE` holds."""

    def __init__(self, when_uncovered: Any = "last_tier", coverage: Coverage | None = COVERAGE, **fakes: Any) -> None:
        self.router = Router()
        context = fake_context(decider=self.router, prefix_tokens=1, **fakes)  # type: ignore[arg-type]
        if "abstain_at_top" not in fakes:
            context = replace(
                context, policy=replace(context.policy, overload_points={"cheap": OverloadPoint(0, 0.4)})
            )
        self.sink = ListSink()
        shares = {"cheap": 0.9}
        routing = RoutingContext(
            0.9, prefixes=shares, coverage=coverage, sampling=TIERS, when_uncovered=when_uncovered
        )
        self.service = Service(context, self.sink, StreamTerms(), routing=routing)

    async def chat(self, fields: dict[str, Any], *args: Any) -> DecisionRecord:
        extras = {name: fields[name] for name in fields if name not in ChatRequest.model_fields}
        known = {name: value for name, value in fields.items() if name not in extras}
        request = ChatRequest.model_validate({"model": "auto", "messages": [ASK], **known})
        request.extras.update(extras)
        return await self.ask(chat_query(request), *args)

    async def ask(
        self,
        query: Query,
        stream: bool = False,
        mode: str | None = None,
        quality_floor: float | None = None,
        model: str = "auto",
    ) -> DecisionRecord:
        options = RequestOptions.model_validate({"stream": mode, "quality_floor": quality_floor})
        request = self.service.open(query, model, stream, options)
        if stream:
            assert [chunk async for chunk in self.service.stream(request)]
        else:
            assert await self.service.answer(request)
        return self.sink.records[-1]


def is_said_not_to_be_covered(record: DecisionRecord, reason: str) -> bool:
    assert record.evidence["uncovered"] == reason
    assert record.evidence["promised"] is None
    why = record.evidence["not_promised"]
    lines = explained(record, PRICES, ("cheap", "frontier"))["explanation"]
    return why.startswith("the certificate does not cover this request: ") and any(why in line for line in lines)


@pytest.mark.parametrize(("stream", "mode"), WAYS[:-1])
@pytest.mark.parametrize("floor", [None, 0.9])
async def test_two_system_prompts_and_two_decodings_are_covered_and_promised(
    floor: float | None, stream: bool, mode: str | None
) -> None:
    for name, fields in COVERED.items():
        record = await Asked().chat(fields, stream, mode, floor)
        assert (record.tier, record.outcome) == ("cheap", "accepted"), name
        assert record.evidence["promised"] == 0.9, name
        assert not {"uncovered", "not_promised"} & record.evidence.keys(), name


@pytest.mark.parametrize(("reason", "fields"), UNCOVERED.values(), ids=UNCOVERED)
async def test_the_last_tier_answers_what_is_not_covered_and_the_router_is_not_asked(
    reason: str, fields: dict[str, Any]
) -> None:
    for stream, mode in WAYS:
        asked = Asked()
        record = await asked.chat(fields, stream, mode)
        assert (record.tier, record.outcome) == ("frontier", "routed")
        assert record.route_reason.startswith("uncovered: ")
        assert [call.tier for call in record.bill] == ["frontier"], "neither router nor verifier is paid"
        assert asked.router.queries == []
        assert is_said_not_to_be_covered(record, reason)


@pytest.mark.parametrize("when_uncovered", ["last_tier", "route"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_quality_floor_is_not_met_by_what_is_not_covered(when_uncovered: str, stream: bool) -> None:
    for name, (reason, fields) in {**UNCOVERED, "novel": NOVEL}.items():
        record = await Asked(when_uncovered).chat(fields, stream, None, 0.5)
        assert (record.tier, record.outcome) == ("frontier", "routed"), name
        assert is_said_not_to_be_covered(record, reason), name
        assert "quality floor 0.5" in record.route_reason, name


@pytest.mark.parametrize(("stream", "mode"), WAYS)
async def test_where_the_configuration_says_route_the_cascade_answers_and_nothing_is_promised(
    stream: bool, mode: str | None
) -> None:
    for name, (reason, fields) in {**UNCOVERED, "novel": NOVEL}.items():
        for verdict in (Action.ACCEPTED, Action.ESCALATED):
            asked = Asked("route", judge=FakeJudge(verdict, verdict))
            record = await asked.chat(fields, stream, mode)
            assert len(asked.router.queries) == 1, name
            became = "routed" if mode == "route" else str(verdict)
            tier = "frontier" if became == "escalated" else "cheap"
            assert (record.tier, record.outcome) == (tier, became), name
            assert "; uncovered: " in record.route_reason, name
            assert is_said_not_to_be_covered(record, reason), name


@pytest.mark.parametrize(("stream", "mode"), WAYS)
async def test_a_novel_prompt_goes_to_the_last_tier_once_the_router_knows_its_distance(
    stream: bool, mode: str | None
) -> None:
    reason, fields = NOVEL
    asked = Asked()
    record = await asked.chat(fields, stream, mode)
    assert (record.tier, record.outcome, record.distance) == ("frontier", "routed", FAR)
    assert record.route_reason.startswith("the cheap tier; frontier instead: uncovered: novel: the prompt lies 1.04")
    assert [call.tier for call in record.calls] == ["frontier"]
    assert is_said_not_to_be_covered(record, reason)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_longer_than_certified_ones_is_escalated_where_more_is_permitted(stream: bool) -> None:
    """The rows left the length to the tiers, which permit 256 tokens."""
    for tokens, tier in ((256, "cheap"), (257, "frontier")):
        asked = Asked(cheap=FakeEngine(usage=Usage(9, tokens)))
        record = await asked.chat({"max_tokens": 4000}, stream)
        assert (record.tier, record.evidence["promised"]) == (tier, 0.9 if tier == "cheap" else None)
        assert "uncovered" not in record.evidence
    assert "no answer longer than 256 was certified" in (record.verdict_reason or "")


async def test_a_longer_answer_is_never_shown_by_its_first_tokens() -> None:
    asked = Asked(cheap=FakeEngine(usage=Usage(9, 300)))
    record = await asked.chat({"max_tokens": 4000}, True, "prefix")
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("frontier", "escalated", None)
    floor = await asked.chat({"max_tokens": 4000}, True, "prefix", 0.5)
    assert [call.tier for call in floor.bill] == ["frontier"]


QUERIES: dict[str, tuple[str | None, Query]] = {
    "completions": (None, completion_query(CompletionRequest(model="auto", prompt="What is 2 + 2?"))),
    "completions, hot": ("decoding", completion_query(CompletionRequest(model="auto", prompt="?", temperature=1.9))),
    **{
        f"responses {name}": (reason, responses_query(ResponsesRequest.model_validate({"model": "auto", **fields})))
        for name, reason, fields in (
            ("plain", None, {"input": "What is 2 + 2?", "store": False, "truncation": "auto", "include": []}),
            ("instructions", None, {"input": "What is 2 + 2?", "instructions": BRIEF, "max_output_tokens": 300}),
            ("system item", None, {"input": [{"role": "system", "content": BRIEF}, ASK]}),
            ("long instructions", "system_prompt", {"input": "What is 2 + 2?", "instructions": LONG}),
            ("tools", "tools", {"input": "?", "tools": [{"type": "function", "name": "now", "parameters": {}}]}),
            ("format", "response_format", {"input": "?", "text": {"format": {"type": "json_object"}}}),
            ("verbosity", "decoding", {"input": "?", "text": {"verbosity": "low"}}),
            ("effort", "decoding", {"input": "?", "reasoning": {"effort": "high"}}),
            ("short", "max_tokens", {"input": "?", "max_output_tokens": 3}),
            ("turns", "turns", {"input": [ASK, SAID, ASK, SAID, ASK]}),
        )
    },
    **{
        f"messages {name}": (
            reason,
            messages_query(
                MessagesRequest.model_validate({"model": "auto", "max_tokens": 256, "messages": [ASK], **fields})
            ),
        )
        for name, reason, fields in (
            ("plain", None, {"thinking": {"type": "disabled"}, "metadata": {"user_id": "u"}}),
            ("system", None, {"system": BRIEF}),
            ("cached", None, {"system": [{"type": "text", "text": BRIEF, "cache_control": {"type": "ephemeral"}}]}),
            ("long system", "system_prompt", {"system": LONG}),
            ("top_k", "decoding", {"temperature": 0.7, "top_k": 2}),
            ("thinking", "decoding", {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2048}}),
            ("stop", "decoding", {"stop_sequences": ["."]}),
            ("tools", "tools", {"tools": [{"name": "now", "input_schema": {"type": "object"}}]}),
            ("short", "max_tokens", {"max_tokens": 3}),
            ("turns", "turns", {"messages": [ASK, SAID, ASK, SAID, ASK]}),
        )
    },
}


@pytest.mark.parametrize(("reason", "query"), QUERIES.values(), ids=QUERIES)
async def test_every_api_is_compared_alike(reason: str | None, query: Query) -> None:
    for stream in (False, True):
        record = await Asked().ask(query, stream)
        assert record.evidence.get("uncovered") == reason
        assert record.tier == ("cheap" if reason is None else "frontier")
        assert record.evidence["promised"] == (0.9 if reason is None else None)


async def test_a_tier_by_name_and_a_version_without_coverage_have_nothing_to_cover() -> None:
    asked, known_of_nothing = Asked(), Asked(coverage=None)
    forced = await asked.chat({"temperature": 1.9}, False, None, None, "cheap")
    assert (forced.tier, forced.outcome) == ("cheap", "forced")
    plain = await known_of_nothing.chat({"temperature": 1.9})
    assert (plain.tier, plain.outcome) == ("cheap", "accepted")
    for record, service in ((forced, asked.service), (plain, known_of_nothing.service)):
        assert "uncovered" not in record.evidence
        assert service.metrics.coverage()["requests"] == 0


async def test_the_words_of_a_request_are_not_recorded_with_the_reason() -> None:
    said = "a secret of the caller " * 100
    for fields in (
        {"prediction": {"type": "content", "content": said}, "temperature": 1.9},
        {"stop": [said]},
        {said: 1, **{f"field{i}": said for i in range(99)}},
        {"x": 10**400},
        {"response_format": {"type": said}},
        {"messages": [{"role": "system", "content": said}, ASK]},
    ):
        record = await Asked().chat(fields)
        told = f"{record.route_reason} {record.evidence['not_promised']}"
        assert "caller a secret" not in told.replace(said[:40], "")
        assert len(told) < 1000
    assert "temperature 1.9" in (await Asked().chat({"temperature": 1.9, "stop": said})).route_reason


async def test_nobody_abstains_from_what_is_not_covered() -> None:
    judge = FakeJudge(Action.ABSTAINED)
    asked = Asked(judge=judge, abstain_at_top=0.5)
    assert (await asked.chat({"temperature": 1.9})).outcome == "routed"
    assert judge.completions == []


async def test_no_rejected_answer_to_what_is_not_covered_is_served_on_overload() -> None:
    @dataclass
    class MayServe(FakeJudge):
        async def judge(self, *args: Any) -> Any:
            return replace(await super().judge(*args), may_serve_on_overload=True)

    full = FakeEngine(error=SaturatedError("full"))
    served = await Asked("route", frontier=full, judge=MayServe(Action.ESCALATED)).chat({})
    assert (served.tier, served.outcome) == ("cheap", "fallback")
    for fields in ({"temperature": 1.9}, NOVEL[1]):
        with pytest.raises(SaturatedError):
            await Asked("route", frontier=full, judge=MayServe(Action.ESCALATED)).chat(fields)


async def test_uncovered_requests_are_counted_by_their_reason() -> None:
    asked = Asked()
    for fields in ({}, {"temperature": 1.9}, {"temperature": 1.8}, NOVEL[1]):
        await asked.chat(fields)
    page = text_string_to_metric_families(render_metrics(asked.service.metrics, 0, {}))
    found = {
        sample.labels["reason"]: sample.value
        for family in page
        for sample in family.samples
        if sample.name == "serve_graph_uncovered_requests_total"
    }
    assert found == {"decoding": 2, "novelty": 1}
    assert asked.service.metrics.coverage() == {
        "requests": 4,
        "uncovered": 3,
        "share": 0.75,
        "reasons": {"decoding": 2, "novelty": 1},
    }


def test_comparing_a_plain_request_takes_microseconds() -> None:
    query = chat_query(ChatRequest.model_validate({"model": "auto", "messages": [ASK]}))
    times = timeit.repeat(lambda: COVERAGE.uncovered(conditions_of(query), defaults=TIERS), number=500, repeat=5)
    assert min(times) / 500 < 300e-6, "measured: 12 µs"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.sampled_from([0, 0.7, 1.9]),
            "top_p": st.sampled_from([0.3, 1]),
            "n": st.integers(1, 3),
            "stop": st.sampled_from([[], ["."], ""]),
            "max_tokens": st.sampled_from([3, 256, 512]),
            "seed": st.integers(0, 9),
            "tools": st.sampled_from([[], TOOLS]),
            "messages": st.lists(
                st.sampled_from([ASK, SAID, {"role": "system", "content": BRIEF}]), min_size=1, max_size=6
            ),
        },
    )
)
async def test_whatever_is_asked_nothing_is_promised_of_what_the_coverage_does_not_hold(
    fields: dict[str, Any],
) -> None:
    request = ChatRequest.model_validate({"model": "auto", "messages": [ASK], **fields})
    expected = COVERAGE.uncovered(conditions_of(chat_query(request)), defaults=TIERS)
    record = await Asked().chat(fields)
    assert (record.evidence["promised"] is None) == (expected is not None) == (record.tier == "frontier")
