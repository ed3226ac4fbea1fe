"""Golden tasks against a fake OpenAI server whose model changes under way: a ticket, or alarm and safe mode."""

from collections.abc import Callable
from datetime import timedelta

from prometheus_client.core import CollectorRegistry

from router_models.monitoring.promise_watch import WatchedPromise
from serve_graph.learning.alarms import AlarmRules, AlarmWatch
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus, Validity
from serve_graph.records.audit_log import AuditLog
from tests.unit.serve_graph.learning.golden.watched import VERSION, Golden, solved


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
