"""Feedback in the store: one row a voice and kind, the same in whatever order it arrives, and none lost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import DecisionRecord
from serve_graph.records.feedback import Feedback, FeedbackTable, entry_from_json, feedback_to_json, merged
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

Records = Callable[..., DecisionRecord]


def said(value: float = 1.0, at: int = 0, decision: str = "dec-1", **fields: Any) -> Feedback:
    moment = f"2026-03-01T00:00:00.{at:03}+00:00"
    return Feedback(decision, **{"kind": "thumbs", "source": "human", "given_at": moment, "value": value} | fields)


async def test_the_last_word_of_a_voice_stands(store: DecisionStore, a_record: Records) -> None:
    table = FeedbackTable(store)
    await store.write_many([a_record("dec-1", key="team")])
    await table.write([said(1.0, 1, key="team"), said(0.0, 2, key="team"), said(0.0, 3, key="team", kind="score")])
    await table.write([said(1.0, 0, key="team")])  # an older one that was delayed
    found = (await table.of(["dec-1"]))["dec-1"]
    assert [(one.kind, one.value, one.first_at[-9:-6]) for one in found] == [
        ("thumbs", 0.0, "000"),
        ("score", 0.0, "003"),
    ]


async def test_a_repeated_request_changes_nothing_that_was_said_since(store: DecisionStore, a_record: Records) -> None:
    table = FeedbackTable(store)
    await store.write_many([a_record("dec-1", key="team")])
    first = said(1.0, 1, key="team", replays=("aa",))
    for one in (first, said(0.0, 2, key="team", replays=("bb",)), replace(first, given_at=said(at=3).given_at)):
        await table.write([one])
    assert [one.value for one in (await table.of(["dec-1"]))["dec-1"]] == [0.0]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_the_order_of_arrival_and_arriving_twice_make_no_difference(order: list[int], again: list[int]) -> None:
    words = [said(float(i % 2), i) for i in range(6)]
    stands: Feedback | None = None
    for i in [*order, *again]:
        stands = merged(stands, words[i])
    assert stands is not None
    assert (stands.value, stands.given_at, stands.first_at) == (1.0, words[5].given_at, words[0].given_at)


async def test_only_words_on_ones_own_decisions_count_unless_an_administrator_says_them(
    store: DecisionStore, a_record: Records
) -> None:
    table = FeedbackTable(store)
    await store.write_many([a_record("dec-1", key="team"), a_record("dec-2", key=None)])
    await table.write(
        [
            said(key="other"),
            said(key="boss", by_admin=True),
            said(key=None, decision="dec-2"),
            said(key=None, decision="dec-2", by_admin=True),
            said(decision="dec-3", key="team"),
        ]
    )
    found = await table.of(["dec-1", "dec-2", "dec-3"])
    assert {name: [one.key for one in words] for name, words in found.items()} == {"dec-1": ["boss"], "dec-2": [None]}


async def test_feedback_goes_with_its_decision(store: DecisionStore, a_record: Records) -> None:
    table = FeedbackTable(store)
    await store.write_many([a_record("dec-1", created_at="2026-01-01T00:00:00.000+00:00", key="team")])
    await store.write_many([a_record("dec-2", created_at="2026-02-20T00:00:00.000+00:00", key="team")])
    await table.write([said(key="team", decision=f"dec-{i}") for i in (1, 2, 3)])
    assert await store.delete_before("2026-02-01T00:00:00.000+00:00") == 1
    await store.write_many([a_record(f"dec-{i}", key="team") for i in (1, 3)])
    assert set(await table.of(["dec-1", "dec-2", "dec-3"])) == {"dec-2", "dec-3"}


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_a_store_that_is_away_delays_feedback_and_loses_none(
    tmp_path: Path, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    later = tmp_path / "not-there-yet"
    store = DecisionStore(f"sqlite+aiosqlite:///{later / 'x.db'}")
    killed = SpooledSink(store, spool, retry_s=0.05)
    killed.write(said(0.0, key="team"))
    killed._file.close()  # its process is gone: the lock is
    sink = SpooledSink(store, spool, retry_s=0.05)
    async with running(sink):
        for i in range(1, 20):
            sink.write(said(i % 2, i, f"dec-{i + 1}", key="team"))
            sink.write(a_record(f"dec-{i}", key="team"))
            await asyncio.sleep(0.005)
        assert sink.pending == 38
        later.mkdir()
        await until(lambda: sink.pending == 0)
        found = await FeedbackTable(store).of([f"dec-{i}" for i in range(1, 21)])
        assert set(found) == {f"dec-{i}" for i in range(1, 20)}
    await store.close()


@pytest.mark.postgres
async def test_postgres_killed_and_restarted_while_feedback_arrives_loses_nothing(
    postgres: Any, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    store = DecisionStore(postgres.emptied())
    sink = SpooledSink(store, spool, retry_s=0.05)
    names = [f"dec-{i}" for i in range(120)]
    async with running(sink):
        for i, name in enumerate(names):
            if i == 40:
                await asyncio.to_thread(postgres.stop, "immediate")
            if i == 80:
                assert sink.pending > 0
                await asyncio.to_thread(postgres.start)
            sink.write(a_record(name, key="team"))
            sink.write(said(decision=name, key="team"))
            await asyncio.sleep(0.002)
        await until(lambda: sink.pending == 0)
        assert set(await FeedbackTable(store).of(names)) == set(names)
    await store.close()


async def test_writers_at_once_keep_the_last_word(store_url: str, a_record: Records) -> None:
    stores = [DecisionStore(store_url) for _ in range(3)]
    await stores[0].write_many([a_record("dec-1", key="team")])
    words = [said(float(i % 2), i, key="team") for i in range(1, 30)]
    await asyncio.gather(*(FeedbackTable(stores[i % 3]).write([word]) for i, word in enumerate(words)))
    [stands] = (await FeedbackTable(stores[0]).of(["dec-1"]))["dec-1"]
    assert (stands.value, stands.first_at) == (1.0, words[0].given_at)
    for store in stores:
        await store.close()


def test_a_line_of_the_spool_is_read_back_as_it_was() -> None:
    given_as = said(1.0, text="a\ud83d", replays=("aa", "bb"), last_tier_right=False, by_admin=True)
    assert entry_from_json(feedback_to_json(given_as)) == given_as


async def test_text_with_a_null_byte_is_stored(store: DecisionStore, a_record: Records) -> None:
    await store.write_many([a_record("dec-1", key="team")])
    await FeedbackTable(store).write([said(kind="text", text="a\0b", key="team")])
    assert (await FeedbackTable(store).of(["dec-1"]))["dec-1"][0].text == "a\ufffdb"


async def test_what_is_known_of_a_judges_label_is_kept_and_old_lines_are_read(
    store: DecisionStore, a_record: Records
) -> None:
    label = said(kind="label", source="judge:m", by_admin=True, probability=0.05, detail={"verdict": "tie"})
    assert entry_from_json(feedback_to_json(label)) == label
    old = {name: value for name, value in feedback_to_json(label).items() if name not in ("probability", "detail")}
    assert entry_from_json(old) == replace(label, probability=None, detail={})
    await store.write_many([a_record("dec-1")])
    await FeedbackTable(store).write([label, said(key="boss", by_admin=True)])
    kept = {one.source: one for one in (await FeedbackTable(store).of(["dec-1"]))["dec-1"]}
    assert (kept["judge:m"].probability, kept["judge:m"].detail) == (0.05, {"verdict": "tie"})
    assert kept["judge:m"].shown()["detail"] == {"verdict": "tie"}
    assert not {"probability", "detail"} & kept["human"].shown().keys()


async def test_labels_are_counted_and_read_by_whose_they_are(store: DecisionStore, a_record: Records) -> None:
    table = FeedbackTable(store)
    await store.write_many([a_record("dec-1")])
    labels = [said(kind="label", source=source, labeller=source, by_admin=True) for source in ("human", "judge:m")]
    await table.write(labels)
    assert (await table.label_state())[0] == 2
    assert await table.label_state(["human"]) == (1, labels[0].given_at, 1.0)
    found = await table.labels("serve-graph-router/1", sources=["judge:m"])
    assert [one.source for one, _ in found] == ["judge:m"]
