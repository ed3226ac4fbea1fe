"""What routers and verifiers do not see is never promised, and no tier is asked for what it does not declare."""

from collections.abc import Callable
from typing import Any

import pytest

from router_models.types import Action, Query
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeJudge
from serve_graph.config.access import KeyConfig
from serve_graph.errors import RequestError
from serve_graph.gateway.capabilities import needs_of
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.records.explanation import explained
from tests.unit.serve_graph.gateway.capabilities.capable import BOTH_CAN, EVERYTHING, LAST_CAN, TEXT_ONLY, WAYS, Asked
from tests.unit.serve_graph.gateway.capabilities.parts import (
    PARTS,
    PNG,
    POSITIONS,
    SOURCE,
    TEXT,
    query_of,
    user,
)


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
