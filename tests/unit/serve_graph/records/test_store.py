import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.store import DecisionStore, RefusedRowError, record_from_json, record_to_json

Records = Callable[..., DecisionRecord]


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


async def test_record_comes_back_as_it_went_in(store: DecisionStore, a_record: Records) -> None:
    record = a_record()
    await store.write_many([record])
    assert await store.get("dec-1") == record


async def test_record_of_a_failed_request_comes_back_too(store: DecisionStore, a_record: Records) -> None:
    nothing = {"p_cheap_ok": None, "p_answer_ok": None, "verdict_reason": None, "calls": (), "metadata": {}}
    record = a_record(tier="none", status=499, error="client_closed_request", cost_usd=Decimal(0), **nothing)
    await store.write_many([record])
    assert await store.get("dec-1") == record


async def test_money_is_kept_to_the_last_digit(store: DecisionStore, a_record: Records) -> None:
    tiny = Decimal("0.00000000000000000012345678901234567890")
    record = a_record(cost_usd=tiny, calls=(Call("cheap", Usage(1, 1), 0.1, tiny),))
    await store.write_many([record])
    got = await store.get("dec-1")
    assert got is not None
    assert (got.cost_usd, got.calls[0].cost_usd) == (tiny, tiny)


async def test_unknown_id_is_none(store: DecisionStore) -> None:
    assert await store.get("dec-none") is None
    assert await store.count() == 0
    assert await store.latest() == []


async def test_second_write_of_an_id_changes_nothing(store: DecisionStore, a_record: Records) -> None:
    await store.write_many([a_record()])
    await store.write_many([a_record(tier="cheap"), a_record("dec-2")])
    assert await store.count() == 2
    assert await store.get("dec-1") == a_record()


async def test_one_id_twice_in_one_batch_is_one_record(store: DecisionStore, a_record: Records) -> None:
    await store.write_many([a_record(), a_record(), a_record()])
    assert await store.count() == 1


async def test_writing_nothing_is_nothing(store: DecisionStore) -> None:
    await store.write_many([])
    assert await store.count() == 0


async def test_latest_are_the_newest_first(store: DecisionStore, a_record: Records) -> None:
    days = [f"2026-01-{day:02d}T00:00:00.000+00:00" for day in (3, 1, 4, 2)]
    await store.write_many([a_record(f"dec-{day}", created_at=day) for day in days])
    assert [record.created_at[8:10] for record in await store.latest(3)] == ["04", "03", "02"]


async def test_kept_prompts_are_read_between_two_moments_and_forced_ones_where_they_are_wanted(
    store: DecisionStore, a_record: Records
) -> None:
    days = [f"2026-01-0{day}T00:00:00.000+00:00" for day in (1, 2, 3)]
    kept = [a_record(f"d{i}", created_at=day, prompt="Why?") for i, day in enumerate(days)]
    others = [
        a_record("forced", created_at=days[1], prompt="Why?", outcome="forced"),
        a_record("unkept", created_at=days[1]),
        a_record("failed", created_at=days[1], prompt="Why?", status=503),
    ]
    await store.write_many([*kept, *others])

    async def found(**asked: Any) -> list[str]:
        return [record.id async for record in store.kept_prompts(**asked)]

    assert await found() == ["d2", "d1", "d0"]
    assert await found(since=days[1], until=days[2]) == ["d1"]
    assert await found(since=days[1], forced=True) == ["d2", "d1", "forced"]


async def test_records_outlive_the_connection(store_url: str, a_record: Records) -> None:
    for i in range(3):
        store = DecisionStore(store_url)
        await store.write_many([a_record(f"dec-{i}")])
        await store.close()
    store = DecisionStore(store_url)
    assert await store.count() == 3
    await store.close()


async def test_several_stores_may_make_the_schema_at_once(store_url: str, a_record: Records) -> None:
    stores = [DecisionStore(store_url) for _ in range(6)]
    await asyncio.gather(*(store.write_many([a_record(f"dec-{i}")]) for i, store in enumerate(stores)))
    assert await stores[0].count() == 6
    for store in stores:
        await store.close()


async def test_first_requests_share_one_connection_pool(store: DecisionStore, a_record: Records) -> None:
    await asyncio.gather(store.get("x"), store.count(), store.write_many([a_record()]), store.latest())
    assert await store.count() == 1


