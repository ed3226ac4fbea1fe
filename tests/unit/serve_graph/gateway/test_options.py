from collections.abc import Callable
from typing import Any

import pytest

from router_models.types import Action, Query
from serve_graph.access.caller import Caller
from serve_graph.cascade.fakes import FakeDecider, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError, RequestError
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.options import ResolvedOptions, resolve_options
from serve_graph.protocol.requests import RequestOptions, options_of

Endpoints = Callable[..., Any]


def read(
    options: RequestOptions | None = None, caller: Caller | None = None, model: str | None = None, **metadata: str
) -> ResolvedOptions:
    named = {name.replace("__", "."): value for name, value in metadata.items()}
    return resolve_options(options, named, caller or Caller(), model, "frontier")


def a_key(**fields: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": "k", "sha256": "0" * 64, **fields})


def test_metadata_and_object_say_the_same_and_the_object_wins() -> None:
    said = read(None, serve_graph__quality_floor="0.9", serve_graph__task="sum")
    assert (said.quality_floor, said.task) == (0.9, "sum")
    both = read(RequestOptions(quality_floor=0.5), serve_graph__quality_floor="0.9", serve_graph__task="sum")
    assert (both.quality_floor, both.task) == (0.5, "sum")


@pytest.mark.parametrize(
    "metadata",
    [{"serve_graph__quality_floor": "high"}, {"serve_graph__quality_floor": "nan"}, {"serve_graph__x": "1"}],
)
def test_wishes_that_are_none_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="metadata"):
        read(None, **metadata)


def test_other_metadata_is_left_alone() -> None:
    resolved = read(RequestOptions(task="sum", user_tier="gold"), quality_floor="high", serve_graph__abstain="forbid")
    labels = resolved.labels({"quality_floor": "high", "serve_graph.abstain": "forbid"})
    assert labels == {"quality_floor": "high", "task": "sum", "user_tier": "gold"}
    assert resolved.forbids_abstaining


def test_the_higher_floor_of_key_and_request_counts() -> None:
    caller = Caller(a_key(quality_floor=0.8))
    assert read(RequestOptions(quality_floor=0.95), caller).quality_floor == 0.95
    assert read(RequestOptions(quality_floor=0.2), caller).quality_floor == 0.8


def test_two_different_tiers_are_refused() -> None:
    assert read(None, Caller(tier="cheap"), "cheap").forced == "cheap"
    assert read(None, Caller(tier="auto"), "cheap").forced == "cheap"
    with pytest.raises(RequestError, match="name one tier"):
        read(None, Caller(tier="cheap"), "frontier")


def test_unjudged_streams_promise_nothing() -> None:
    with pytest.raises(RequestError, match="unjudged"):
        read(RequestOptions(stream="route", quality_floor=0.5))


def test_a_floor_and_a_forced_cheap_tier_do_not_go_together_for_a_key_that_has_one() -> None:
    with pytest.raises(AccessError, match="promised"):
        read(None, Caller(a_key(quality_floor=0.5, scopes=["use", "force"])), "cheap")


def test_sessions_are_hashed_and_keys_do_not_share_them() -> None:
    mine = read(None, Caller(a_key(name="a"), session="talk"))
    theirs = read(None, Caller(a_key(name="b"), session="talk"))
    assert mine.session is not None
    assert mine.session != theirs.session
    assert "talk" not in mine.session
    assert read(RequestOptions(session="talk"), Caller(a_key(name="a"))).session == mine.session


def test_openais_own_fields_name_the_session() -> None:
    def session(*given: Any) -> str | None:
        options = options_of(*given)
        return None if options is None else options.session

    assert session(None, "cache-key", "user") == "cache-key"
    assert session(None, None, "user") == "user"
    assert session(RequestOptions(session="mine"), "cache-key", "user") == "mine"
    assert options_of(None, None, None) is None


async def test_a_floor_above_the_certificates_goes_to_the_last_tier_unasked(endpoint: Endpoints) -> None:
    decider = FakeDecider("cheap")
    at = endpoint(decider=decider)
    response = await at.chat(serve_graph={"quality_floor": 0.5})
    assert (response.headers["x-serve-graph-tier"], response.headers["x-serve-graph-outcome"]) == (
        "frontier",
        "routed",
    )
    assert "quality floor 0.5: nothing is certified" in at.record.route_reason
    assert decider.queries == []


async def test_a_tier_may_be_named_in_a_header(endpoint: Endpoints) -> None:
    at = endpoint()
    async with at.client() as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        answered = await client.post("/v1/chat/completions", json=body, headers={"x-serve-graph-tier": "frontier"})
        unknown = await client.post("/v1/chat/completions", json=body, headers={"x-serve-graph-tier": "none"})
    assert answered.headers["x-serve-graph-outcome"] == "forced"
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("abstain", "outcome"), [(None, "abstained"), ("allow", "abstained"), ("forbid", "escalated")]
)
async def test_abstaining_may_be_forbidden_for_one_request(
    endpoint: Endpoints, abstain: str | None, outcome: str
) -> None:
    at = endpoint(judge=FakeJudge(Action.ABSTAINED))
    options = {} if abstain is None else {"serve_graph": {"abstain": abstain}}
    response = await at.chat(**options)
    assert response.headers["x-serve-graph-outcome"] == outcome
    assert (await at.chat()).headers["x-serve-graph-outcome"] == "abstained"


async def test_labels_reach_the_router_and_the_engine_sees_no_wishes(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat(serve_graph={"task": "sum", "user_tier": "gold"}, prompt_cache_key="k")
    [query] = at.context.decider.queries
    assert query.metadata == {"task": "sum", "user_tier": "gold"}
    [sent] = at.context.engines["cheap"].queries
    assert "serve_graph" not in sent.parameters
    assert at.record.evidence["wishes"] == {"task": "sum", "user_tier": "gold"}


@pytest.mark.parametrize(
    "wrong", [{"quality_floor": 2}, {"latency_budget_s": 0}, {"abstain": "maybe"}, {"unheard_of": 1}, 3]
)
async def test_wishes_out_of_range_are_400(endpoint: Endpoints, wrong: Any) -> None:
    response = await endpoint().chat(serve_graph=wrong)
    assert response.status_code == 400


async def test_whoever_asks_for_quality_is_shown_nothing_unjudged() -> None:
    unjudged = StreamTerms(StreamMode.ROUTE)
    judge, sink = FakeJudge(), ListSink()
    service = Service(fake_context(judge=judge), sink, unjudged, routing=RoutingContext(certified=0.9))
    for options, judged in ((None, 0), (RequestOptions(quality_floor=0.5), 1)):
        opened = service.open(Query.from_prompt("hello"), "auto", True, options)
        assert [piece async for piece in service.stream(opened)]
        assert len(judge.completions) == judged
        assert sink.records[-1].tier == "cheap"
