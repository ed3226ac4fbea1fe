"""When golden tasks are asked, by which replica, how, within which budget, and whose prompts."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from router_models.data.starter import generate
from router_models.types import DecisionRecord
from serve_graph.learning.golden.schedule import STATE, run_now
from serve_graph.learning.golden.task_set import NoTasksError
from serve_graph.learning.watch_states import WatchStates
from tests.unit.serve_graph.learning.golden.watched import DAY, VERDICT, Golden


async def test_one_replica_asks_and_another_follows_once_its_time_is_up(graph: Callable[..., Golden]) -> None:
    golden = graph()
    other = golden.replica()
    golden.clock.at += DAY
    await asyncio.gather(golden.watch.look(), other.look())
    assert len(golden.api.asked) == 20
    golden.clock.at += DAY
    state = await WatchStates(golden.store).read(STATE)
    until = (golden.clock.at + timedelta(minutes=5)).isoformat(timespec="milliseconds")
    await WatchStates(golden.store).write(state, holder="one that died", held_until=until)
    await other.look()
    assert len(golden.api.asked) == 20
    golden.clock.at += timedelta(minutes=6)
    await other.look()
    assert len(golden.api.asked) == 40
    assert [run.number for run in await golden.runs()] == [2, 1]


async def test_answers_that_come_together_renew_the_lease_once_and_lose_it_not(graph: Callable[..., Golden]) -> None:
    schedule = graph().watch.schedule
    assert await schedule.take(await schedule.read())
    now = schedule.now
    schedule.now = lambda: now() + timedelta(minutes=4)  # less than half is left
    assert await asyncio.gather(*(schedule.hold() for _ in range(4))) == [True] * 4


async def test_a_tier_that_cannot_be_asked_keeps_no_other_from_it_and_is_not_tried_at_every_look(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    golden.watch.tiers = {"absent": "no such tier", **golden.watch.tiers}
    golden.clock.at += DAY
    with pytest.raises(KeyError):
        await golden.watch.look()
    assert len(golden.api.asked) == 20
    await golden.watch.look()
    golden.clock.at += timedelta(hours=1)
    with pytest.raises(KeyError):
        await golden.watch.look()


async def test_the_schedule_survives_a_restart_and_a_person_may_have_it_run_now(graph: Callable[..., Golden]) -> None:
    golden = graph()
    await golden.days(1)
    golden.watch = golden.replica()
    await golden.watch.look()
    assert len(golden.api.asked) == 20
    assert await run_now(golden.store, ["frontier"])
    await golden.watch.look()
    assert [run.number for run in await golden.runs()] == [2, 1]


async def test_an_api_that_refuses_greedy_decoding_is_asked_without(graph: Callable[..., Golden]) -> None:
    golden = graph(concurrency=1)
    golden.api.refuses = "temperature"
    await golden.days(1)
    (run,) = await golden.runs()
    assert (run.kind, len(run.answers), run.detail["greedy"]) == ("reference", 20, False)
    assert sum("temperature" in body for body in golden.api.asked) == 1


async def test_an_api_that_refuses_one_request_for_another_reason_is_asked_greedily_all_the_same(
    graph: Callable[..., Golden],
) -> None:
    """Asked without from then on, its answers would differ from those of the reference, and open a ticket."""
    golden = graph(concurrency=1)
    golden.api.faults = iter([400])
    await golden.days(1)
    (run,) = await golden.runs()
    assert (len(run.answers), run.detail["greedy"]) == (20, True)
    assert sum("temperature" in body for body in golden.api.asked) == 20


async def test_what_the_days_budget_does_not_have_is_not_asked(graph: Callable[..., Golden]) -> None:
    golden = graph(budget_usd_per_day=Decimal("0.000001"))
    await golden.days(1)
    (run,) = await golden.runs()
    assert (run.kind, run.detail["failed"]) == ("failed", {"budget": 20})
    assert golden.api.asked == []


async def test_a_file_of_tasks_is_asked_in_an_order_and_choice_of_its_own(
    graph: Callable[..., Golden], tmp_path: Path
) -> None:
    tasks = generate(30, seed=4)
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task.to_json()) + "\n" for task in tasks))
    golden = graph(tasks=str(tmp_path / "tasks.jsonl"))
    await golden.days(1)
    asked = {body["messages"][-1]["content"] for body in golden.api.asked}
    assert len(asked) == 20
    assert asked < {task.prompt for task in tasks}
    (tmp_path / "tasks.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(NoTasksError, match=r"tasks\.jsonl, line 1: task 'x': "):
        await golden.days(1)


async def test_of_kept_prompts_the_judge_grades_answers_none_is_stored_and_deleted_ones_are_asked_no_more(
    graph: Callable[..., Golden], a_record: Callable[..., DecisionRecord]
) -> None:
    from dataclasses import replace

    golden = graph(tasks="kept", size=10, judge={"tier": "frontier"})
    with pytest.raises(NoTasksError, match="0 different prompts are kept, 10 are needed"):
        await golden.days(1)
    await golden.watch.look()  # the store is not read through at every look
    golden.api.answer = lambda prompt: said[1] if (said := VERDICT.search(prompt)) else "an answer"
    made = [
        replace(a_record(f"dec-{i}"), prompt=f"secret {i}", created_at=f"2026-02-{i + 1:02}T00:00:00.000+00:00")
        for i in range(12)
    ]
    await golden.store.write_many(made)
    await golden.days(1)
    (run,) = await golden.runs()
    assert len(run.answers) == 10
    assert {answer.text for answer in run.answers.values()} == {None}
    assert {answer.right for answer in run.answers.values()} == {True}
    await golden.store.delete_before("2026-02-04")
    golden.api.asked.clear()
    await golden.days(1)
    assert 14 <= len(golden.api.asked) <= 20  # and as many for the judge
    assert len({run.series for run in await golden.runs()}) == 1
    assert not any(body["messages"][-1]["content"] in ("secret 0", "secret 1") for body in golden.api.asked)
