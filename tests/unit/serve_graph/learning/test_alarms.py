"""Labels that contradict a certificate revoke it: on every replica, once told, across restarts, until it is lifted."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from router_models.monitoring.promise_watch import WatchedPromise, WatchLimits
from router_models.types import DecisionRecord
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.alarms import WHOLE_EVERY, AlarmRules, AlarmWatch
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore

VERSION = "router/1"
RULES = AlarmRules(VERSION, WatchedPromise(0.1), label_share=1.0)
Records = Callable[..., DecisionRecord]


@pytest.fixture
async def store(made_store_url: str) -> Any:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


class Replica:
    """An AlarmWatch, what it did, and whom it told."""

    def __init__(self, store: DecisionStore, rules: AlarmRules = RULES, **settings: Any) -> None:
        self.did: list[str | None] = []
        self.told: list[tuple[str, int]] = []
        self.watch = AlarmWatch(store, rules, self.did.append, announce=self.announce, **settings)

    async def announce(self, event: str, alarms: Sequence[Alarm]) -> None:
        self.told.append((event, len(alarms)))

    async def look(self) -> str | None:
        """Why it is in the safe mode after a look."""
        await self.watch.look()
        await asyncio.sleep(0)
        return self.did[-1] if self.did else None


async def labelled(
    store: DecisionStore, a_record: Records, n: int, wrong: bool, day: int = 1, version: str = VERSION
) -> None:
    """Give n decisions a label each."""
    names = [f"dec-{day}-{wrong}-{i}" for i in range(n)]
    evidence = {"promised": 0.9, "promised_of": "accepted cheap answers"}
    await store.write_many([a_record(name, version=version, evidence=evidence) for name in names])
    at = f"2026-03-{day:02}T00:00:00.000+00:00"
    await FeedbackTable(store).write(
        [Feedback(name, "label", "human", at, float(not wrong), by_admin=True) for name in names]
    )


async def test_a_judges_labels_beside_peoples_raise_nothing_and_are_not_even_read(
    store: DecisionStore, a_record: Records
) -> None:
    replica, judge = Replica(store), "judge:frontier/m"
    await labelled(store, a_record, 40, wrong=False)
    await FeedbackTable(store).write(
        [
            Feedback(f"dec-1-False-{i}", "label", judge, "2026-03-01", 0.0, labeller=judge, by_admin=True)
            for i in range(40)
        ]
    )
    assert await replica.look() is None
    assert replica.watch.values()["labels"] == 40
    assert replica.watch.values()["errors"] == 0
    watched = Replica(store, replace(RULES, watched=WatchedPromise(0.1, judge=judge)))
    assert "revoked by labels: 40 of 40" in str(await watched.look())


async def test_bad_labels_revoke_on_every_replica_and_are_told_once(store: DecisionStore, a_record: Records) -> None:
    replicas = [Replica(store), Replica(store)]
    await labelled(store, a_record, 40, wrong=False)
    assert [await replica.look() for replica in replicas] == [None, None]
    await labelled(store, a_record, 15, wrong=True)
    reasons = await asyncio.gather(*(replica.look() for replica in replicas))
    assert reasons[0] == reasons[1]
    assert reasons[0] is not None
    assert "revoked by labels: 15 of 55 labelled answers wrong, where 0.1 at most was promised" in reasons[0]
    assert "\n" not in reasons[0]
    assert sum(len(replica.told) for replica in replicas) == 1
    entries = await AuditLog(store).entries()
    assert {(entry.actor, entry.action, entry.target) for entry in entries} >= {("graph", "alarms.revoked", VERSION)}
    assert len({entry.id for entry in entries}) == len({(entry.action, entry.target) for entry in entries})


class Away(AlarmTable):
    """Alarms in a store that raises, or never replies."""

    def __init__(self, store: DecisionStore, fault: Exception | None) -> None:
        super().__init__(store)
        self.fault = fault

    async def all(self, *_: Any, **__: Any) -> list[Alarm]:
        if self.fault is not None:
            raise self.fault
        await asyncio.sleep(60)
        return []


@pytest.mark.parametrize("fault", [OSError("gone"), None], ids=["gone", "silent"])
async def test_nothing_is_promised_of_a_version_before_its_alarms_can_be_looked_at(
    store: DecisionStore, fault: Exception | None
) -> None:
    replica = Replica(store)
    there, replica.watch.alarms = replica.watch.alarms, Away(store, fault)
    await replica.watch.know_before_serving(within_s=0.05)
    replica.watch.alarms = there
    assert replica.did == ["it is not known yet whether an alarm stands against it"]
    assert await replica.look() is None, "it can be, and none does"
    unwatched = Replica(store, AlarmRules(VERSION, None))
    await unwatched.watch.know_before_serving()
    assert unwatched.did == []


async def test_a_watch_that_is_stopped_ends_by_itself(store: DecisionStore) -> None:
    replica = Replica(store, AlarmRules(VERSION, WatchedPromise(0.1), label_share=1.0, poll_s=0.01))
    running = asyncio.ensure_future(replica.watch.run())
    await asyncio.sleep(0.05)
    assert not running.done()
    replica.watch.stop()
    await asyncio.wait_for(running, 20)


async def test_labels_within_the_promise_do_nothing(store: DecisionStore, a_record: Records) -> None:
    replica = Replica(store)
    await labelled(store, a_record, 95, wrong=False)
    await labelled(store, a_record, 5, wrong=True)
    assert await replica.look() is None
    assert (replica.watch.values()["labels"], replica.watch.values()["errors"]) == (100, 5)


async def test_one_keys_thumbs_and_another_versions_labels_revoke_nothing(
    store: DecisionStore, a_record: Records
) -> None:
    replica = Replica(store)
    await labelled(store, a_record, 60, wrong=True, version="router/2")
    names = [f"dec-{i}" for i in range(60)]
    evidence = {"promised": 0.9, "promised_of": "accepted cheap answers"}
    await store.write_many([a_record(name, key="team", version=VERSION, evidence=evidence) for name in names])
    await FeedbackTable(store).write(
        [
            Feedback(name, kind, "human", "2026-03-01", 0.0, key="team")
            for name in names
            for kind in ("thumbs", "score")
        ]
    )
    assert await replica.look() is None
    assert replica.watch.values()["labels"] == 0


async def test_a_lifted_alarm_acts_no_more_and_labels_count_from_then_on(
    store: DecisionStore, a_record: Records
) -> None:
    replica = Replica(store)
    await labelled(store, a_record, 20, wrong=True)
    assert await replica.look() is not None
    assert await AlarmTable(store).lift(VERSION, "ann", "swapped", "2026-03-02T00:00:00.000+00:00") == 2
    assert await replica.look() is None
    assert replica.did[-1] is None
    await labelled(store, a_record, 3, wrong=True, day=3)
    assert await replica.look() is None
    await labelled(store, a_record, 20, wrong=True, day=4)
    assert await replica.look() is not None
    alarms = await AlarmTable(store).all(VERSION)
    assert sorted(a.kind for a in alarms if a.lifted_by == "ann") == ["drift", "revoked"]
    assert any(a.kind == "revoked" for a in alarms if a.lifted_at is None)


async def test_a_revocation_survives_a_restart_with_the_store_and_without_it(
    store: DecisionStore, a_record: Records, tmp_path: Path
) -> None:
    note = tmp_path / "alarms.json"
    await labelled(store, a_record, 20, wrong=True)
    reason = await Replica(store, note=note).look()
    assert await Replica(store).look() == reason
    away = DecisionStore("sqlite+aiosqlite:////nowhere/at/all.db")
    assert Replica(away, note=note).did == [reason]
    other = AlarmRules("router/2", WatchedPromise(0.1))
    assert Replica(away, other, note=note).did == []
    for nonsense in ("", "[]", "{", '{"version": "router/1"}'):
        note.write_text(nonsense)
        assert Replica(away, note=note).did == []


async def test_drift_that_only_reports_does_not_act(store: DecisionStore, a_record: Records) -> None:
    rules = AlarmRules(VERSION, WatchedPromise(0.1), label_share=1.0, limits=WatchLimits(100, 1e-12), drift_acts=False)
    replica = Replica(store, rules)
    await labelled(store, a_record, 8, wrong=True)
    assert await replica.look() is None
    assert [(a["kind"], a["acts"]) for a in replica.watch.facts()] == [("drift", False)]


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_a_store_that_is_away_leaves_what_was_known(
    tmp_path: Path, a_record: Records, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    store = DecisionStore(f"sqlite+aiosqlite:///{folder / 'x.db'}")
    replica = Replica(store)
    await labelled(store, a_record, 20, wrong=True)
    reason = await replica.look()
    replica.watch.labels = FeedbackTable(DecisionStore("sqlite+aiosqlite:////nowhere/at/all.db"))
    with caplog.at_level(logging.WARNING):
        await replica.watch.look_once(lambda: True)
    assert replica.did == [reason]
    assert "cannot be looked at" in caplog.text
    await store.close()


async def test_more_wrong_answers_under_a_promise_of_harm_are_told_and_act_on_nothing(
    store: DecisionStore, a_record: Records
) -> None:
    replica = Replica(store, AlarmRules(VERSION, WatchedPromise(0.1, harm=True, wrong_at_most=0.15), label_share=1.0))
    await labelled(store, a_record, 30, wrong=True)
    assert await replica.look() is None
    [alarm] = replica.watch.facts()
    assert (alarm["kind"], alarm["scope"], alarm["acts"]) == ("drift", "wrong answers", False)
    assert "30 of 30 labelled answers wrong, 0.15 at most when certified" in alarm["reason"]


async def test_a_label_that_comes_before_its_decision_is_seen_once_that_is_there(
    store: DecisionStore, a_record: Records
) -> None:
    replica = Replica(store)
    names = [f"dec-{i}" for i in range(20)]
    await FeedbackTable(store).write([Feedback(name, "label", "human", "2026", 0.0, by_admin=True) for name in names])
    assert await replica.look() is None
    evidence = {"promised": 0.9, "promised_of": "accepted cheap answers"}
    await store.write_many([a_record(name, version=VERSION, evidence=evidence) for name in names])
    for _ in range(WHOLE_EVERY):
        await replica.look()
    assert replica.did[-1] is not None


async def test_what_is_not_certified_is_not_watched(store: DecisionStore, a_record: Records) -> None:
    replica = Replica(store, AlarmRules(VERSION, None))
    await labelled(store, a_record, 20, wrong=True)
    assert await replica.look() is None
    await replica.watch.run()  # ends at once


async def test_a_slices_alarm_names_it(store: DecisionStore, a_record: Records) -> None:
    rules = AlarmRules(VERSION, WatchedPromise(0.1, slices=("fr",)), label_share=1.0)
    names = [f"dec-{i}" for i in range(60)]
    evidence = {"promised": 0.9, "promised_of": "accepted cheap answers"}
    await store.write_many(
        [
            a_record(name, version=VERSION, evidence=evidence | ({"slice": "fr"} if i % 3 == 0 else {}))
            for i, name in enumerate(names)
        ]
    )
    await FeedbackTable(store).write(
        [
            Feedback(name, "label", "human", "2026-03-01", float(i % 3 > 0), by_admin=True)
            for i, name in enumerate(names)
        ]
    )
    replica = Replica(store, rules, now=lambda: datetime(2026, 3, 2, tzinfo=UTC))
    await replica.look()
    assert any(a["scope"] == "fr" and "in slice fr: 20 of 20" in a["reason"] for a in replica.watch.facts())
