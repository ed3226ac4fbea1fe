"""A reply that calls tools is an answer: accepted as declared at the tier that was chosen, and nothing promised."""

import json
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.estimators.verifiers.checks.formats import CALLS_NOT_MEASURED
from router_models.types import Completion, Decision, DecisionRecord, OperatingPoint, PrefixPoint, Query, Verdict
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cascade.fakes import PRICES, FakeEngine, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.protocol.chunks import to_chunks
from serve_graph.protocol.requests import ChatRequest, RequestOptions, chat_query
from serve_graph.protocol.responses import completion_of
from serve_graph.records.explanation import explained

CASES = Path(__file__).parents[3] / "fixtures" / "cases"
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
IN_ZONE = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
TOOLS = [NOW, {"type": "function", "function": {"name": "now_in", "parameters": IN_ZONE}}]
WAYS: list[tuple[bool, str | None]] = [(False, None), (True, "verify"), (True, "prefix"), (True, "route")]


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def message(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def of_case(name: str) -> dict[str, Any]:
    [reply] = json.loads((CASES / name).read_text(encoding="utf-8"))
    said: dict[str, Any] = reply["json"]["choices"][0]["message"]
    return said


VALID = {
    "null content": of_case("05-tool-call-null-content.json"),
    "empty arguments beside text": of_case("06-tool-call-empty-arguments.json"),
    "text beside the call": message(call("now", "{}"), content="I do not know, let me look."),
    "parallel": message(call("now", ""), call("now_in", '{"zone": "UTC"}')),
    "former function_call": {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": ""}},
}
INVALID = {
    "unknown name": message(call("yesterday", "{}")),
    "broken arguments": message(call("now_in", '{"zone": ')),
    "empty, but required": message(call("now_in", "")),
    "one of two": message(call("now", "{}"), call("now_in", "{}"), content="Two moments."),
}


@dataclass
class Replies(FakeEngine):
    """An engine whose answer is one message, as often as choices are asked for."""

    message: Mapping[str, Any] = field(default_factory=dict)

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        self.queries.append(query)
        said = {"message": self.message, "finish_reason": "tool_calls"}
        choices = [{"index": i, **said} for i in range(int(query.parameters.get("n") or 1))]
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return completion_of({"choices": choices, "usage": usage}, 0.0)

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        for choices in to_chunks(await self.generate(query)):
            yield {"choices": choices}


class VersionPolicy:
    """Router and verifier of a version whose router always tries the cheap tier; it scores empty text 0."""

    def __init__(self, judges_calls: tuple[str, ...] = (), *, judges_top: bool = False) -> None:
        points = {"cheap": OperatingPoint(0.0, 0.5)}
        stages = {"cheap": Stage(ConstantRouter(0.9), None, NonEmptyVerifier(), None)}
        if judges_top:
            points["frontier"] = OperatingPoint(math.inf, 0.0, 0.5)
            stages["frontier"] = Stage(None, None, NonEmptyVerifier(), None)
        policy = Policy(("cheap", "frontier"), points, {"cheap": PrefixPoint(1, 0.5)})
        self.version = RouterVersion(policy, stages, judges_calls=judges_calls)

    async def decide(self, query: Query) -> Decision:
        return self.version.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return self.version.judge(query, completion, decision)


class Asked:
    """One request that declares tools, through a service whose certificate promises 0.9."""

    def __init__(
        self,
        cheap: Mapping[str, Any] | FakeEngine,
        frontier: FakeEngine | None = None,
        judges_calls: tuple[str, ...] = (),
        *,
        judges_top: bool = False,
    ) -> None:
        policy = VersionPolicy(judges_calls, judges_top=judges_top)
        made = fake_context(cheap if isinstance(cheap, FakeEngine) else Replies(message=cheap), frontier)
        context = replace(made, decider=policy, judge=policy, policy=policy.version.policy)
        self.sink = ListSink()
        routing = RoutingContext(0.9, judges_calls=judges_calls)
        self.service = Service(context, self.sink, StreamTerms(), routing=routing)

    async def ask(
        self, stream: bool = False, mode: str | None = None, quality_floor: float | None = None, **fields: Any
    ) -> DecisionRecord:
        asked = {"model": "auto", "messages": [{"role": "user", "content": "what time is it?"}], "tools": TOOLS}
        query = chat_query(ChatRequest.model_validate(asked | fields))
        options = RequestOptions.model_validate({"stream": mode, "quality_floor": quality_floor})
        request = self.service.open(query, "auto", stream, options)
        if stream:
            pieces = [choice async for chunk in self.service.stream(request) for choice in chunk["choices"]]
            self.said: Any = [piece["delta"] for piece in pieces]
        else:
            reply = await self.service.answer(request)
            self.said = [choice["message"] for choice in reply["choices"]]
        return self.sink.records[-1]


@pytest.mark.parametrize(("stream", "mode"), WAYS)
@pytest.mark.parametrize("said", VALID.values(), ids=VALID)
async def test_a_call_as_declared_is_accepted_at_the_chosen_tier_and_nothing_is_promised(
    said: dict[str, Any], stream: bool, mode: str | None
) -> None:
    asked = Asked(said)
    record = await asked.ask(stream, mode)
    assert (record.tier, record.outcome) == ("cheap", "routed" if mode == "route" else "accepted")
    assert [line.tier for line in record.calls] == ["cheap"], "one tier is paid"
    assert record.evidence["promised"] is None
    apart = {"route": "a stream that is shown unjudged (route)", "prefix": "of a declared shape is judged whole"}
    why = apart.get(mode or "", CALLS_NOT_MEASURED)
    assert why in record.evidence["not_promised"]
    assert record.p_answer_ok is None, "its text is not scored"
    assert any("tool_calls" in each or "function_call" in each for each in asked.said)
    lines = explained(record, PRICES, ("cheap", "frontier"))["explanation"]
    assert any("nothing promised of this answer" in line and why in line for line in lines)


@pytest.mark.parametrize(("stream", "mode"), WAYS[:-1])
@pytest.mark.parametrize("said", INVALID.values(), ids=INVALID)
async def test_a_call_that_is_not_as_declared_is_escalated(
    said: dict[str, Any], stream: bool, mode: str | None
) -> None:
    record = await Asked(said).ask(stream, mode)
    assert (record.tier, record.outcome) == ("frontier", "escalated")
    assert record.verdict_reason is not None
    assert "tool call" in record.verdict_reason
    why = "of a declared shape is judged whole" if mode == "prefix" else "frontier, the last tier, answered"
    assert why in record.evidence["not_promised"]


@pytest.mark.parametrize(("stream", "mode"), WAYS[:-1])
@pytest.mark.parametrize("said", VALID.values(), ids=VALID)
async def test_a_quality_floor_needs_the_last_tier_for_a_call(
    said: dict[str, Any], stream: bool, mode: str | None
) -> None:
    record = await Asked(said).ask(stream, mode, quality_floor=0.8)
    known = mode == "prefix"  # before anything is generated
    assert (record.tier, record.outcome) == ("frontier", "routed" if known else "escalated")
    why = record.route_reason if known else record.verdict_reason or ""
    assert ("of a declared shape is judged whole" if known else "a quality floor: frontier") in why


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_are_read_one_by_one(stream: bool) -> None:
    record = await Asked(VALID["null content"]).ask(stream, n=3)
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "accepted", None)
    record = await Asked(INVALID["broken arguments"]).ask(stream, n=2)
    assert (record.tier, record.outcome) == ("frontier", "escalated")


async def test_one_call_is_no_call_for_the_choices_beside_it() -> None:
    class Mixed(Replies):
        async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
            made = await super().generate(query)
            text = {"index": 1, "message": {"role": "assistant", "content": "noon"}, "finish_reason": "stop"}
            return completion_of({"choices": [made.payload["choices"][0], text]}, 0.0)

    record = await Asked(Mixed(message=VALID["null content"])).ask(n=2)
    assert (record.tier, record.outcome) == ("cheap", "accepted")
    assert record.evidence["promised"] is None


async def test_a_verifier_that_was_certified_on_calls_judges_them() -> None:
    said = VALID["text beside the call"]
    record = await Asked(said, judges_calls=("cheap",)).ask()
    assert (record.tier, record.outcome, record.p_answer_ok) == ("cheap", "accepted", 1.0)
    assert record.evidence["promised"] == 0.9
    record = await Asked(VALID["null content"], judges_calls=("cheap",)).ask()
    assert (record.tier, record.p_answer_ok) == ("frontier", 0.0)


async def test_the_last_tiers_call_is_never_withheld_as_an_empty_text() -> None:
    last = Replies(message=VALID["null content"])
    record = await Asked(INVALID["unknown name"], last, judges_top=True).ask()
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("frontier", "escalated", None)
    silent = await Asked(INVALID["unknown name"], FakeEngine(""), judges_top=True).ask()
    assert silent.outcome == "abstained"


async def test_a_call_after_a_prefix_that_passed_is_not_promised() -> None:
    """No tool was declared, so that the answer was judged by its beginning; then it called one all the same."""

    cheap = FakeEngine("One moment please", tool_calls=[call("now", "{}")])
    record = await Asked(cheap).ask(True, "prefix", tools=None)
    assert (record.tier, record.outcome) == ("cheap", "accepted")
    assert record.evidence["promised"] is None
