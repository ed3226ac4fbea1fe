"""While the last tier is full, a rejected cheap answer that is certified for it is shown, marked; else it is a 429."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.versions.policy import OverloadPoint
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.config.access import KeyConfig
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import EngineError, EngineTimeoutError, PolicyUnavailableError, SaturatedError
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.policy.validity import CertificateStatus, Validity, ValidityPeriod
from serve_graph.protocol.requests import RequestOptions
from serve_graph.records.explanation import explained
from serve_graph.records.metrics import render_metrics

START = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = START + timedelta(days=30)
FULL = SaturatedError("tier 'frontier' is saturated: its queue is full", retry_after_s=7.0)


@dataclass
class Judge(FakeJudge):
    """Rejects, and says whether the answer may be served on overload; `then` runs before the verdict is given."""

    action: Action = Action.ESCALATED
    prefix_action: Action = Action.ESCALATED
    may_serve_on_overload: bool = True
    then: Callable[[], None] = lambda: None

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        verdict = await super().judge(query, completion, decision)
        self.then()
        return replace(
            verdict, may_serve_on_overload=self.may_serve_on_overload and completion.finish_reason != "prefix"
        )


@dataclass
class Busy:
    """A Service whose last tier fails as told, and whose overload certificate ends at ENDS; `now` is its clock."""

    error: Exception | None = FULL
    judge: FakeJudge = field(default_factory=Judge)
    spill: bool = True
    terms: StreamTerms | None = None
    graph_settings: dict[str, Any] = field(default_factory=dict)
    whole_ends: datetime = ENDS + timedelta(days=1)
    now: datetime = START
    sink: ListSink = field(default_factory=ListSink)
    retries: int = 0

    def __post_init__(self) -> None:
        self.frontier = FakeEngine("FRONTIER SAYS", error=self.error)
        context = fake_context(FakeEngine("cheap says"), self.frontier, judge=self.judge, **self.graph_settings)
        if self.spill:
            context = replace(
                context, policy=replace(context.policy, overload_points={"cheap": OverloadPoint(0.3, 0.25)})
            )
        terms = [ValidityPeriod((START, end), (None, f"over: {end:%d}")) for end in (self.whole_ends, ENDS)]
        certificate_status = CertificateStatus(Validity(terms[0], {}, {"cheap": terms[1]}), "fake/1", lambda: self.now)
        self.service = Service(
            context, self.sink, self.terms, routing=RoutingContext(0.9, certificate_status=certificate_status)
        )

    async def ask(self, model: str = "auto", stream: bool = False, **resolved: Any) -> tuple[str, dict[str, Any]]:
        request = self.service.open(Query.from_prompt("why?"), model, stream, RequestOptions(**resolved))
        if not stream:
            reply = await self.service.answer(request)
            return reply["choices"][0]["message"]["content"], reply["serve_graph"]
        text, facts = "", {}
        async for chunk in self.service.stream(request):
            text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            facts = chunk.get("serve_graph", facts)
        return text, facts

    async def refused(self, stream: bool = False, **resolved: Any) -> None:
        """The same request is a 429 that says when to come back."""
        with pytest.raises(SaturatedError) as caught:
            await self.ask(stream=stream, **resolved)
        assert caught.value.retry_after_s == 7.0
        [record] = self.sink.records
        assert (record.status, record.tier) == (429, "frontier")
        assert "spilled" not in record.evidence


@pytest.mark.parametrize("stream", [False, True])
async def test_rejected_answer_is_shown_and_marked_while_the_last_tier_is_full(stream: bool) -> None:
    at = Busy()
    text, facts = await at.ask(stream=stream)
    assert text == "cheap says"
    assert (facts["tier"], facts["outcome"], facts["spilled"]) == ("cheap", "fallback", True)
    [record] = at.sink.records
    assert (record.status, record.tier, record.outcome) == (200, "cheap", "fallback")
    assert "served on overload: frontier has no room now" in record.route_reason
    assert record.evidence["spilled"] == {"spill_at": 0.3, "promised": 0.75}
    assert 'serve_graph_spilled_total{tier="cheap"} 1' in render_metrics(at.service.metrics, 0, {})
    told = " ".join(explained(record, PRICES, ("cheap", "frontier"))["explanation"])
    assert "75.0% of such answers certified to be correct" in told


async def test_with_room_at_the_last_tier_nothing_is_spilled() -> None:
    text, facts = await Busy(error=None).ask()
    assert (text, facts["outcome"], "spilled" in facts) == ("FRONTIER SAYS", "escalated", False)


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_certified_spill_it_is_a_429(stream: bool) -> None:
    await Busy(spill=False).refused(stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_below_the_spill_point_is_a_429(stream: bool) -> None:
    await Busy(judge=Judge(may_serve_on_overload=False)).refused(stream)


@pytest.mark.parametrize(("floor", "serves"), [(0.75, True), (0.76, False)])
async def test_nobody_gets_less_than_the_floor_they_asked_for(floor: float, serves: bool) -> None:
    at = Busy()
    if serves:
        assert (await at.ask(quality_floor=floor))[1]["spilled"]
    else:
        await at.refused(quality_floor=floor)


async def test_floor_of_the_key_counts_too() -> None:
    token = CALLER.set(Caller(KeyConfig(name="k", sha256="0" * 64, quality_floor=0.8)))
    try:
        await Busy().refused()
    finally:
        CALLER.reset(token)


async def test_expired_spill_certificate_spills_nothing() -> None:
    at = Busy()
    at.now = ENDS
    await at.refused()


async def test_spill_certificate_that_ends_while_the_request_waits_spills_nothing() -> None:
    judge = Judge()
    at = Busy(judge=judge)
    judge.then = lambda: setattr(at, "now", ENDS)
    await at.refused()


async def test_void_version_spills_nothing_though_its_spill_certificate_holds() -> None:
    at = Busy(whole_ends=START + timedelta(days=1))
    at.now = START + timedelta(days=2)
    await at.refused()


async def test_a_tier_that_was_forced_is_a_429_or_itself() -> None:
    with pytest.raises(SaturatedError):
        await Busy().ask(model="frontier")
    assert "spilled" not in (await Busy().ask(model="cheap"))[1]


@pytest.mark.parametrize("error", [EngineError("dead"), EngineTimeoutError("slow")])
async def test_last_tier_that_is_broken_is_not_full(error: Exception) -> None:
    with pytest.raises(type(error)):
        await Busy(error=error).ask()


async def test_unjudged_answers_are_not_spilled() -> None:
    verifier_down = FakeJudge(error=PolicyUnavailableError("down"))
    with pytest.raises(SaturatedError):
        await Busy(judge=verifier_down).ask()
    with pytest.raises(SaturatedError):
        await Busy(graph_settings={"decider": FakeDecider("frontier", 0.1)}).ask()


async def test_beginning_that_was_rejected_is_not_an_answer_to_spill() -> None:
    terms = StreamTerms(StreamMode.PREFIX)
    at = Busy(terms=terms, graph_settings={"prefix_tokens": 1})
    await at.refused(stream=True)


async def test_whole_answer_behind_a_curtain_spills_too() -> None:
    terms = StreamTerms(StreamMode.PREFIX)
    text, facts = await Busy(terms=terms, graph_settings={"prefix_tokens": 500}).ask(stream=True)
    assert (text, facts["spilled"]) == ("cheap says", True)


async def test_stream_of_the_last_tier_that_breaks_off_after_the_commit_is_not_replaced() -> None:
    at = Busy(error=None)
    at.frontier.break_after, at.frontier.breaks_with = 2, FULL
    with pytest.raises(SaturatedError):
        await at.ask(stream=True)
    assert at.sink.records[0].tier == "frontier"


async def test_over_http_the_refusal_says_when_to_come_back(endpoint: Callable[..., Any]) -> None:
    at = endpoint(frontier=FakeEngine(error=FULL), judge=Judge())
    reply = await at.chat()
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
    assert reply.json()["error"]["code"] == "tier_saturated"


@pytest.mark.parametrize(("spill", "there"), [(True, {"cheap"}), (False, set())])
def test_it_is_off_unless_the_configuration_says_so(spill: bool, there: set[str]) -> None:
    from router_models.versions.router_version import RouterVersion
    from serve_graph.policy.served_policy import ServedPolicy

    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    asked = {"overload_fallback": True} if spill else {}
    config = GraphConfig.model_validate({"tiers": tiers, "policy": asked})
    policy = replace(fake_context().policy, overload_points={"cheap": OverloadPoint(0.3, 0.25)})
    served = ServedPolicy.of(RouterVersion(policy, {}), "v/1", "", config)
    assert set(served.policy.overload_points) == there


def test_doctor_says_where_a_spill_is_wanted_that_nothing_certifies(tmp_path: Path) -> None:
    from serve_graph.cli.local.doctor import examine

    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    policy = {"version": "none", "overload_fallback": True}
    config = GraphConfig.model_validate({"tiers": tiers, "policy": policy, "state_folder": tmp_path})
    assert any(
        "policy.overload_fallback is on, but none is certified" in finding.detail for finding in examine(config)
    )
