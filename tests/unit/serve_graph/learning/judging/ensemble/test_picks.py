"""Two tiers answer a drawn request at once, and the caller gets the answer that a judge or a verifier model picks."""

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Usage
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.records.metrics import render_families
from tests.unit.serve_graph.learning.judging.ensemble.ensembles import SOURCE, Referee, Scorer, chunks_of, drawn

Endpoints = Callable[..., Any]


async def test_both_tiers_answer_and_the_one_that_the_judge_picks_is_the_callers(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path)
    reply = await at.ask()
    body = reply.json()
    assert body["choices"][0]["message"]["content"] == "frontier says"
    assert body["model"] == body["serve_graph"]["tier"] == reply.headers["x-serve-graph-tier"] == "frontier"
    assert body["serve_graph"]["outcome"] == reply.headers["x-serve-graph-outcome"] == "ensemble"
    assert body["serve_graph"]["picked_by"] == SOURCE
    assert at.at.context.decider.queries == [], "no router is asked"
    assert at.lines() == [
        ("cheap", "attempt"), ("critic", "picking"), ("critic", "picking"), ("frontier", "answer"),
    ]  # fmt: skip
    assert Decimal(body["serve_graph"]["cost_usd"]) == at.record.cost_usd == sum(x.cost_usd for x in at.record.bill)
    assert at.entry == {
        "share": 1.0, "tiers": ["cheap", "frontier"], "judge": "critic", "picked": "frontier", "by": SOURCE,
        "tie": False, "sure": 1.0, "said": {"cheap": 0.0, "frontier": 1.0}, "usd": f"{at.record.cost_usd:f}",
    }  # fmt: skip
    assert (at.record.outcome, at.record.evidence["layer"]) == ("ensemble", "ensemble")
    assert [one["tier"] for one in at.record.evidence["beside"]] == ["cheap"]
    assert at.record.evidence["beside"][0]["answer"] == "cheap says"


