"""Golden tasks against a fake OpenAI server whose model changes under way: a ticket, or alarm and safe mode."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.core import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from router_models.data.starter import generate
from router_models.monitoring.promise_watch import WatchedPromise
from router_models.types import DecisionRecord
from serve_graph.cluster.service import golden_watch
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.alarms import AlarmRules, AlarmWatch
from serve_graph.learning.golden.golden_watch import STATE, GoldenWatch, run_now
from serve_graph.learning.golden.run_table import GoldenTable, RecordedRun
from serve_graph.learning.golden.task_set import NoTasksError, fixed_set
from serve_graph.learning.watch_states import WatchStates
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus, Validity
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore
from tests.fixtures.upstream import DirectHandle

DAY = timedelta(days=1)
VERSION = "router/1"
VERDICT = re.compile(r"^(VERDICT \w+: right)$", re.MULTILINE)


class FakeApi:
    """An OpenAI-compatible server: `answer` makes its replies, `faults` are statuses that it gives instead."""

    def __init__(self) -> None:
        self.answer: Callable[[str], str] = lambda prompt: f"answer to {prompt}"
        self.model, self.fingerprint = "big-model-2026-01", "fp_1"
        self.faults: Iterator[int] = iter(())
        self.refuses: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.reply, methods=["POST"])])

    async def reply(self, request: Request) -> JSONResponse:
        body = json.loads(await request.body())
        self.asked.append(body)
        if status := next(self.faults, 0):
            return JSONResponse({"error": {"message": "out of order", "type": "server_error"}}, status)
        if self.refuses in body:
            said = f"Unsupported parameter: '{self.refuses}' is not supported with this model."
            error = {"message": said, "type": "invalid_request_error", "param": self.refuses}
            return JSONResponse({"error": {**error, "code": "unsupported_parameter"}}, 400)
        prompt = body["messages"][-1]["content"]
        text = self.answer(prompt)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        message = {"role": "assistant", "content": text}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": self.model,
                "system_fingerprint": self.fingerprint,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class Golden:
    """A graph's hosted tier over the fake API, and what asks it; `day` lets a day go by and looks."""

    def __init__(self, folder: Path, store: DecisionStore, **golden: Any) -> None:
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
        hosted = {"name": "frontier", "engine": "openai", "price": price, "model": "big", "base_url": "http://api/v1"}
        hosted["failover"] = {"max_attempts": 1, "trip_after": 1000}
        tiers = [{"name": "cheap", "engine": "echo", "price": price}, hosted]
        settings = {"reference_runs": 3, "reference_every_s": 86_400, "size": 20, **golden}
        judge = settings.pop("judge", None)
        records = {"keep_prompts": settings["tasks"] == "kept"} if "tasks" in settings else {}
        self.config = GraphConfig.model_validate(
            {"tiers": tiers, "golden": settings, "judge": judge, "state_folder": folder, "records": records}
        )
        self.store, self.api, self.clock = store, FakeApi(), Clock()
        self.told: list[tuple[str, list[str]]] = []
        self.served: Any = ServedPolicy.of(None, VERSION, "", self.config)
        self.watch = self.replica()
        self.tickets, self.alarms = AlarmTable(store, tickets=True), AlarmTable(store)

    def replica(self) -> GoldenWatch:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.api.app))
        tier: Any = self.config.tier("frontier")
        engine = HandleEngine(DirectHandle(HostedEngine(tier, client)), tier)  # type: ignore[arg-type]
        cheap: Any = HandleEngine(DirectHandle(None), self.config.tier("cheap"))  # type: ignore[arg-type]
        watch = golden_watch(self.config, {"cheap": cheap, "frontier": engine}, self.store, lambda: self.served)
        assert watch is not None
        watch.now, watch.announce, watch.asker.pause_s = self.clock, self.announce, 0.0
        watch.certified = lambda: True
        return watch

    async def announce(self, event: str, alarms: Sequence[Alarm]) -> None:
        self.told.append((event, [alarm.scope for alarm in alarms]))

    async def days(self, n: int) -> None:
        for _ in range(n):
            self.clock.at += DAY
            await self.watch.look()

    async def open(self) -> set[str]:
        return {ticket.scope for ticket in await self.tickets.all() if ticket.lifted_at is None}

    async def runs(self) -> list[RecordedRun]:
        return await GoldenTable(self.store).latest("frontier", 100)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    yield made
    await made.close()


