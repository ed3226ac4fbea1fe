"""Golden tasks find a model that fell: it stands against every version that was certified before, whichever serves."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.config.learning import GoldenConfig
from serve_graph.learning.alarm_table import GOLDEN, TICKET, Alarm, AlarmTable
from serve_graph.learning.golden.asking import TierAnswered
from serve_graph.learning.golden.golden_metrics import GoldenMetrics
from serve_graph.learning.golden.golden_watch import GoldenWatch
from serve_graph.learning.golden.run_table import AnswerGiven, GoldenTable
from serve_graph.learning.golden.standing import WatchedVersion, carried_over, reference_since
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def version(n: int, day: float) -> WatchedVersion:
    """A version that was certified on answers since a day."""
    return WatchedVersion(f"router/{n}", {"frontier": BEGAN + day * DAY})


OLD, OLDER = version(1, -2), version(2, -5)


class Model:
    """What is asked: it answers all right until it falls."""

    fell = False

    async def ask(self, tier: str, tasks: Any, beat: Any) -> TierAnswered:
        await beat()
        given = AnswerGiven("said", "text", 5, 5, right=not self.fell, source="program")
        return TierAnswered(dict.fromkeys(tasks.tasks, given))


class Watched:
    """A graph's golden tasks: `day` lets one go by and looks; `versions` are those that answer."""

    def __init__(self, store: DecisionStore) -> None:
        self.store, self.model, self.at = store, Model(), BEGAN
        self.versions = [OLD]
        config = GoldenConfig(size=20, reference_runs=3, reference_every_s=86_400)
        asker: Any = self.model
        self.watch = GoldenWatch(
            store, config, {"frontier": "m"}, asker, GoldenMetrics(), lambda: self.versions, now=lambda: self.at
        )
        self.alarms = AlarmTable(store)

    async def day(self, n: int = 1) -> None:
        for _ in range(n):
            self.at += DAY
            await self.watch.look()

    async def against(self) -> set[str]:
        return {alarm.version for alarm in await self.alarms.all() if alarm.acts and not alarm.lifted_at}

    async def references(self) -> int:
        return sum(run.kind == "reference" for run in await GoldenTable(self.store).latest("frontier", 100))


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[Watched]:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    yield Watched(store)
    await store.close()


async def fallen(graph: Watched) -> None:
    await graph.day(4)
    graph.model.fell = True
    await graph.day(3)


async def test_a_candidate_whose_model_fell_has_the_alarm_against_it_too(graph: Watched) -> None:
    graph.versions = [OLD, OLDER]
    await fallen(graph)
    assert await graph.against() == {"router/1", "router/2"}
    [of_candidate] = await graph.alarms.all("router/2")
    assert (of_candidate.kind, of_candidate.scope) == (GOLDEN, "golden_grades:frontier")
    told = "found of router/1, and router/2 was certified on answers of frontier since 2026-02-24 00:00, before it was"
    assert f"{told} found" in of_candidate.reason
    audited = [(one.action, one.target) for one in await AuditLog(graph.store).entries()]
    assert ("alarms.golden", "router/2") in audited


async def test_the_alarm_is_the_old_candidates_and_not_that_of_a_version_certified_since(graph: Watched) -> None:
    await fallen(graph)
    certified_since = version(3, 8)
    graph.versions = [certified_since]
    await graph.day()
    graph.versions = [certified_since, OLDER]
    await graph.watch.look()  # no run is due: the candidate's alarm waits for none
    assert await graph.against() == {"router/1", "router/2"}
    await graph.day(6)
    assert "router/3" not in await graph.against(), "what stands against the candidate is not carried on to it"


async def test_a_version_promoted_by_hand_after_the_model_fell_keeps_the_reference_of_before(graph: Watched) -> None:
    await fallen(graph)
    assert await graph.references() == 3
    graph.versions = [OLDER]
    await graph.watch.look()
    assert await graph.against() == {"router/1", "router/2"}
    await graph.day(3)
    assert await graph.references() == 3, "none is made of the fallen model"
    runs = await GoldenTable(graph.store).latest("frontier", 3)
    assert {run.detail["grades"]["wrong"] for run in runs} == {20}


