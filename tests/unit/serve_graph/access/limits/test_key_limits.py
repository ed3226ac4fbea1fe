"""What a key may do, as its caller meets it: requests, tokens, money, escalations and a quality floor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from router_models.types import Action
from serve_graph.access.accounts import was_escalated
from serve_graph.access.keys import key_hash
from serve_graph.cascade.fakes import FakeEmbedder, FakeJudge
from serve_graph.config.access import EscalationWatchConfig
from tests.unit.serve_graph.access.guarded import HELLO, Guarded, error_of


async def test_requests_beyond_the_limit_are_429_until_there_is_room() -> None:
    at = Guarded([{"name": "team", "requests_per_min": 2}, {"name": "other"}])
    statuses = [(await at.ask("team")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await at.ask("team")
    error = error_of(refused, 429)
    assert (error["type"], error["code"], refused.headers["retry-after"]) == ("requests", "rate_limit_exceeded", "30")
    assert (await at.ask("other")).status_code == 200
    at.now = 30.0
    assert (await at.ask("team")).status_code == 200


async def test_tokens_are_counted_by_the_engine_and_waited_out() -> None:
    at = Guarded([{"name": "team", "tokens_per_min": 20}])  # the fake's answers are 15 tokens
    assert [(await at.ask("team")).status_code for _ in range(3)] == [200, 200, 429]
    assert error_of(await at.ask("team"), 429)["type"] == "tokens"


async def test_a_spent_budget_is_insufficient_quota() -> None:
    at = Guarded([{"name": "team", "usd_per_day": "0.00003"}])  # the fake's answers cost 0.00002
    assert [(await at.ask("team")).status_code for _ in range(3)] == [200, 200, 429]
    refused = await at.ask("team")
    assert error_of(refused, 429)["type"] == error_of(refused, 429)["code"] == "insufficient_quota"
    assert refused.headers["retry-after"] == str(12 * 3600)


async def test_escalations_by_one_key_alone_are_capped_and_counted() -> None:
    watch = EscalationWatchConfig(min_requests=20)
    judge = FakeJudge()
    at = Guarded([{"name": "attacker"}, {"name": "team"}, {"name": "boss", "scopes": ["admin"]}], watch, judge=judge)
    for _ in range(40):
        assert (await at.ask("team")).status_code == 200
    judge.action = Action.ESCALATED
    statuses = [(await at.ask("attacker")).status_code for _ in range(30)]
    assert statuses == [200] * 20 + [429] * 10
    assert "serve_graph_escalation_caps_total 10" in (await at.ask("boss", "/metrics")).text
    judge.action = Action.ACCEPTED
    assert (await at.ask("team")).status_code == 200


async def test_requests_that_nobody_judges_hide_no_escalations() -> None:
    watch = EscalationWatchConfig(min_requests=20)
    judge = FakeJudge()
    keys = [{"name": "attacker", "scopes": ["use", "force"]}, {"name": "team"}]
    at = Guarded(keys, watch, judge=judge, embedder=FakeEmbedder())
    for _ in range(40):
        await at.ask("team")
    judge.action = Action.ESCALATED
    for _ in range(20):
        await at.ask("attacker")
        for _ in range(5):
            await at.ask("attacker", "/v1/embeddings", {"model": "auto", "input": "a"})
        await at.ask("attacker", body=HELLO | {"model": "frontier"})
    assert error_of(await at.ask("attacker"), 429)["type"] == "escalations"


def test_an_answer_abstained_from_after_both_tiers_counts_as_escalated(a_record: Callable[..., Any]) -> None:
    [one] = a_record().calls[:1]
    both = (replace(one, tier="cheap"), replace(one, tier="frontier"))
    assert was_escalated(a_record(outcome="abstained", calls=both))
    assert not was_escalated(a_record(outcome="abstained", calls=both[:1]))
    assert was_escalated(a_record(outcome="escalated"))


async def test_a_keys_quality_floor_holds_whatever_is_asked_for() -> None:
    at = Guarded([{"name": "gold", "quality_floor": 0.95, "scopes": ["use", "force"]}, {"name": "team"}])
    assert (await at.ask("team")).headers["x-serve-graph-tier"] == "cheap"
    lower = HELLO | {"serve_graph": {"quality_floor": 0.1}}
    for body in (HELLO, lower):
        answered = await at.ask("gold", body=body)
        assert answered.headers["x-serve-graph-tier"] == "frontier"
    assert "quality floor 0.95: 0.9 is certified" in at.sink.records[-1].route_reason
    error_of(await at.ask("gold", body=HELLO | {"model": "cheap"}), 403)
    assert (await at.ask("gold", body=HELLO | {"model": "frontier"})).status_code == 200


async def test_streams_are_charged_to_their_key_too() -> None:
    at = Guarded([{"name": "team", "tokens_per_min": 20}])
    assert (await at.ask("team", body=HELLO | {"stream": True})).status_code == 200
    assert at.sink.records[0].key == "team"
    await at.ask("team")
    assert (await at.ask("team")).status_code == 429


async def test_secrets_are_nowhere_in_records_or_metrics() -> None:
    at = Guarded([{"name": "team", "sha256": key_hash("sg-very-secret"), "scopes": ["use", "admin"]}])
    assert (await at.ask("sg-very-secret")).status_code == 200
    metrics = (await at.ask("sg-very-secret", "/metrics")).text
    assert "sg-very-secret" not in repr(at.sink.records)
    assert "team" not in metrics
