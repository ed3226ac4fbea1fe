"""What routers and verifiers do not see is never promised, and no tier is asked for what it does not declare."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.types import Action, Decision, DecisionRecord, OperatingPoint, Query
from router_models.versions.policy import Policy
from serve_graph.access.auth import CALLER, Caller
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.config.access import KeyConfig
from serve_graph.errors import EngineError, EngineRequestError, PolicyUnavailableError, RequestError
from serve_graph.gateway.capabilities import CapableTiers, needs_of
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.sessions import Sessions
from serve_graph.gateway.tool_affinity import bound
from serve_graph.protocol.requests import RequestOptions
from serve_graph.records.explanation import explained
from tests.unit.serve_graph.gateway.capabilities.parts import (
    CALL,
    KINDS,
    PARTS,
    PNG,
    POSITIONS,
    SOURCE,
    TEXT,
    query_of,
    user,
)

TEXT_ONLY = frozenset({"text", "tools", "json_schema", "reasoning"})
EVERYTHING = TEXT_ONLY | {"image", "audio", "video", "file"}
LAST_CAN = {"cheap": TEXT_ONLY, "frontier": EVERYTHING}
BOTH_CAN = {"cheap": EVERYTHING, "frontier": EVERYTHING}


class Asked:
    """A service of fakes whose certificate promises 0.9, and what became of the requests to it."""

    def __init__(self, can: Mapping[str, frozenset[str]] = LAST_CAN, **fakes: Any) -> None:
        self.context = fake_context(**fakes)
        self.judge: Any = self.context.judge
        self.sink = ListSink()
        sessions = Sessions({"cheap": 60.0, "frontier": 60.0}, 10, lambda: 0.0)
        routing = RoutingContext(0.9, capabilities=can, sessions=sessions)
        self.service = Service(self.context, self.sink, StreamTerms(), routing=routing)

    def asked(self, tier: str) -> int:
        engine: Any = self.context.engines[tier]
        return len(engine.queries)

    async def ask(
        self,
        query: Query,
        model: str = "auto",
        stream: bool = False,
        mode: str | None = None,
        quality_floor: float | None = None,
        session: str | None = None,
    ) -> DecisionRecord:
        wanted = {"stream": mode, "quality_floor": quality_floor, "session": session}
        request = self.service.open(query, model, stream, RequestOptions.model_validate(wanted))
        if stream:
            assert [chunk async for chunk in self.service.stream(request)]
        else:
            await self.service.answer(request)
        return self.sink.records[-1]


WAYS: list[tuple[bool, str | None]] = [(False, None), (True, "verify"), (True, "prefix"), (True, "route")]


@pytest.mark.parametrize(("stream", "mode"), WAYS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", PARTS)
async def test_a_request_that_is_not_text_goes_to_the_last_tier_where_only_that_takes_it(
    kind: str, position: str, stream: bool, mode: str | None
) -> None:
    at = Asked()
    record = await at.ask(query_of(POSITIONS[position](PARTS[kind][0])), stream=stream, mode=mode)
    assert (record.tier, record.outcome) == ("frontier", "routed")
    assert (at.asked("cheap"), at.judge.completions) == (0, [])
    assert record.evidence["promised"] is None
    assert "router and verifier see nothing of" in record.evidence["not_promised"]
    assert "frontier instead" in record.route_reason
    lines = explained(record, PRICES, ("cheap", "frontier"))["explanation"]
    assert any("nothing promised of this answer: router and verifier see nothing of" in line for line in lines)


@pytest.mark.parametrize(("stream", "mode"), WAYS)
@pytest.mark.parametrize("kind", ["image", "audio", "video", "file"])
async def test_a_cheaper_tier_that_takes_it_answers_unjudged_and_unpromised(
    kind: str, stream: bool, mode: str | None
) -> None:
    at = Asked(BOTH_CAN, judge=FakeJudge(Action.ESCALATED))
    record = await at.ask(query_of([user([TEXT, PARTS[kind][0]])]), stream=stream, mode=mode)
    assert (record.tier, record.outcome, at.judge.completions) == ("cheap", "routed", [])
    assert record.evidence["promised"] is None
    assert "nothing is promised" in record.route_reason
    last = await Asked(BOTH_CAN).ask(query_of([user([PARTS[kind][0]])]), stream=stream, quality_floor=0.5)
    assert (last.tier, last.evidence["promised"]) == ("frontier", None)


@pytest.mark.parametrize("part", PARTS["unknown"])
async def test_a_part_of_an_unknown_kind_goes_to_the_last_tier_whatever_the_tiers_declare(part: Any) -> None:
    record = await Asked(BOTH_CAN).ask(query_of([user([TEXT, part])]))
    assert (record.tier, record.evidence["promised"]) == ("frontier", None)
    record = await Asked({"cheap": TEXT_ONLY, "frontier": TEXT_ONLY}).ask(query_of([user([TEXT, part])]))
    assert record.tier == "frontier"


async def test_encoded_media_in_a_plain_prompt_are_seen_to_be_such() -> None:
    record = await Asked(BOTH_CAN).ask(Query.from_prompt(f"describe {PNG}"))
    assert (record.tier, record.evidence["promised"]) == ("frontier", None)


@pytest.mark.parametrize(
    "messages",
    [
        [user("what does data:image/png;base64, mean?")],
        [user("hello"), {"role": "assistant", "content": "hi", "refusal": None}, user("and now?")],
        [user([TEXT, {"type": "text", "text": "more"}])],
        [user("hello"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, user("why?")],
    ],
)
async def test_text_in_any_form_is_measured_and_tried_as_ever(messages: list[dict[str, Any]]) -> None:
    record = await Asked().ask(query_of(messages))
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "accepted", 0.9)


NEEDY = [
    ({"tools": [{"type": "function", "function": {"name": "look"}}]}, "tools"),
    ({"functions": [{"name": "look"}]}, "tools"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "json_schema"),
    ({"reasoning_effort": "low"}, "reasoning"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "reasoning"),
]


@pytest.mark.parametrize(("fields", "capability"), NEEDY)
async def test_what_a_tier_says_it_does_not_take_is_not_sent_to_it(fields: dict[str, Any], capability: str) -> None:
    query = query_of([user("look")], **fields)
    assert needs_of(query).capabilities == {capability}
    at = Asked({"cheap": TEXT_ONLY - {capability}, "frontier": TEXT_ONLY})
    record = await at.ask(query)
    assert (record.tier, record.outcome, at.asked("cheap")) == ("frontier", "routed", 0)
    assert "cheap does not take" in record.route_reason
    assert "cheap does not take" in record.evidence["not_promised"], "not where the router sent it"
    assert (await Asked().ask(query)).tier == "cheap"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tier_asked_for_by_name_that_does_not_take_it_is_a_400(stream: bool) -> None:
    at = Asked()
    image = query_of([user(PARTS["image"])])
    with pytest.raises(
        RequestError, match=r"'cheap' does not take images \(tiers that do, by name: frontier\)"
    ) as error:
        at.service.open(image, "cheap", stream)
    assert (error.value.param, error.value.code) == ("model", "unsupported_modality")
    tools = query_of([user("x")], tools=[{"type": "function", "function": {"name": "look"}}])
    deaf = Asked({"cheap": frozenset({"text"}), "frontier": TEXT_ONLY})
    with pytest.raises(RequestError, match="does not take tools") as error:
        deaf.service.open(tools, "cheap", stream)
    assert error.value.code == "unsupported_capability"
    token = CALLER.set(Caller(KeyConfig(name="k", sha256="0" * 64, scopes=("use", "force")), tier="cheap"))
    try:
        with pytest.raises(RequestError, match="'cheap' does not take images"):
            at.service.open(image, "auto", stream)
    finally:
        CALLER.reset(token)
    assert at.sink.records == []


async def test_a_tier_asked_for_by_name_that_takes_it_answers_and_nothing_is_promised() -> None:
    record = await Asked().ask(query_of([user(PARTS["image"])]), "frontier")
    assert (record.outcome, record.evidence["promised"]) == ("forced", None)


@pytest.mark.parametrize("stream", [False, True])
def test_where_no_tier_takes_it_a_400_says_what_the_tiers_take_and_what_to_configure(stream: bool) -> None:
    nobody = Asked({"cheap": TEXT_ONLY, "frontier": TEXT_ONLY | {"audio"}})
    with pytest.raises(RequestError, match="no tier takes images") as error:
        nobody.service.open(query_of([user(PARTS["image"])]), "auto", stream)
    assert (error.value.param, error.value.code) == ("messages", "unsupported_modality")
    assert "frontier takes audio, json_schema, reasoning, text and tools" in str(error.value)
    assert "`modalities: [text, image]`" in str(error.value)
    deaf = Asked(dict.fromkeys(LAST_CAN, frozenset({"text"})))
    with pytest.raises(RequestError, match=r"no tier takes tools .*`tools: true`") as error:
        deaf.service.open(
            query_of([user("x")], tools=[{"type": "function", "function": {"name": "f"}}]), "auto", stream
        )
    assert (error.value.param, error.value.code) == ("tools", "unsupported_capability")


DIALECTS = [
    ("/v1/chat/completions", {"messages": [user(PARTS["image"][:1])]}),
    ("/v1/responses", {"input": [user([{"type": "input_image", "image_url": PNG}])]}),
    ("/v1/messages", {"messages": [user([{"type": "image", "source": SOURCE}])], "max_tokens": 9}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), DIALECTS)
@pytest.mark.parametrize(("model", "decided"), [("cheap", "cheap"), ("auto", "cheap"), ("auto", "frontier")])
async def test_every_dialect_gets_the_400(
    endpoint: Callable[..., Any], path: str, body: dict[str, Any], stream: bool, model: str, decided: str
) -> None:
    at = endpoint(decider=FakeDecider(decided), start_before_commit=False)
    can = {"cheap": EVERYTHING if decided == "frontier" else TEXT_ONLY, "frontier": TEXT_ONLY}
    at.service.routing = RoutingContext(capabilities=can)
    async with at.client() as client:
        response = await client.post(path, json={"model": model, "stream": stream, **body})
    assert response.status_code == 400, response.text
    assert "images" in response.json()["error"]["message"]
    assert all(engine.queries == [] for engine in at.context.engines.values())
    assert len(at.sink.records) == (decided == "frontier"), "what is refused at the door is no decision"


def test_the_400_names_what_is_missing_and_not_what_the_tiers_take() -> None:
    sees = Asked({"cheap": frozenset({"text"}), "frontier": frozenset({"text", "image"})})
    asked = query_of([user(PARTS["image"])], tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(RequestError, match=r"no tier takes images and tools .*declares `tools: true`") as error:
        sees.service.open(asked, "auto", False)
    assert (error.value.param, error.value.code) == ("tools", "unsupported_capability")


async def test_a_cheaper_tier_alone_takes_it_where_the_router_chose_it_and_not_otherwise() -> None:
    only_cheap = {"cheap": EVERYTHING, "frontier": TEXT_ONLY}
    at = Asked(only_cheap, judge=FakeJudge(Action.ESCALATED))
    record = await at.ask(query_of([user(PARTS["image"])]))
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "routed", None)
    above = Asked(only_cheap, decider=FakeDecider("frontier"))
    with pytest.raises(RequestError, match="'frontier' was chosen, and no tier from it up takes images"):
        await above.ask(query_of([user(PARTS["image"])]))
    assert above.sink.records[0].status == 400
    assert above.asked("cheap") == above.asked("frontier") == 0


async def test_a_quality_floor_is_not_met_by_a_last_tier_that_does_not_take_it() -> None:
    with pytest.raises(RequestError, match=r"a quality floor of 0\.5 needs 'frontier', which does not take images"):
        await Asked({"cheap": EVERYTHING, "frontier": TEXT_ONLY}).ask(
            query_of([user(PARTS["image"])]), quality_floor=0.5
        )


async def test_text_for_tools_that_the_last_tier_lacks_is_answered_without_verdict_or_promise() -> None:
    at = Asked({"cheap": TEXT_ONLY, "frontier": TEXT_ONLY - {"tools"}}, judge=FakeJudge(Action.ESCALATED))
    record = await at.ask(query_of([user("x")], tools=[{"type": "function", "function": {"name": "f"}}]))
    assert (record.tier, record.outcome, at.asked("frontier")) == ("cheap", "routed", 0)
    assert record.evidence["promised"] is None
    assert "frontier, which would have the last word, does not take tools" in record.route_reason


@pytest.mark.parametrize("safe_tier", ["cheap", "frontier"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tier_that_does_not_take_it_is_no_fallback(safe_tier: str, stream: bool) -> None:
    image = query_of([user(PARTS["image"])])
    broken = Asked(frontier=FakeEngine(error=EngineError("died")), safe_tier=safe_tier)
    with pytest.raises(EngineError):
        await broken.ask(image, stream=stream)
    assert broken.asked("cheap") == 0
    down = Asked(decider=FakeDecider(error=PolicyUnavailableError("down")), safe_tier=safe_tier)
    record = await down.ask(image, stream=stream)
    assert (record.tier, record.outcome, down.asked("cheap")) == ("frontier", "fallback", 0)
    assert record.evidence["promised"] is None


@pytest.mark.parametrize("error", [EngineError("died"), EngineRequestError("I see no images")])
@pytest.mark.parametrize("stream", [False, True])
async def test_where_a_cheaper_tier_fails_at_it_the_last_that_takes_it_answers(error: Exception, stream: bool) -> None:
    record = await Asked(BOTH_CAN, cheap=FakeEngine(error=error)).ask(query_of([user(PARTS["image"])]), stream=stream)
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("frontier", "fallback", None)


async def test_sessions_and_tool_loops_hold_no_request_on_a_tier_that_does_not_take_it() -> None:
    at = Asked()
    await at.ask(query_of([user("look")]), session="talk")
    record = await at.ask(query_of([user("look"), user(PARTS["image"])]), session="talk")
    assert record.tier == "frontier"
    tag = at.service.tool_affinity.tag("cheap", "c1", bound([user("look")], None))
    call = {**CALL, "id": tag}
    result = {"role": "tool", "tool_call_id": tag, "content": PARTS["image"][:1]}
    began = query_of([user("look"), {"role": "assistant", "content": None, "tool_calls": [call]}, result])
    record = await at.ask(began)
    assert record.tier == "frontier"
    assert "not held on cheap, which began it" in record.route_reason


def test_a_request_of_text_is_not_read_any_further() -> None:
    at = Asked(dict.fromkeys(LAST_CAN, frozenset()))
    assert at.service.open(Query.from_prompt("hello"), "auto", False).context.policy == at.context.policy
    assert at.service.open(query_of([user("hello")], temperature=0.5), "auto", False).context.unmeasured is None


LADDER = ("small", "medium", "large")
DECLARED = st.fixed_dictionaries({tier: st.frozensets(st.sampled_from(sorted(EVERYTHING))) for tier in LADDER})
REQUESTS = st.builds(
    query_of,
    st.lists(st.sampled_from([user("hello"), *[user([part]) for _, part in KINDS]]), min_size=1, max_size=3),
    tools=st.sampled_from([None, [{"type": "function", "function": {"name": "f"}}]]),
)


@settings(max_examples=150)
@given(DECLARED, REQUESTS, st.sampled_from(LADDER))
def test_a_decision_only_moves_up_and_only_to_a_tier_that_takes_the_request(
    declared: dict[str, frozenset[str]], query: Query, chosen: str
) -> None:
    capable = CapableTiers(LADDER, declared, needs_of(query))
    try:
        decision = capable.apply(Decision(chosen, "so"))
    except RequestError:
        assert all(capable.lacks(tier) for tier in LADDER[LADDER.index(chosen) :])
        return
    assert LADDER.index(decision.tier) >= LADDER.index(chosen)
    assert not capable.lacks(decision.tier)
    if capable.needs.unmeasured is not None:
        assert not decision.promised
        assert not capable.needs.needs_last or decision.tier == capable.able[-1]


@settings(max_examples=60, deadline=None)
@given(
    DECLARED,
    REQUESTS,
    st.sampled_from(LADDER),
    st.sampled_from([Action.ACCEPTED, Action.ESCALATED]),
    st.sets(st.sampled_from(LADDER)),
    st.sampled_from(LADDER),
    st.booleans(),
)
def test_whatever_fails_no_tier_is_ever_asked_for_what_it_does_not_take(
    declared: dict[str, frozenset[str]],
    query: Query,
    chosen: str,
    verdict: Action,
    broken: set[str],
    safe_tier: str,
    stream: bool,
) -> None:
    engines = {tier: FakeEngine(error=EngineError("died") if tier in broken else None) for tier in LADDER}
    made = fake_context(decider=FakeDecider(chosen), judge=FakeJudge(verdict), safe_tier=safe_tier)
    policy = Policy(LADDER, {tier: OperatingPoint(0.5, 0.5) for tier in LADDER[:-1]})
    prices = dict.fromkeys(LADDER, PRICES["cheap"])
    context = replace(made, engines=engines, streams=engines, policy=policy, prices=prices)
    service = Service(context, ListSink(), routing=RoutingContext(0.9, capabilities=declared))

    async def ask() -> None:
        request = service.open(query, "auto", stream)
        if stream:
            assert [chunk async for chunk in service.stream(request)]
        else:
            await service.answer(request)

    with suppress(RequestError, EngineError):
        asyncio.run(ask())
    needs = CapableTiers(LADDER, declared, needs_of(query))
    asked = {tier for tier, engine in engines.items() if engine.queries}
    assert not [tier for tier in asked if needs.lacks(tier)]


@pytest.mark.parametrize(
    ("asked", "outcome", "why_not"),
    [
        ({}, "accepted", None),
        ({"stream": True, "mode": "verify"}, "accepted", None),
        ({"stream": True, "mode": "route"}, "routed", "a stream that is shown unjudged (route)"),
        ({"model": "cheap"}, "forced", "cheap was asked for by name"),
        ({"model": "frontier"}, "forced", "frontier was asked for by name"),
    ],
)
async def test_a_cheap_answer_that_nobody_judged_is_not_promised(
    asked: dict[str, Any], outcome: str, why_not: str | None
) -> None:
    record = await Asked().ask(Query.from_prompt("hello"), **asked)
    assert (record.outcome, record.evidence["promised"]) == (outcome, None if why_not else 0.9)
    assert record.evidence.get("not_promised") == why_not


async def test_a_cheap_fallback_is_not_promised() -> None:
    down = Asked(decider=FakeDecider(error=PolicyUnavailableError("down")), safe_tier="cheap")
    record = await down.ask(Query.from_prompt("hello"))
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "fallback", None)
