"""Runs and the row that says who makes them, on both databases."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from serve_graph.learning.golden.run_table import KEPT_RUNS, AnswerGiven, GoldenTable, RecordedRun
from serve_graph.learning.golden.schedule import STATE, run_now
from serve_graph.learning.watch_states import WatchStates
from serve_graph.records.schema import GOLDEN_RUNS
from serve_graph.records.store import DecisionStore


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


def run(number: int, series: str = "s", kind: str = "compared") -> RecordedRun:
    at = f"2026-03-01T00:{number // 60:02}:{number % 60:02}.000+00:00"
    answers = {"a": AnswerGiven("x", "Größe", 3, 4, True, "eu", "big", "fp")}
    return RecordedRun(series, number, "frontier", kind, at, answers, {"asked": 1})  # type: ignore[arg-type]


async def test_a_place_in_a_series_is_taken_once_and_failed_runs_are_compared_with_nothing(
    store: DecisionStore,
) -> None:
    table = GoldenTable(store)
    assert [await table.write(run(1, kind="reference")) for _ in range(2)] == [True, False]
    assert await table.write(run(2, kind="failed"))
    assert await table.write(run(1, series="another"))
    assert await table.of("s") == [run(1, kind="reference")]
    assert await table.next_number("s") == 3
    assert [one.number for one in await table.latest("frontier", 2)] == [2, 1]


async def test_old_runs_go_but_not_those_that_later_ones_are_compared_with(store: DecisionStore) -> None:
    table = GoldenTable(store)
    async with store.writing() as connection:
        rows = [
            {"id": f"{series}{n}", "series": series, "number": n, "tier": "frontier", "kind": "compared",
             "at": run(n).at if series == "s" else "2026-02-01", "answers": "{}", "detail": "{}"}
            for series, most in (("old", 3), ("s", KEPT_RUNS + 30)) for n in range(1, most + 1)
        ]  # fmt: skip
        await connection.execute(GOLDEN_RUNS.insert(), rows)
    await table.prune("frontier", "s")
    async with store.reading() as connection:
        counts = (await connection.execute(select(GOLDEN_RUNS.c.series, func.count()).group_by("series"))).all()
    assert [tuple(row) for row in counts] == [("s", KEPT_RUNS + 20)]
    assert [one.number for one in await table.of("s")][:21] == [*range(1, 21), 31]


async def test_of_two_who_read_the_same_row_one_writes_it(store: DecisionStore) -> None:
    states = WatchStates(store)
    empty = await states.read("x")
    first, second = await states.write(empty, holder="a"), await states.write(empty, holder="b")
    assert first is not None
    assert second is None
    again = [await states.write(first, state={"n": 1}), await states.write(first, state={"n": 2})]
    assert again[1] is None
    assert await states.read("x") == again[0]


async def test_a_person_may_have_a_run_made_but_not_while_one_is_under_way(store: DecisionStore) -> None:
    states = WatchStates(store)
    assert await run_now(store, ["frontier"])
    row = await states.read(STATE)
    assert row.state == {"due": {"frontier": ""}}
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat(timespec="milliseconds")
    held = await states.write(row, holder="a replica", held_until=until)
    assert held is not None
    assert not await run_now(store, ["frontier"])
    await states.write(held, holder="", held_until="")
    assert await run_now(store, ["frontier"])
