"""Requests over HTTP and the judge of their answers: what is handed over, and that none pays or waits for it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from router_models.types import Action, Query
from serve_graph.access.caller import NOBODY
from serve_graph.cascade.fakes import FakeEngine, FakeJudge
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.errors import EngineError
from serve_graph.records.metrics import RequestMetrics, render_metrics
from tests.unit.serve_graph.learning.judging.judged import (
    Endpoints,
    Judged,
    running,
    until,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("action", "route", "shown", "tried"),
    [
        (Action.ACCEPTED, "accepted", "cheap says", None),
        (Action.ESCALATED, "escalated", "frontier says", "cheap says"),
    ],
)
async def test_a_request_hands_over_what_it_was_answered_with_and_is_charged_nothing(
    endpoint: Endpoints,
    judged: Callable[..., Judged],
    stream: bool,
    action: Action,
    route: str,
    shown: str,
    tried: Any,
) -> None:
    at, beside = judged(), endpoint(judge=FakeJudge(action))
    beside.service.judge = at.judge
    reply = await beside.chat(stream=stream)
    assert reply.status_code == 200
    assert at.critic.queries == [], "nothing happens before the workers run"
    handed = [answer for *_, answer in list(at.judge._queue._queue)]  # type: ignore[attr-defined]
    [answer] = handed
    assert (answer.decision, answer.route, answer.shown.text) == (beside.record.id, route, shown)
    assert (None if answer.tried is None else answer.tried.text) == tried
    cost = beside.record.cost_usd
    async with running(at.judge):
        await until(lambda: at.labels)
    assert len(beside.sink.records) == 1, "the judge's calls are no decisions"
    assert beside.record.cost_usd == cost
    assert at.critic.callers == [NOBODY]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "route"), [("frontier", "forced"), ("cheap", "forced")], ids=["last tier", "cheap tier"]
)
async def test_answers_of_a_tier_that_was_named_are_drawn_too(
    endpoint: Endpoints, judged: Callable[..., Judged], model: str, route: str
) -> None:
    at, beside = judged(rate={"forced": 1.0}), endpoint()
    beside.service.judge = at.judge
    await beside.chat(model)
    async with running(at.judge):
        await until(lambda: at.labels)
    assert (at.labels[0].detail["route"], at.labels[0].decision) == (route, beside.record.id)


async def test_a_rejected_beginning_is_no_answer_to_compare_with(
    endpoint: Endpoints, judged: Callable[..., Judged]
) -> None:
    at = judged()
    for mode, tried in ((StreamMode.PREFIX, None), (StreamMode.VERIFY, "cheap says")):
        verifier = FakeJudge(Action.ESCALATED, Action.ESCALATED)
        beside = endpoint(judge=verifier, prefix_tokens=1, terms=StreamTerms(mode))
        beside.service.judge = at.judge
        await beside.chat(stream=True)
        *_, answer = at.judge._queue.get_nowait()
        assert (answer.route, answer.shown.text) == ("escalated", "frontier says")
        assert (None if answer.tried is None else answer.tried.text) == tried


async def test_failed_requests_and_abstentions_are_not_judged(
    endpoint: Endpoints, judged: Callable[..., Judged]
) -> None:
    at = judged()
    down = EngineError("down")
    for beside in (
        endpoint(cheap=FakeEngine(error=down), frontier=FakeEngine(error=down)),
        endpoint(judge=FakeJudge(Action.ABSTAINED)),
    ):
        beside.service.judge = at.judge
        await beside.chat()

    def unworded(reply: dict[str, Any]) -> dict[str, Any]:
        raise EngineError("nobody was shown it")

    service = endpoint().service
    service.judge = at.judge
    with pytest.raises(EngineError, match="nobody was shown it"):
        await service.answer(service.open(Query.from_prompt("hello"), "auto", False), unworded)
    assert at.metrics.waiting == 0


async def test_a_reply_does_not_wait_for_a_judge_that_hangs(
    endpoint: Endpoints, judged: Callable[..., Judged]
) -> None:
    at, beside = judged(FakeEngine(slow_s=3600.0), max_queued=1, concurrency=1), endpoint()
    beside.service.judge = at.judge
    async with running(at.judge), asyncio.timeout(5):
        replies = [await beside.chat(stream=i % 2 == 1) for i in range(6)]
        await until(lambda: at.critic.queries)
    assert {reply.status_code for reply in replies} == {200}
    assert at.metrics.shed["queue"] >= 4


async def test_its_totals_are_metrics_of_their_own(judged: Callable[..., Judged]) -> None:
    at = judged()
    await at.one()
    page = render_metrics(RequestMetrics(), 0, {}, others=(at.metrics,))
    assert 'serve_graph_judge_verdicts_total{outcome="accepted",verdict="right"} 1.0' in page
    assert 'serve_graph_judge_cost_usd_total{tier="critic"} 2e-05' in page
    assert 'serve_graph_judge_tokens_total{kind="prompt",tier="critic"} 10.0' in page
    assert "serve_graph_judge" not in render_metrics(RequestMetrics(), 0, {})