@pytest.fixture
def graph(tmp_path: Path, store: DecisionStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Golden]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    return lambda **golden: Golden(tmp_path, store, **golden)


def solved(config: GraphConfig, wrong: Callable[[int], bool] = lambda i: False) -> Callable[[str], str]:
    """A model that answers the golden tasks right, but for those that are to be wrong."""
    assert config.golden is not None
    tasks = {task.prompt: task for task in fixed_set(config.golden).tasks.values()}
    places = {prompt: i for i, prompt in enumerate(tasks)}
    return lambda prompt: "I do not know." if wrong(places[prompt]) else tasks[prompt].solution


async def test_a_model_that_stays_opens_nothing_and_is_asked_greedily_once_a_day(graph: Callable[..., Golden]) -> None:
    golden = graph()
    for _ in range(3):
        await golden.days(2)
        await golden.watch.look()  # nothing is due
    assert await golden.open() == set()
    assert len(golden.api.asked) == 6 * 20
    assert {body["temperature"] for body in golden.api.asked} == {0.0}
    assert [run.kind for run in await golden.runs()] == ["compared"] * 3 + ["reference"] * 3
    newest = (await golden.runs())[0]
    assert (newest.models(), newest.fingerprints()) == ({"big-model-2026-01"}, {"fp_1"})
    assert {figure["figure"] for figure in newest.detail["figures"]} == {"answers", "length", "prompt_tokens"}