async def test_the_tiers_are_asked_at_the_same_time_and_the_judge_in_both_orders_at_once(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    order: list[str] = []

    class Slow(FakeEngine):
        async def generate(self, *given: Any) -> Any:
            order.append("begins")
            await asyncio.sleep(0.02)
            order.append("ends")
            return await super().generate(*given)

    class SlowReferee(Referee):
        async def generate(self, *given: Any) -> Any:
            order.append("asked")
            await asyncio.sleep(0.02)
            order.append("said")
            return await super().generate(*given)

    at = drawn(
        endpoint, tmp_path, SlowReferee(), known={"cheap": Slow("cheap says"), "frontier": Slow("frontier says")}
    )
    await at.ask()
    assert order == ["begins", "begins", "ends", "ends", "asked", "asked", "said", "said"]
    first, second = at.critic.asked  # type: ignore[attr-defined]
    assert (first.index("cheap says") < first.index("frontier says")) != (
        second.index("cheap says") < second.index("frontier says")
    )


@pytest.mark.parametrize(
    ("critic", "said", "sure"),
    [
        (Referee(always="first"), {"cheap": 0.5, "frontier": 0.5}, 0.5),
        (Referee(likes=("says",)), {"cheap": 1.0, "frontier": 1.0}, 0.5),
        (Referee(likes=("nothing of it",)), {"cheap": 0.0, "frontier": 0.0}, 0.5),
        (Referee(likes=("cheap",)), {"cheap": 1.0, "frontier": 0.0}, 1.0),
    ],
    ids=["position", "both right", "neither right", "cheap alone"],
)
async def test_position_does_not_decide_and_a_tie_goes_to_the_cheaper_tier(
    endpoint: Endpoints, tmp_path: Path, critic: Referee, said: dict[str, float], sure: float
) -> None:
    at = drawn(endpoint, tmp_path, critic)
    body = (await at.ask()).json()
    assert (body["serve_graph"]["tier"], body["serve_graph"]["outcome"]) == ("cheap", "ensemble")
    assert (at.entry["said"], at.entry["sure"], at.entry["tie"]) == (said, sure, sure < 1)
    assert [one["tier"] for one in at.record.evidence["beside"]] == ["frontier"]


@pytest.mark.parametrize(
    ("scores", "picked", "tie"),
    [({"cheap": 0.0, "frontier": 2.0}, "frontier", False), ({"cheap": 1.5, "frontier": 1.0}, "cheap", False),
     ({"cheap": 1.0, "frontier": 1.0}, "cheap", True)],
)  # fmt: skip
async def test_a_verifier_model_picks_the_higher_score_and_says_how_sure_that_is(
    endpoint: Endpoints, tmp_path: Path, scores: dict[str, float], picked: str, tie: bool
) -> None:
    at = drawn(endpoint, tmp_path, Scorer(scores=scores), by="reward:critic")
    assert (await at.ask()).json()["serve_graph"]["tier"] == picked
    assert (at.entry["picked"], at.entry["by"], at.entry["tie"]) == (picked, "reward:critic", tie)
    assert at.entry["said"] == scores
    assert at.entry["sure"] == pytest.approx(1 / (1 + math.exp(-abs(scores["cheap"] - scores["frontier"]))), abs=1e-4)
    assert [line for line in at.lines() if line[0] == "critic"] == [("critic", "reward:critic")] * 2


async def test_an_answer_that_breaks_the_declared_shape_loses_without_a_judge(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    at = drawn(endpoint, tmp_path, known={"cheap": FakeEngine("{}"), "frontier": FakeEngine("no json")})
    await at.ask(response_format={"type": "json_object"})
    assert (at.entry["picked"], at.entry["by"], at.entry["sure"]) == ("cheap", "check", 1.0)
    assert list(at.entry["said"]) == ["frontier"]
    assert at.critic.queries == []


async def test_equal_texts_are_a_tie_that_nobody_is_asked_about(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, known={"cheap": FakeEngine("4"), "frontier": FakeEngine(" 4\n")})
    await at.ask()
    assert (at.entry["picked"], at.entry["by"], at.entry["tie"]) == ("cheap", "same text", True)
    assert at.critic.queries == []


async def test_an_answer_without_text_loses(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, known={"cheap": FakeEngine(" "), "frontier": FakeEngine("4")})
    await at.ask()
    assert (at.entry["picked"], at.entry["by"]) == ("frontier", "check")


async def test_the_picked_answer_has_its_own_logprobs_where_they_are_asked_for(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    class Telling(FakeEngine):
        async def generate(self, *given: Any) -> Any:
            done = await super().generate(*given)
            logprobs = {"content": [{"token": self.text, "logprob": -0.5, "top_logprobs": []}]}
            message = {"role": "assistant", "content": self.text}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
            return type(done)(self.text, "stop", done.usage, (-0.5,), payload={"choices": [choice]})

    known = {"cheap": Telling("cheap says"), "frontier": Telling("frontier says")}
    body = (await drawn(endpoint, tmp_path, known=known).ask(logprobs=True)).json()
    assert body["choices"][0]["logprobs"]["content"][0]["token"] == "frontier says"


async def test_a_held_stream_shows_the_picked_answer_whole(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, streams="hold")
    reply = await at.ask(stream=True)
    chunks = chunks_of(reply)
    said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert said == "frontier says"
    assert {one["model"] for one in chunks} == {"frontier"}
    assert chunks[-1]["serve_graph"]["outcome"] == "ensemble"
    assert (at.record.stream, at.record.outcome, at.entry["picked"]) == (True, "ensemble", "frontier")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/completions"])
async def test_every_protocol_is_drawn_from(endpoint: Endpoints, tmp_path: Path, path: str) -> None:
    at = drawn(endpoint, tmp_path)
    body: dict[str, Any] = {
        "/v1/responses": {"input": "2 + 2?"},
        "/v1/messages": {"messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 50},
        "/v1/completions": {"prompt": "2 + 2?"},
    }[path]
    async with at.at.client() as client:
        reply = await client.post(path, json={"model": "auto", **body})
    assert reply.status_code == 200, reply.text
    assert "frontier says" in reply.text
    assert reply.headers["x-serve-graph-outcome"] == at.record.outcome == "ensemble"


async def test_nothing_is_promised_of_a_pick_and_the_page_explains_it(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path)
    await at.ask()
    async with at.at.client() as client:
        page = (await client.get(f"/v1/decisions/{at.record.id}")).json()
    assert at.record.evidence["promised"] is None
    told = (
        f"Ensemble (drawn at 1) of cheap and frontier: {SOURCE} picked frontier, sure 1.00; cheap 0.000, "
        "frontier 1.000."
    )
    assert told in page["explanation"]


async def test_metrics_count_draws_picks_ties_and_money(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path)
    await at.ask()
    page = render_families(at.ensemble.metrics.collect())
    assert 'serve_graph_ensemble_draws_total{result="picked"} 1.0' in page
    assert f'serve_graph_ensemble_picks_total{{by="{SOURCE}",tier="frontier"}} 1.0' in page
    assert "serve_graph_ensemble_ties_total 0.0" in page
    assert f"serve_graph_ensemble_cost_usd_total {float(at.record.cost_usd)}" in page


async def test_what_was_spent_is_taken_from_the_days_budget(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path)
    await at.ask()
    assert at.budget.spent() == Decimal(at.entry["usd"]) > 0


async def test_a_judge_whose_call_is_not_metered_leaves_the_cost_unknown(endpoint: Endpoints, tmp_path: Path) -> None:
    at = drawn(endpoint, tmp_path, Referee(usage=Usage()))
    body = (await at.ask()).json()
    assert body["serve_graph"]["outcome"] == "ensemble"
    assert (body["serve_graph"]["cost_usd"], body["serve_graph"]["unmetered"]) == (None, True)
