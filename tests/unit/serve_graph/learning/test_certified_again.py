"""A version that is certified after an alarm by labels lifts it only where its answers were made since."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router_models.monitoring.promise_watch import WatchedPromise
from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.learning.alarm_table import GOLDEN, Alarm, AlarmTable, CertifiedOn, not_lifted_by
from serve_graph.learning.alarms import AlarmRules, AlarmWatch
from serve_graph.records.store import DecisionStore

RAISED = datetime(2026, 3, 5, tzinfo=UTC)
DAY = timedelta(days=1)
ALARM = Alarm("router/1", "revoked", "overall", RAISED.isoformat(), "revoked by labels: 9 of 9", acts=True)
BEFORE, SINCE = CertifiedOn(RAISED + DAY, RAISED - DAY), CertifiedOn(RAISED + DAY, RAISED)
UNKNOWN = CertifiedOn(RAISED + DAY)


@pytest.fixture
async def store(made_store_url: str) -> Any:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


async def looked(store: DecisionStore, version: str, certified: CertifiedOn) -> str | None:
    """Why a version that begins to serve is in the safe mode."""
    did: list[str | None] = []
    watch = AlarmWatch(store, AlarmRules(version, WatchedPromise(0.1), certified=certified), did.append)
    await watch.know_before_serving()
    return did[-1] if did else None


async def test_certified_again_on_answers_of_before_a_version_is_in_safe_mode_from_its_first_request(
    store: DecisionStore,
) -> None:
    await AlarmTable(store).raise_all([ALARM])
    told = await looked(store, "router/2", BEFORE)
    again = "found of router/1, and router/2 was certified again on answers made since 2026-03-04 00:00, before it was"
    assert told == f"{ALARM.reason}; {again} raised"
    assert "not known when" in str(await looked(store, "router/3", UNKNOWN))
    assert await looked(store, "router/4", SINCE) is None
    of = [alarm.version for alarm in await AlarmTable(store).all()]
    assert sorted(of) == ["router/1", "router/2", "router/3"], "each once: what was carried over is not carried on"


async def test_a_person_lifts_what_stands_against_the_new_version_and_it_stays_lifted(store: DecisionStore) -> None:
    table = AlarmTable(store)
    await table.raise_all([ALARM])
    await looked(store, "router/2", BEFORE)
    await table.lift("router/2", "ann", "the labels were swapped", (RAISED + DAY).isoformat())
    assert await looked(store, "router/2", BEFORE) is None
    assert (await table.all("router/1"))[0].lifted_at is None


@pytest.mark.parametrize(
    ("alarm", "version", "certified"),
    [
        (ALARM, "router/2", SINCE),
        (ALARM, "router/2", CertifiedOn(RAISED - DAY, RAISED - 2 * DAY)),
        (ALARM, "other/2", BEFORE),
        (ALARM, "router/1", BEFORE),
        (replace(ALARM, lifted_at=RAISED.isoformat()), "router/2", BEFORE),
        (replace(ALARM, acts=False), "router/2", BEFORE),
        (replace(ALARM, kind=GOLDEN), "router/2", BEFORE),
    ],
    ids=[
        "answers of since",
        "certified before it",
        "another graph's",
        "its own",
        "lifted",
        "acts on nothing",
        "golden",
    ],
)
def test_whom_it_does_not_stand_against(alarm: Alarm, version: str, certified: CertifiedOn) -> None:
    assert not_lifted_by([alarm], version, certified) == []
    assert len(not_lifted_by([ALARM], "router/2", BEFORE)) == 1


@pytest.mark.parametrize(
    ("collected", "since"),
    [
        ({"cheap": RAISED, "frontier": RAISED + DAY}, RAISED),
        ({"cheap": RAISED + DAY, "frontier": RAISED, "other": RAISED - DAY}, RAISED),
        ({"cheap": RAISED}, None),
        ({}, None),
    ],
)
def test_a_certificate_is_as_old_as_the_oldest_answer_of_any_of_its_tiers(
    collected: dict[str, datetime], since: datetime | None
) -> None:
    made = Certificate(
        "P(wrong | cheap accepted)", 0.1, 0.1, 0.1, 50, 40, 0, 0.05, 0.5, "human",
        made_at=RAISED + DAY, expires_at=RAISED + 9 * DAY, binds={}, collected=collected,
    )  # fmt: skip
    assert CertifiedOn.of(made, ("cheap", "frontier")) == CertifiedOn(RAISED + DAY, since)