async def test_a_model_that_changes_under_way_opens_a_ticket_once_which_is_told_and_audited(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    await golden.days(4)
    golden.api.answer, golden.api.fingerprint = (lambda prompt: f"an answer, {prompt}"), "fp_2"
    await golden.days(2)
    assert await golden.open() == {"golden_answers:frontier"}
    (ticket,) = await golden.tickets.all()
    assert ticket.reason.startswith(
        "answers of frontier to golden tasks differ from earlier ones in 100% of pairs, 0% among themselves, with "
        "fingerprint fp_2 (20 tasks, adjusted p "
    )
    assert (ticket.version, ticket.acts) == (VERSION, False)
    assert golden.told == [("ticket.opened", ["golden_answers:frontier"])]
    assert [entry.detail["figure"] for entry in await AuditLog(golden.store).entries()] == ["golden_answers:frontier"]
    assert await golden.alarms.all() == []
    registry = CollectorRegistry()
    registry.register(golden.watch.metrics)
    await golden.watch.look()
    share = {"tier": "frontier", "figure": "answers", "when": "before"}
    assert registry.get_sample_value("serve_graph_golden_figure", share) is not None
    of = {"tier": "frontier", "kind": "compared"}
    assert registry.get_sample_value("serve_graph_golden_runs_total", of) == 3
    assert registry.get_sample_value("serve_graph_golden_cost_usd_total", {"tier": "frontier"}) > 0  # type: ignore[operator]


async def test_an_api_that_names_another_model_opens_a_ticket_and_longer_answers_one_too(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    await golden.days(4)
    golden.api.model = "big-model-2026-02"
    await golden.days(1)
    assert await golden.open() == {"golden_model:frontier"}
    golden.api.answer = lambda prompt: f"answer to {prompt}, at length"
    await golden.days(1)
    assert await golden.open() == {"golden_model:frontier", "golden_answers:frontier", "golden_length:frontier"}


async def test_an_api_that_does_not_repeat_itself_opens_no_ticket_for_it(graph: Callable[..., Golden]) -> None:
    golden = graph()
    said = 0

    def varies(prompt: str) -> str:
        nonlocal said
        said += 1
        return f"answer {said * 7919 % 3} to {prompt}"

    golden.api.answer = varies
    await golden.days(8)
    assert await golden.open() == set()
    (before,) = [f["before"] for f in (await golden.runs())[0].detail["figures"] if f["figure"] == "answers"]
    assert before > 0.3


async def test_calls_that_fail_are_no_mismatch_and_with_too_many_of_them_the_run_says_nothing(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    await golden.days(4)
    golden.api.faults = iter([500] * 9)
    await golden.days(1)
    newest = (await golden.runs())[0]
    assert (newest.kind, newest.detail["failed"], len(newest.answers)) == ("compared", {"error": 9}, 11)
    golden.api.faults = iter([500] * 11)
    await golden.days(1)
    assert (await golden.runs())[0].kind == "failed"
    golden.clock.at += timedelta(hours=1)  # it is made again soon, not on the next day
    await golden.watch.look()
    assert [run.kind for run in (await golden.runs())[:3]] == ["compared", "failed", "compared"]
    assert await golden.open() == set()


async def test_grades_that_fall_raise_the_alarm_and_the_graph_goes_to_its_safe_mode(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    golden.api.answer = solved(golden.config)
    await golden.days(4)
    assert (await golden.runs())[0].detail["grades"]["wrong"] == 0
    golden.api.answer = solved(golden.config, wrong=lambda i: i % 2 == 0)
    await golden.days(3)
    (alarm,) = await golden.alarms.all()
    assert (alarm.kind, alarm.scope, alarm.acts) == ("golden", "golden_grades:frontier", True)
    assert "10 of 20 graded answers wrong in the newest run, 0.0 before" in alarm.reason
    assert ("alarm.raised", ["golden_grades:frontier"]) in golden.told

    status = CertificateStatus(Validity(), VERSION)
    looking = AlarmWatch(golden.store, AlarmRules(VERSION, WatchedPromise(0.1)), status.revoke)
    await looking.look()
    assert status.revoked == alarm.reason
    assert [fact["kind"] for fact in looking.facts()] == ["golden"]
    await golden.alarms.lift(VERSION, "ann", "recertified", golden.clock.at.isoformat())
    await looking.look()
    assert status.revoked is None


async def test_after_a_ticket_is_closed_another_reference_is_made_of_the_model_of_then(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    await golden.days(4)
    golden.api.answer = lambda prompt: f"an answer, {prompt}"
    await golden.days(1)
    assert await golden.open()
    await golden.tickets.lift(VERSION, "ann", "announced", golden.clock.at.isoformat())
    await golden.days(5)
    assert [run.kind for run in await golden.runs()][:5] == ["compared"] * 2 + ["reference"] * 3
    assert await golden.open() == set()


async def test_what_was_reported_of_a_version_that_is_served_no_more_is_not_reported_of_the_next(
    graph: Callable[..., Golden],
) -> None:
    golden = graph()
    golden.api.answer = solved(golden.config)
    await golden.days(3)
    golden.api.answer = solved(golden.config, wrong=lambda i: True)
    await golden.days(1)
    assert await golden.open()
    golden.served = ServedPolicy.of(None, "router/2", "", golden.config)  # certified on the model of now
    await golden.days(5)
    assert {alarm.version for alarm in await golden.alarms.all()} == {VERSION}
    assert [run.kind for run in await golden.runs()][:5] == ["compared"] * 2 + ["reference"] * 3


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
    watch = graph().watch
    assert await watch._hold(await watch.states.read(STATE))
    now = watch.now
    watch.now = lambda: now() + timedelta(minutes=4)  # less than half is left
    assert await asyncio.gather(*(watch._beat() for _ in range(4))) == [True] * 4


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
