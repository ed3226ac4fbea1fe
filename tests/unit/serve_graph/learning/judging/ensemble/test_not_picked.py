"""Whatever keeps an answer from being picked, the policy answers, with what is there; the record says why."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Action
from serve_graph.cascade.fakes import FakeEngine, FakeJudge
from serve_graph.errors import EngineError, EngineTimeoutError, SaturatedError
from tests.unit.serve_graph.learning.judging.ensemble.ensembles import Drawn, Referee, Scorer, chunks_of, drawn

Endpoints = Callable[..., Any]
Judged = pytest.mark.parametrize(("action", "tier", "outcome"), [
    (Action.ACCEPTED, "cheap", "accepted"), (Action.ESCALATED, "frontier", "escalated"),
])  # fmt: skip


def calls_of(at: Drawn) -> dict[str, int]:
    return {tier: len(engine.queries) for tier, engine in at.at.context.engines.items()}


@Judged
@pytest.mark.parametrize(
    ("critic", "by", "why"),
    [
        (
            Referee(error=EngineError("down", recordable="no worker is ready")),
            "critic",
            "judge: critic failed: no worker",
        ),
        (Referee(error=SaturatedError("full")), "critic", "judge: critic failed"),
        (Referee(always="maybe"), "critic", "unparsable: the reply of critic held no verdict"),
        (Scorer(error=EngineError("down", recordable="500")), "reward:critic", "judge: reward:critic failed: 500"),
        (Scorer(scores={"cheap": "high", "frontier": 1.0}), "reward:critic", "unparsable: the reply of reward:critic"),
    ],
    ids=["judge down", "judge full", "nonsense", "verifier down", "no score"],
)
async def test_a_judge_that_fails_leaves_the_request_to_the_policy_with_the_answers_at_hand(
    endpoint: Endpoints, tmp_path: Path, critic: FakeEngine, by: str, why: str, action: Action, tier: str, outcome: str
) -> None:
    at = drawn(endpoint, tmp_path, critic, by=by, known={"judge": FakeJudge(action)})
    reply = await at.ask()
    facts = reply.json()["serve_graph"]
    assert (reply.status_code, facts["tier"], facts["outcome"]) == (200, tier, outcome)
    assert reply.json()["choices"][0]["message"]["content"] == f"{tier} says"
    assert calls_of(at) == {"cheap": 1, "frontier": 1}, "nobody is asked twice"
    assert at.entry["why_not"].startswith(why)
    assert "picked" not in at.entry
    assert "picked_by" not in facts
    assert f"not an ensemble: {why}" in at.record.route_reason
    assert at.record.evidence["promised"] is None
    assert {line.tier for line in at.record.calls} == {"cheap", "frontier"}, "both answers are on the bill"
    assert Decimal(facts["cost_usd"]) == sum(line.cost_usd for line in at.record.bill)
    other = "frontier" if tier == "cheap" else "cheap"
    assert [one["tier"] for one in at.record.evidence["beside"]] == [other], "and neither is lost"
    assert at.ensemble.metrics.draws[why.split(":")[0]] == 1


@Judged
async def test_a_judge_that_takes_too_long_is_cut_off_and_charged_to_the_budget_at_the_most(
    endpoint: Endpoints, tmp_path: Path, action: Action, tier: str, outcome: str
) -> None:
    at = drawn(endpoint, tmp_path, Referee(slow_s=30.0), timeout_s=0.3, known={"judge": FakeJudge(action)})
    facts = (await at.ask()).json()["serve_graph"]
    assert (facts["tier"], facts["outcome"]) == (tier, outcome)
    assert at.entry["why_not"] == "nothing was picked within 0.3 s"
    assert at.critic.closed == 2
    assert at.lines().count(("critic", "cancelled")) == 2
    most = at.ensemble.most_usd(at.critic.queries[0])["critic"]
    assert at.budget.spent() > Decimal(at.entry["usd"])
    assert at.budget.spent() <= Decimal(at.entry["usd"]) + most * 2


async def test_a_spent_budget_leaves_the_request_as_any_other(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, budget=Decimal("0.000001"))
    facts = (await at.ask()).json()["serve_graph"]
    assert (facts["tier"], facts["outcome"]) == ("cheap", "accepted")
    assert calls_of(at) == {"cheap": 1, "frontier": 0}
    assert at.entry["why_not"].startswith("budget: $")
    assert at.entry["usd"] == "0"
    assert (at.budget.spent(), at.ensemble.metrics.draws["budget"]) == (0, 1)


async def test_a_budget_that_is_used_up_by_requests_ends_the_draws(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, budget=Decimal("0.0066"))
    for _ in range(12):
        await at.ask()
        at.at.sink.records[:-1] = []
    draws = at.ensemble.metrics.draws
    assert draws["picked"] > 0
    assert draws["budget"] > 0
    assert draws.total() == 12
    assert at.budget.spent() <= Decimal("0.0066")


async def test_a_budget_file_that_cannot_be_read_counts_as_spent(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path)
    (tmp_path / "ensemble.json").write_text("damaged")
    assert (await at.ask()).json()["serve_graph"]["outcome"] == "accepted"
    assert at.entry["why_not"].startswith("budget")


@pytest.mark.parametrize(
    ("dead", "tier", "outcome"), [("cheap", "frontier", "fallback"), ("frontier", "cheap", "accepted")]
)
async def test_where_one_tier_is_down_the_other_answers_as_the_policy_says(
    endpoint: Endpoints, tmp_path: Path, dead: str, tier: str, outcome: str
) -> None:
    at = drawn(endpoint, tmp_path, known={dead: FakeEngine(error=EngineError("down", recordable="no worker"))})
    reply = await at.ask()
    facts = reply.json()["serve_graph"]
    assert (reply.status_code, facts["tier"], facts["outcome"]) == (200, tier, outcome)
    assert at.entry["why_not"] == f"tier: {dead} failed: no worker"
    assert calls_of(at) == {"cheap": 1, "frontier": 1}, "a tier that has failed is not waited for once more"
    assert at.critic.queries == []


async def test_where_both_tiers_are_down_the_request_fails_as_it_would_have(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    dead = {tier: FakeEngine(error=EngineError("down")) for tier in ("cheap", "frontier")}
    at = drawn(endpoint, tmp_path, known=dead)
    assert (await at.ask()).status_code == 503
    assert at.record.status == 503
    assert at.entry["why_not"].startswith("tier: cheap failed")


async def test_a_tier_that_times_out_is_charged_to_the_budget_at_the_most(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, known={"frontier": FakeEngine(error=EngineTimeoutError("took over 9 s"))})
    await at.ask()
    most = at.ensemble.most_usd(at.at.context.engines["cheap"].queries[0])["frontier"]
    assert at.budget.spent() >= most


@pytest.mark.parametrize("slow", ["cheap", "frontier"])
async def test_a_tier_that_is_too_slow_for_the_ensemble_is_asked_anew_where_the_policy_needs_it(
    endpoint: Endpoints, tmp_path: Path, slow: str
) -> None:
    at = drawn(endpoint, tmp_path, timeout_s=0.3, known={slow: FakeEngine(f"{slow} says", slow_s=1.0)})
    facts = (await at.ask()).json()["serve_graph"]
    assert (facts["tier"], facts["outcome"]) == ("cheap", "accepted")
    assert calls_of(at) == {"cheap": 1 + (slow == "cheap"), "frontier": 1}
    assert (slow, "cancelled") in at.lines()


async def test_half_of_a_deadline_is_left_to_the_policy(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, Referee(slow_s=30.0))
    reply = await at.ask(serve_graph={"deadline_s": 5.0})
    assert (reply.status_code, reply.json()["serve_graph"]["outcome"]) == (200, "accepted")
    assert at.entry["why_not"].startswith("nothing was picked within 2.")


async def test_a_held_stream_without_a_pick_shows_the_policys_answer(endpoint: Endpoints, tmp_path: Path) -> None:
    known = {"judge": FakeJudge(Action.ESCALATED)}
    at = drawn(endpoint, tmp_path, Referee(always="maybe"), streams="hold", known=known)
    chunks = chunks_of(await at.ask(stream=True))
    said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert (said, chunks[-1]["serve_graph"]["outcome"]) == ("frontier says", "escalated")
    assert calls_of(at) == {"cheap": 1, "frontier": 1}


async def test_a_held_stream_with_a_spent_budget_streams_as_any_other(endpoint: Endpoints, tmp_path: Path) -> None:
    known = {"judge": FakeJudge(Action.ESCALATED)}
    at = drawn(endpoint, tmp_path, budget=Decimal(0), streams="hold", known=known)
    chunks = chunks_of(await at.ask(stream=True))
    assert chunks[-1]["serve_graph"]["outcome"] == "escalated"
    assert len([one for one in chunks if one["choices"]]) > 2, "piece by piece"


@pytest.mark.parametrize("when", ["both", "judge"])
async def test_whoever_hangs_up_ends_every_call_and_is_billed_for_it(
    endpoint: Endpoints, tmp_path: Path, when: str
) -> None:
    engines = {tier: FakeEngine(f"{tier} says", slow_s=30.0 * (when == "both")) for tier in ("cheap", "frontier")}
    critic = Referee(slow_s=30.0)
    at = drawn(endpoint, tmp_path, critic, known=engines)
    asking = asyncio.ensure_future(at.ask())
    waited = engines["frontier"] if when == "both" else critic
    async with asyncio.timeout(10):
        while len(waited.queries) < (1 if when == "both" else 2):
            await asyncio.sleep(0.005)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    cut = [line.tier for line in at.record.overhead if line.what == "cancelled"]
    assert sorted(cut) == (["cheap", "frontier"] if when == "both" else ["critic", "critic"])
    assert sum(engine.closed for engine in engines.values()) + critic.closed == 2
    assert at.entry == {"share": 1.0, "why_not": "the request ended before"}
    assert at.record.status != 200
    most = at.ensemble.most_usd(engines["cheap"].queries[0])
    assert at.budget.spent() >= (most["cheap"] + most["frontier"] if when == "both" else most["critic"])


@pytest.mark.parametrize(("answer", "why"), [("x" * 30_000, "too long"), (" ", "no text")])
async def test_answers_that_nobody_can_compare_are_the_policys(
    endpoint: Endpoints, tmp_path: Path, answer: str, why: str
) -> None:
    at = drawn(endpoint, tmp_path, known={"cheap": FakeEngine(answer), "frontier": FakeEngine(answer)})
    if why == "too long":
        at.at.context.engines["frontier"].text += "y"
    assert (await at.ask()).json()["serve_graph"]["outcome"] == "accepted"
    assert at.entry["why_not"] == why
    assert at.critic.queries == []