async def test_a_zero_byte_is_replaced_not_refused(store: DecisionStore, a_record: Records) -> None:
    await store.write_many([a_record(route_reason="a\0b", metadata={"k": "c\0d"})])
    got = await store.get("dec-1")
    assert got is not None
    assert got.route_reason == "a\ufffdb"
    assert got.metadata == {"k": "c\0d"}


async def test_a_long_version_name_is_kept_whole(store: DecisionStore, a_record: Records) -> None:
    name = "a-model-with-a-long-name-" * 10 + "/12"
    await store.write_many([a_record(version=name, arm=name)])
    got = await store.get("dec-1")
    assert got is not None
    assert (got.version, got.arm) == (name, name)


@pytest.mark.parametrize("damage", [{"prompt_chars": 2**70}, {"tier": None}], ids=str)
async def test_a_row_the_store_rejects_is_distinguished_from_a_store_that_is_down(
    store: DecisionStore, a_record: Records, damage: dict[str, Any]
) -> None:
    with pytest.raises(RefusedRowError):
        await store.write_many([a_record(**damage)])
    await store.write_many([a_record("dec-2")])
    assert await store.count() == 1


@pytest.mark.parametrize(
    "url", ["sqlite+aiosqlite:////no/such/folder/x.db", "postgresql+asyncpg://nobody@127.0.0.1:9/nothing"]
)
@pytest.mark.usefixtures("sqlite_threads_end")
async def test_store_that_cannot_be_read_says_so(url: str, a_record: Records) -> None:
    store = DecisionStore(url)
    for reading in (store.get("x"), store.latest(), store.count()):
        with pytest.raises(StoreUnavailableError, match="cannot be read"):
            await reading
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the driver's own, but never the row's fault)
        await store.write_many([a_record()])
    assert not isinstance(caught.value, RefusedRowError)


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_damaged_sqlite_file_is_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailableError):
        await DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}").count()


async def test_what_a_failing_store_says_holds_nothing_of_the_rows(store_url: str, a_record: Records) -> None:
    store = DecisionStore(store_url)
    await store.write_many([a_record()])
    assert store._engine is not None
    async with store._engine.begin() as connection:
        await connection.execute(text("DROP TABLE decisions"))
    with pytest.raises(Exception, match="decisions") as failure:
        await store.write_many([a_record("dec-2", prompt="my secret", metadata={"who": "my secret"})])
    assert "my secret" not in str(failure.value)
    await store.close()


async def test_sqlite_writes_ahead_so_that_readers_do_not_wait(tmp_path: Path, a_record: Records) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}"
    store, other = DecisionStore(url), DecisionStore(url)
    await store.write_many([a_record()])
    engine = store._engine
    assert engine is not None
    async with engine.begin() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
        await connection.execute(text("UPDATE decisions SET tier = 'x'"))
        got = await other.get("dec-1")  # while the other's write is under way
        assert got is not None
        assert got.tier == "frontier"
    await store.close()
    await other.close()


@given(
    text=st.text(),
    number=st.floats(allow_nan=False, allow_infinity=False),
    usd=st.decimals(0, 10**6, allow_nan=False, allow_infinity=False),
    tokens=st.integers(0, 2**31 - 1),
    metadata=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_record_survives_json(text: str, number: float, usd: Decimal, tokens: int, metadata: dict[str, str]) -> None:
    call = Call(text, Usage(tokens, 0, tokens), number, usd)
    record = DecisionRecord(
        id=text,
        created_at="",
        requested_model=text,
        tier=text,
        outcome="routed",
        version=text,
        status=200,
        stream=True,
        prompt_sha256="",
        prompt_chars=tokens,
        route_reason=text,
        p_cheap_ok=number,
        distance=None,
        verdict_reason=None,
        p_answer_ok=None,
        calls=(call, replace(call, tier="x")),
        cost_usd=usd,
        latency_s=number,
        metadata=metadata,
    )
    assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record


def test_a_record_as_json_has_all_of_its_fields_in_their_order(a_record: Records) -> None:
    record = a_record(evidence={"thresholds": {"cheap": {"route_at": 0.5}}, "promised": None}, prompt="text")
    data = record_to_json(record)
    assert list(data) == [each.name for each in fields(DecisionRecord)]
    assert [list(line) for line in data["calls"]] == [[each.name for each in fields(Call)]] * len(record.calls)
    assert record.calls
    assert data["calls"][0]["usage"] == asdict(record.calls[0].usage)
    for name in set(data) - {"calls", "overhead", "cost_usd"}:
        assert data[name] == getattr(record, name), name