async def test_once_a_person_has_lifted_it_the_model_of_now_is_the_reference_for_whichever_version(
    graph: Watched,
) -> None:
    await fallen(graph)
    graph.versions = [OLDER]
    await graph.watch.look()
    for name in ("router/1", "router/2"):
        await graph.alarms.lift(name, "ann", "announced", graph.at.isoformat(timespec="milliseconds"))
    await graph.day(5)
    assert await graph.against() == set()
    assert await graph.references() == 6


async def test_a_version_certified_since_has_a_reference_of_its_own(graph: Watched) -> None:
    await fallen(graph)
    graph.versions = [version(3, 8)]
    await graph.day(5)
    assert await graph.against() == {"router/1"}
    assert await graph.references() == 6


def alarm(day: float, of: str = "router/1", **fields: Any) -> Alarm:
    at = (BEGAN + day * DAY).isoformat()
    return replace(Alarm(of, GOLDEN, "golden_grades:frontier", at, "fell", acts=True), **fields)


async def test_to_certify_again_on_answers_of_before_lifts_nothing_and_makes_no_new_reference(graph: Watched) -> None:
    """The date of a certificate says nothing of the model whose answers it rests on."""
    await fallen(graph)
    certified = datetime(2026, 3, 9, tzinfo=UTC)
    for name, collected in (("router/3", {"frontier": BEGAN - DAY}), ("router/4", {})):
        graph.versions = [WatchedVersion.of(name, a_certificate(made_at=certified, collected=collected))]
        await graph.watch.look()
        [found] = await graph.alarms.all(name)
        assert found.acts
        assert ("is not known when" in found.reason) == (not collected)
    await graph.day(2)
    assert await graph.references() == 3
    graph.versions = [
        WatchedVersion.of("router/5", a_certificate(made_at=certified, collected={"frontier": BEGAN + 9 * DAY}))
    ]
    await graph.watch.look()
    assert await graph.alarms.all("router/5") == []


def a_certificate(**fields: Any) -> Certificate:
    return Certificate(
        "P(wrong | cheap accepted)", 0.1, 0.1, 0.1, 50, 40, 0, 0.05, 0.5, "human",
        **{"expires_at": datetime(2027, 1, 1, tzinfo=UTC), "binds": {}, **fields},
    )  # fmt: skip


def test_what_speaks_against_whom_is_a_matter_of_when_the_answers_were_made_that_it_rests_on() -> None:
    uncertified = WatchedVersion("router/9")
    other_graphs = replace(OLDER, name="other/2")
    of_another_tier = WatchedVersion("router/4", {"frontier": BEGAN + 2 * DAY, "cheap": BEGAN - DAY})
    for one, carries in (
        (OLDER, True),
        (version(3, 2), False),
        (uncertified, False),
        (other_graphs, False),
        (of_another_tier, False),
    ):
        found = carried_over([alarm(1)], ["frontier"], [one])
        assert [each.version for each in found] == ([one.name] if carries else [])
    assert carried_over([alarm(1)], ["cheap"], [OLDER]) == [], "of a tier that is asked no more"
    assert carried_over([alarm(1, kind=TICKET)], ["frontier"], [OLDER]) == [], "tickets act on nobody"
    assert carried_over([alarm(1), alarm(1, "router/2")], ["frontier"], [OLD, OLDER]) == []
    assert carried_over([alarm(1, lifted_at=BEGAN.isoformat())], ["frontier"], [OLDER]) == []


def test_a_ticket_that_is_closed_lifts_no_alarm() -> None:
    """What fell is mostly reported as both; the alarm stands against the others as it does against its own."""
    closed = alarm(1, kind=TICKET, scope="golden_chars:frontier", acts=False, lifted_at=(BEGAN + 2 * DAY).isoformat())
    assert [one.version for one in carried_over([alarm(1), closed], ["frontier"], [OLDER])] == [OLDER.name]


def test_a_reference_begins_after_what_a_person_closed_or_what_was_found_before_the_certificate() -> None:
    rows = [alarm(1), alarm(2, lifted_at=(BEGAN + 3 * DAY).isoformat())]
    assert reference_since(rows[:1], "frontier", OLD) == ""
    assert reference_since(rows[:1], "frontier", OLDER) == ""
    assert reference_since(rows[:1], "frontier", version(3, 2)) == rows[0].raised_at
    assert reference_since(rows, "frontier", OLD) == rows[1].lifted_at
    assert reference_since(rows, "cheap", OLD) == ""
    assert carried_over(rows, ["frontier"], [OLDER]) == [], "what was lifted last speaks of a later model"
