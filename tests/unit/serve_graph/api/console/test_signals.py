from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from router_models.monitoring.canary.findings import CanaryFinding
from router_models.monitoring.promise_watch import WatchedPromise
from router_models.types import DecisionRecord
from serve_graph.api.console.signals import SpeculationShare, speculation_shares
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.comparing.tally import tallied
from serve_graph.learning.golden.run_table import AnswerGiven, GoldenTable, RecordedRun
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.records.audit import AuditEntry
from serve_graph.records.feedback import Feedback, FeedbackTable
from tests.unit.serve_graph.api.console.conftest import ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
Records = Callable[..., DecisionRecord]
Ago = Callable[..., str]
HOSTILE = "<script>alert(1)</script>"


async def test_where_nothing_was_raised_labelled_or_proposed_the_page_says_so(console: Consoles) -> None:
    page = await (await console()).shown("/console/signals")
    for said in (
        "No version is tried",
        "No alarm stands",
        "No ticket",
        "Nothing is certified",
        "No golden task was asked",
        "No answer has a label of a person",
        "No tier speculates",
    ):
        assert said in page


async def test_alarms_that_stand_come_first_with_what_they_do_and_lifted_ones_with_who_said_so(
    console: Consoles, ago: Ago
) -> None:
    made = await console(watch=lambda: {"labels": 61.0, "errors": 9.0, "drift": 0.437, "revoked": 0.1})
    await AlarmTable(made.store).raise_all(
        [
            Alarm("fake/1", "revoked", "overall", ago(hours=2), "<script>alert(1)</script>", True),
            Alarm("fake/1", "drift", "slice fr", ago(hours=1), "9 of 61", False),
            Alarm("fake/0", "drift", "overall", ago(days=2), "old", True, {}, ago(days=1), "ann", "labels swapped"),
        ]
    )
    watched = replace(made.parts.served(), watched=WatchedPromise(0.05))
    made.parts = replace(made.parts, served=lambda: watched)
    page = await made.shown("/console/signals")
    assert page.index("slice fr") < page.index("&lt;script&gt;") < page.index("labels swapped")
    assert page.count("<script") == 1, "our own"
    for said in ("safe mode", "only says so", "by ann", "43.7 %", "9 against the promise"):
        assert said in page, said


async def test_runs_of_golden_tasks_are_shown_with_what_differs_and_what_is_wrong(console: Consoles, ago: Ago) -> None:
    made = await console()
    answers = {"a": AnswerGiven("x", model="<script>1</script>")}
    figures = [{"figure": "answers", "before": 0.031, "now": 0.874}]
    grades = {"runs": 1, "e_value": 40.0, "wrong": 7, "graded": 20, "expected": 1.25}
    found = {"asked": 20, "figures": figures, "grades": grades, "grades_limit": 100.0}
    for number, kind, detail in ((1, "reference", {"asked": 20}), (2, "compared", found)):
        run = RecordedRun("s", number, "frontier", kind, ago(hours=3 - number), answers, detail)  # type: ignore[arg-type]
        assert await GoldenTable(made.store).write(run)
    page = await made.shown("/console/signals")
    for said in ("87.4 %", "3.1 %", "7 of 20", "1.2", 'value="0.4"', "&lt;script&gt;", "reference"):
        assert said in page, said


async def test_a_rollout_is_shown_with_its_weight_and_its_evidence_beside_the_limits(
    console: Consoles, ago: Ago
) -> None:
    made = await console(
        state={"rollout": {"candidate": "fake/2", "kind": "canary", "state": "Paused", "weight": 0.05}}
    )
    table, entry = RolloutTable(made.store), AuditEntry("os:ann", "rollouts.begin", "fake/2")
    begun = Rollout.begin("fake", "fake/1", "fake/2", at=ago(hours=1), by="os:ann", steps=(5.0, 50.0), reason=HOSTILE)
    found = [
        CanaryFinding("non_inferior", "overall", 3.2, 20.0, False, 410, "promote", 0.004),
        CanaryFinding("harm", HOSTILE, 25.0, 20.0, True, 90, "roll_back"),
        CanaryFinding("quality_worse", "overall", 9.0, 20.0, False, 410, "roll_back"),
    ]
    told = {"offered": 900, "compared": 410, "ungraded": {}, "shed": {"budget": 490}, "replica": "a"}
    compared = tallied({}, [{**told, "spent_usd": "1", "budget_usd": "1"}])
    evidence = {"verdict": "wait", "pairs": 410, "findings": [one.to_json() for one in found], "held": "an alarm"}
    evidence["comparing"] = compared
    await table.begin(replace(begun, weight=0.05, evidence=evidence), entry)
    ended = Rollout.begin("fake", "fake/1", "fake/0", at=ago(days=1), by="graph", steps=(5.0,), reason="worse")
    await table.begin(replace(ended, model="fake", state=RolloutState.DEGRADED), entry)
    page = await made.shown("/console/signals")
    for said in ("5.0 % of the traffic", "step 1 of 2", "non inferior", "3.2", "+0.004", "reached", "Held: an alarm"):
        assert said in page, said
    for said in ("Offered to be compared: 900", "shed: 490 (490 budget)", "$1 of $1", "54 % is shed"):
        assert said in page, said
    assert page.count("<script") == 1, "our own"
    assert page.count('<meter class="against" aria-label="quality_worse') == page.count('class="against"') == 1
    assert "5.0 % of the traffic" in await made.shown("/console")


async def test_judges_stand_beside_people_with_intervals(console: Consoles, a_record: Records, ago: Ago) -> None:
    made = await console([a_record(f"dec-{at}", created_at=ago(hours=1)) for at in range(10)])
    said = [
        Feedback(
            f"dec-{at}", "label", source, ago(), float(at != 3 or source == "human"), labeller=source, by_admin=True
        )
        for at in range(10)
        for source in ("human", "judge:frontier/m")
    ]
    await FeedbackTable(made.store).write(said)
    page = await made.shown("/console/signals")
    assert "judge:frontier/m" in page
    assert "90.0 % (" in page


async def test_a_tiers_draft_is_shown_by_what_was_taken_of_it(console: Consoles) -> None:
    draft = "vllm:spec_decode_num_"
    counters: dict[str, dict[str, float]] = {
        "cheap": {
            f"{draft}draft_tokens_total": 1200.0,
            f"{draft}accepted_tokens_total": 900.0,
            f"{draft}drafts_total": 400.0,
            f"{draft}accepted_tokens_per_pos_total[1]": 200.0,
            f"{draft}accepted_tokens_per_pos_total[0]": 360.0,
            f"{draft}accepted_tokens_per_pos_total[x]": 1.0,
        },
        "idle": {f"{draft}draft_tokens_total": 0.0},
        "frontier": {"in_flight": 1.0},
    }
    assert speculation_shares(counters) == [
        SpeculationShare("cheap", 1200, 900, (0.9, 0.5)),
        SpeculationShare("idle", 0, 0, ()),
    ]

    async def asked() -> Any:
        return counters

    page = await (await console(counters=asked)).shown("/console/signals")
    assert "75.0 %" in page
    assert "90 %, 50 %" in page
