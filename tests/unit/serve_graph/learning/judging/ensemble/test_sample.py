"""Which requests both tiers answer: drawn by the request's id, asked for, or fit for neither."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Action
from serve_graph.cascade.certificate import CertificateSnapshot
from serve_graph.cascade.fakes import FakeEngine, FakeJudge
from serve_graph.cascade.steps import StreamTerms
from serve_graph.errors import EngineTimeoutError
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.capabilities import AsleepTiers
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.context_length import Room
from serve_graph.policy.served_version import ServedRollout
from tests.unit.serve_graph.learning.judging.ensemble.ensembles import Drawn, Referee, drawn

Endpoints = Callable[..., Any]
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {}}}
CALL = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
IMAGE = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]


async def outcomes(at: Drawn, ids: list[str]) -> list[str]:
    return [(await at.ask(headers={"x-request-id": one})).headers["x-serve-graph-outcome"] for one in ids]


async def test_the_share_is_drawn_by_request_id_so_that_a_retry_draws_the_same(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at, ids = drawn(endpoint, tmp_path, share=0.3), [f"req-{n}" for n in range(200)]
    first = await outcomes(at, ids)
    assert await outcomes(at, ids) == first
    assert 35 < Counter(first)["ensemble"] < 90, "within four standard deviations of 60"


async def test_requests_with_equal_ids_of_other_keys_are_drawn_apart(endpoint: Endpoints, tmp_path: Path) -> None:
    at, ids = drawn(endpoint, tmp_path, share=0.5, known={"secrets": ("a", "b")}), [f"req-{n}" for n in range(40)]
    found = []
    for key in ("a", "b"):
        headers = [{"x-request-id": one, "authorization": f"Bearer {key}"} for one in ids]
        found.append([(await at.ask(headers=one)).headers["x-serve-graph-outcome"] for one in headers])
    assert found[0] != found[1]


async def test_share_0_draws_nothing_and_whoever_asks_for_it_is_answered_by_both(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path, share=0.0)
    assert (await at.ask()).headers["x-serve-graph-outcome"] == "accepted"
    at.at.sink.records.clear()
    for asks in ({"serve_graph": {"ensemble": True}}, {"metadata": {"serve_graph.ensemble": "true"}}):
        assert (await at.ask(**asks)).headers["x-serve-graph-outcome"] == "ensemble"
        assert at.entry["asked_for"] is True
        assert "share" not in at.entry
        assert at.record.evidence["wishes"] == {"ensemble": True}
        at.at.sink.records.clear()


@pytest.mark.parametrize("no", [{"serve_graph": {"ensemble": False}}, {"metadata": {"serve_graph.ensemble": "false"}}])
async def test_whoever_does_not_want_it_is_not_drawn(endpoint: Endpoints, tmp_path: Path, no: dict[str, Any]) -> None:
    at = drawn(endpoint, tmp_path)
    assert (await at.ask(**no)).headers["x-serve-graph-outcome"] == "accepted"
    assert "ensemble" not in at.record.evidence
    assert at.ensemble.metrics.left_out == {}


async def test_only_the_keys_and_labels_that_are_named_are_drawn_from(endpoint: Endpoints, tmp_path: Path) -> None:
    only = {"keys": ["a"], "metadata": {"experiment": ["x", "y"]}}
    at = drawn(endpoint, tmp_path, only=only, known={"secrets": ("a", "b")})
    for key, label, outcome in (("a", "y", "ensemble"), ("a", "z", "accepted"), ("b", "y", "accepted")):
        reply = await at.ask(headers={"authorization": f"Bearer {key}"}, metadata={"experiment": label})
        assert reply.headers["x-serve-graph-outcome"] == outcome


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("forced", {"model": "cheap"}, "forced"),
    ("signals", {"model": "cheap", "serve_graph": {"signals": []}}, "forced"),
    ("several", {"n": 2}, "accepted"),
    ("tools", {"tools": [TOOL]}, "accepted"),
    ("tools", {"messages": [
        {"role": "user", "content": "pay"}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "paid"}]}, "accepted"),
    ("tools", {"web_search_options": {"search_context_size": "low"}}, "accepted"),
    ("no text", {"content": IMAGE}, "routed"),
    ("stream", {"stream": True}, "accepted"),
    ("latency_budget", {"serve_graph": {"latency_budget_s": 9}}, "accepted"),
    ("quality_floor", {"serve_graph": {"quality_floor": 0.9}}, "routed"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "given", "outcome"), UNFIT, ids=lambda given: given if isinstance(given, str) else "")
async def test_what_does_not_fit_is_answered_as_any_other_and_counted(
    endpoint: Endpoints, tmp_path: Path, why: str, given: dict[str, Any], outcome: str
) -> None:
    at = drawn(endpoint, tmp_path)
    reply = await at.ask(**given)
    assert reply.status_code == 200, reply.text
    assert at.record.outcome == outcome
    assert "ensemble" not in at.record.evidence
    assert dict(at.ensemble.metrics.left_out) == {"forced" if why == "signals" else why: 1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "cheap"}, "'cheap' was asked for by name"),
        ({"n": 2}, "several answers"),
        ({"tools": [TOOL]}, "tools are not compared"),
        ({"stream": True}, "policy.ensemble.streams"),
    ],
    ids=str,
)
async def test_whoever_asks_for_it_where_it_cannot_be_is_told_why(
    endpoint: Endpoints, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    reply = await drawn(endpoint, tmp_path).ask(**given, serve_graph={"ensemble": True})
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


async def test_a_graph_without_an_ensemble_says_so_to_whoever_asks_for_it(endpoint: Endpoints) -> None:
    at = endpoint()
    reply = await at.chat(serve_graph={"ensemble": True})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "serve_graph")
    assert "policy.ensemble" in reply.json()["error"]["message"]
    assert (await at.chat(serve_graph={"ensemble": False})).status_code == 200


async def test_metadata_that_is_neither_true_nor_false_is_refused(endpoint: Endpoints, tmp_path: Path) -> None:
    reply = await drawn(endpoint, tmp_path).ask(metadata={"serve_graph.ensemble": "maybe"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "metadata")


@pytest.mark.parametrize(
    ("known", "status"), [({"scopes": ("use",)}, 403), ({"limits": {"max_quality_floor": 0.8}}, 403)], ids=str
)
async def test_asking_for_it_takes_a_key_that_may(
    endpoint: Endpoints, tmp_path: Path, known: dict[str, Any], status: int
) -> None:
    at = drawn(endpoint, tmp_path, known={"secrets": ("a",), **known})
    headers = {"authorization": "Bearer a"}
    assert (await at.ask(headers=headers, serve_graph={"ensemble": True})).status_code == status
    assert (await at.ask(headers=headers)).headers["x-serve-graph-outcome"] == "ensemble", "drawn it is all the same"


async def test_a_key_without_room_for_both_is_answered_by_one_and_told_where_it_asked(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path, known={"secrets": ("a",), "limits": {"usd_per_day": "0.0040"}})
    at.at.service.accounts = at.at.accounts
    headers = {"authorization": "Bearer a"}
    assert (await at.ask(headers=headers, max_tokens=100)).headers["x-serve-graph-outcome"] == "accepted"
    assert dict(at.ensemble.metrics.left_out) == {"key's budget": 1}
    assert "ensemble" not in at.record.evidence
    reply = await at.ask(headers=headers, max_tokens=100, serve_graph={"ensemble": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")


async def test_one_that_its_keys_budget_leaves_to_the_policy_belongs_to_its_arm_of_a_rollout(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path, known={"secrets": ("a",), "limits": {"usd_per_day": "0.0040"}})
    at.at.service.accounts = at.at.accounts
    rollout = ServedRollout("rol-1", "canary", 1.0, 0.1, candidate=None)  # type: ignore[arg-type]
    context = replace(at.at.service.context, version="router/2", judge=FakeJudge(Action.ESCALATED))
    at.at.service.try_beside(RolloutArms(rollout, context, RoutingContext()))
    await at.ask(headers={"authorization": "Bearer a"}, max_tokens=100)
    assert dict(at.ensemble.metrics.left_out) == {"key's budget": 1}
    assert "ensemble" not in at.record.evidence
    assert (at.record.version, at.record.outcome) == ("router/2", "escalated")
    assert at.record.evidence["rollout"]["arm"] == "candidate"
    assert at.at.accounts.spending.in_progress(at.record.key or "") == 1, "its own hold alone"


async def test_a_graph_whose_certificate_was_revoked_draws_nothing(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path)

    class Revoked:
        def snapshot(self) -> CertificateSnapshot:
            return CertificateSnapshot({"answers": "alarms"})

    at.at.service.routing = RoutingContext(certificate_status=Revoked())  # type: ignore[arg-type]
    assert (await at.ask()).json()["serve_graph"]["tier"] == "frontier"
    assert dict(at.ensemble.metrics.left_out) == {"revoked": 1}


@pytest.mark.parametrize(
    ("routing", "why"),
    [
        (RoutingContext(asleep=AsleepTiers(tiers=frozenset({"cheap"}))), "asleep"),
        (RoutingContext(rooms={"cheap": Room(40, 30), "frontier": Room(4000, 30)}), "context"),
        (RoutingContext(capabilities={"cheap": frozenset(), "frontier": frozenset({"json_schema"})}), "capability"),
    ],
    ids=["asleep", "context", "capability"],
)
async def test_a_request_that_one_of_the_tiers_does_not_take_now_is_not_drawn(
    endpoint: Endpoints, tmp_path: Path, routing: RoutingContext, why: str
) -> None:
    at = drawn(endpoint, tmp_path)
    at.at.service.routing = routing
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    reply = await at.ask("?" * 60, **({"response_format": schema} if why == "capability" else {}))
    assert reply.status_code == 200
    assert dict(at.ensemble.metrics.left_out) == {why: 1}


async def test_a_stream_that_must_show_something_soon_is_not_held(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, streams="hold", known={"terms": StreamTerms(first_token_s=1.0)})
    await at.ask(stream=True)
    assert at.record.outcome == "accepted"
    assert dict(at.ensemble.metrics.left_out) == {"stream": 1}


async def test_a_drawn_request_belongs_to_no_arm_of_a_rollout(endpoint: Endpoints, tmp_path: Path) -> None:
    for share, outcome in ((1.0, "ensemble"), (0.0, "escalated")):
        at = drawn(endpoint, tmp_path, share=share)
        rollout = ServedRollout("rol-1", "canary", 1.0, 0.1, candidate=None)  # type: ignore[arg-type]
        context = replace(at.at.service.context, version="router/2", judge=FakeJudge(Action.ESCALATED))
        at.at.service.try_beside(RolloutArms(rollout, context, RoutingContext()))
        await at.ask()
        assert at.record.outcome == outcome
        assert ("rollout" in at.record.evidence) is (share == 0.0)


@pytest.mark.parametrize("fields", [{"stream": True}, {"n": 2}, {"tools": [TOOL]}])
async def test_a_drawn_request_that_two_tiers_cannot_answer_belongs_to_its_arm_of_a_rollout(
    endpoint: Endpoints, tmp_path: Path, fields: dict[str, Any]
) -> None:
    at = drawn(endpoint, tmp_path)
    rollout = ServedRollout("rol-1", "canary", 1.0, 0.1, candidate=None)  # type: ignore[arg-type]
    context = replace(at.at.service.context, version="router/2", judge=FakeJudge(Action.ESCALATED))
    at.at.service.try_beside(RolloutArms(rollout, context, RoutingContext()))
    await at.ask(**fields)
    assert "ensemble" not in at.record.evidence
    assert (at.record.version, at.record.outcome) == ("router/2", "escalated")
    assert "rollout" in at.record.evidence
    assert at.ensemble.metrics.left_out.total() == 1


async def test_a_request_with_a_key_holds_both_answers_and_the_picking_of_its_budget(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path, known={"secrets": ("a",), "limits": {"usd_per_day": "5"}})
    held: list[Decimal] = []
    hold = at.at.accounts.spending.hold
    at.at.accounts.spending.hold = lambda key, request, usd: (held.append(usd), hold(key, request, usd))
    at.at.service.accounts = at.at.accounts
    headers = {"authorization": "Bearer a"}
    await at.ask(headers=headers, max_tokens=10)
    await at.ask(headers=headers, max_tokens=10, serve_graph={"ensemble": False})
    most = sum(at.ensemble.most_usd(at.at.context.engines["cheap"].queries[0]).values())
    assert held[0] == held[1] + most


OVER = EngineTimeoutError("tier took over 9 s")


@pytest.mark.parametrize("error", [None, OVER], ids=["the ensemble's time", "the tier's own"])
@pytest.mark.parametrize("slow", ["critic", "frontier"])
async def test_a_key_is_charged_no_more_than_was_held_where_calls_are_cut_off(
    endpoint: Endpoints, tmp_path: Path, slow: str, error: Exception | None
) -> None:
    """What a call cost that nobody waited for is not known: key's and day's budget count the most it may have."""
    known: dict[str, Any] = {"secrets": ("a",), "limits": {"usd_per_day": "5"}}
    if slow == "frontier":
        known["frontier"] = FakeEngine("frontier says", slow_s=0.0 if error else 2.0, error=error)
    critic = Referee(slow_s=0.0 if error else 30.0, error=error) if slow == "critic" else Referee()
    at = drawn(endpoint, tmp_path, critic, timeout_s=0.3, known=known)
    held: list[Decimal] = []
    spending = at.at.accounts.spending
    hold = spending.hold
    spending.hold = lambda key, request, usd: (held.append(usd), hold(key, request, usd))
    at.at.service.accounts = at.at.accounts
    await at.ask(headers={"authorization": "Bearer a"}, max_tokens=10)
    assert {line.what for line in at.record.overhead if line.tier == slow} == {"cancelled"}
    assert at.budget.spent() >= at.ensemble.most_usd(at.at.context.engines["cheap"].queries[0])[slow]
    at.at.accounts.charge(at.record, None)
    charged, _ = spending.spent(at.record.key or "", datetime.now(UTC))
    assert at.record.cost_usd < charged <= held[0]
