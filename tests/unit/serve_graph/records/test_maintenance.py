import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.access.budgets import Spending
from serve_graph.access.keys import Keyring, key_hash, write_keys
from serve_graph.config.access import KeyConfig
from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import RecordsConfig
from serve_graph.errors import ConfigError
from serve_graph.records.maintenance import REDACTED, Maintenance, metadata_keeper, prompt_keeper
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

Records = Callable[..., DecisionRecord]
Keepers = Callable[..., Maintenance]
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def shout(prompt: str) -> str:
    return prompt.upper()


def fail(prompt: str) -> str:
    raise RuntimeError(prompt)


def test_no_prompt_is_kept_unless_asked_for() -> None:
    assert prompt_keeper(RecordsConfig(redact=(re.compile("x"),)))("secret") is None


def test_what_patterns_find_is_gone_before_it_is_kept() -> None:
    keep = prompt_keeper(RecordsConfig(keep_prompts=True, redact=(re.compile(r"\d{4,}"), re.compile(r"\S+@\S+"))))
    assert keep("card 12345678 of a@b.org") == f"card {REDACTED} of {REDACTED}"


def test_a_hook_of_ones_own_redacts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert prompt_keeper(RecordsConfig(keep_prompts=True, redact_with="test_maintenance:shout"))("a") == "A"
    assert prompt_keeper(RecordsConfig(keep_prompts=True, redact_with="test_maintenance:fail"))("a") == REDACTED


def test_metadata_are_redacted_as_prompts_are_and_only_those_that_are_named_are_kept() -> None:
    given = {"task": "code", "mail": "a@b.org"}
    assert metadata_keeper(RecordsConfig())(given) == given
    redacting = RecordsConfig(redact=(re.compile(r"\S+@\S+"),))
    assert metadata_keeper(redacting)(given) == {"task": "code", "mail": REDACTED}
    assert metadata_keeper(redacting.model_copy(update={"keep_metadata": ("task", "absent")}))(given) == {
        "task": "code"
    }


def test_rejected_records_are_deleted_with_the_others(tmp_path: Path) -> None:
    sink = SpooledSink(DecisionStore("sqlite+aiosqlite://"), tmp_path)
    old, fresh = (tmp_path / f"{name}.jsonl.rejected" for name in ("old", "fresh"))
    for path, changed in ((old, 1_000.0), (fresh, 3_000.0)):
        path.write_text("{}")
        os.utime(path, (changed, changed))
    assert sink.delete_rejected(2_000.0) == 1
    assert (old.exists(), fresh.exists()) == (False, True)
    sink.close()


def test_rejected_records_that_another_replica_has_just_deleted_are_no_fault(tmp_path: Path) -> None:
    sink = SpooledSink(DecisionStore("sqlite+aiosqlite://"), tmp_path)
    (tmp_path / "gone.jsonl.rejected").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    assert sink.delete_rejected(2_000.0) == 0
    sink.close()


async def test_records_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    folder, database = tmp_path / "state" / "spool", tmp_path / "decisions.db"
    folder.mkdir(parents=True, mode=0o755)
    database.touch(0o644)
    store = DecisionStore(f"sqlite+aiosqlite:///{database}")
    sink = SpooledSink(store, folder)
    await store.open()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (database, folder, *folder.iterdir())}
    assert modes.pop("spool") == "0o700"
    assert set(modes.values()) == {"0o600"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("decisions.db*"))
    sink.close()
    await store.close()


@pytest.mark.parametrize("hook", ["no_such_module:f", "json:no_such_function"])
def test_a_hook_that_is_not_there_is_refused(hook: str) -> None:
    with pytest.raises(ConfigError, match="redact_with"):
        prompt_keeper(RecordsConfig(keep_prompts=True, redact_with=hook))


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


@pytest.fixture
def maintenance(store: DecisionStore, tmp_path: Path) -> Iterator[Keepers]:
    """Make a Maintenance of some keys, over the store; keywords are the configuration's `records`."""
    made: list[Maintenance] = []

    def make(keys: list[dict[str, Any]], **records: Any) -> Maintenance:
        tier = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
        config = GraphConfig.model_validate({"tiers": [tier], "records": records})
        sealed = [KeyConfig.model_validate({"sha256": key_hash(key["name"]), **key}) for key in keys]
        ring = Keyring(sealed, tmp_path / "k.yaml")
        made.append(Maintenance(store, SpooledSink(store, tmp_path / "spool"), ring, Spending(), config))
        made[-1].now = lambda: NOON
        return made[-1]

    yield make
    for worker in made:
        worker.sink.close()


async def test_records_older_than_asked_are_deleted(
    store: DecisionStore, maintenance: Keepers, a_record: Records
) -> None:
    now = NOON
    for days in (1, 29, 31):
        moment = (now - timedelta(days=days)).isoformat(timespec="milliseconds")
        await store.write_many([a_record(f"dec-{days}", created_at=moment, prompt="hello")])
    await maintenance([]).delete_old()
    assert await store.count() == 3
    await maintenance([], keep_days=30).delete_old()
    assert await store.count() == 2
    assert await store.get("dec-31") is None
    kept = await store.get("dec-1")
    assert kept is not None
    assert kept.prompt == "hello"


async def test_spending_of_all_replicas_is_summed_to_the_last_digit(
    store: DecisionStore, maintenance: Keepers, a_record: Records
) -> None:
    now = NOON
    today = now.isoformat(timespec="milliseconds")
    amounts = [Decimal("0.000000000001"), Decimal("0.1"), Decimal("0.2")]
    await store.write_many(
        [a_record(f"dec-{i}", created_at=today, key="a", cost_usd=usd) for i, usd in enumerate(amounts)]
    )
    await store.write_many([a_record("old", created_at="2020-01-01T00:00:00.000+00:00", key="a", cost_usd=Decimal(9))])
    await store.write_many([a_record("other", created_at=today, key="b", cost_usd=Decimal(7))])
    await store.write_many([a_record("nobody", created_at=today)])
    worker = maintenance([{"name": "a", "usd_per_day": "1"}])
    worker.spending.note("a", now, Decimal("0.3"))  # written by this replica, and in the store by now
    await worker.refresh_spending()
    assert worker.spending.spent("a", now) == (sum(amounts), sum(amounts))
    assert worker.spending.spent("b", now)[0] == 7


async def test_sums_wait_while_records_do(maintenance: Keepers, a_record: Records) -> None:
    worker = maintenance([{"name": "a", "usd_per_day": "1"}])
    worker.refresh_s = 0.01
    now = NOON
    worker.sink.write(a_record(key="a"))
    worker.spending.note("a", now, Decimal("0.3"))
    await worker.refresh_spending()
    assert worker.spending.spent("a", now)[0] == Decimal("0.3")


async def test_sums_are_taken_while_requests_keep_coming(maintenance: Keepers, a_record: Records) -> None:
    """Under load a record is always on its way: what other replicas spent counts all the same."""
    worker = maintenance([{"name": "a", "usd_per_day": "1"}])
    now = NOON
    today = now.isoformat(timespec="milliseconds")
    await worker.store.write_many([a_record("elsewhere", created_at=today, key="a", cost_usd=Decimal("0.5"))])

    async def load() -> None:
        for i in range(10_000):
            worker.sink.write(a_record(f"dec-{i}", created_at=today, key="a", cost_usd=Decimal(0)))
            await asyncio.sleep(0.001)

    tasks = [asyncio.ensure_future(load()), asyncio.ensure_future(worker.sink.run())]
    async with asyncio.timeout(60):
        while not worker.sink.pending:
            await asyncio.sleep(0)
    await worker.refresh_spending()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert worker.spending.spent("a", now)[1] == Decimal("0.5")


async def test_without_budgets_no_amount_is_kept(maintenance: Keepers) -> None:
    worker = maintenance([{"name": "a"}])
    worker.spending.note("a", NOON, Decimal(1))
    await worker.refresh_spending()
    assert worker.spending.spent("a", NOON)[0] == 0


async def test_keys_come_and_go_while_running(maintenance: Keepers, tmp_path: Path) -> None:
    worker = maintenance([])
    write_keys(tmp_path / "k.yaml", [KeyConfig(name="late", sha256=key_hash("late"))])
    await worker.refresh_keys()
    assert worker.keyring.find("late") is not None


async def test_keys_that_came_went_and_changed_are_noted_once_without_their_hashes(
    maintenance: Keepers, tmp_path: Path
) -> None:
    replicas, path = [maintenance([]) for _ in range(2)], tmp_path / "k.yaml"
    kept, gone = (KeyConfig(name=name, sha256=key_hash(name)) for name in ("kept", "gone"))
    limited = kept.model_copy(update={"requests_per_min": 5, "sha256": key_hash("another")})
    for keys in ([kept, gone], [limited], [limited]):
        write_keys(path, keys)
        for worker in replicas:
            worker.audit_left = tmp_path / "audit"
            await worker.refresh_keys()
            await worker.deliver_audit()
    changed, made = sorted(await replicas[0].audit.entries(), key=lambda entry: "created" in entry.detail)
    assert sorted(made.detail["created"]) == ["gone", "kept"]
    assert changed.detail == {
        "revoked": ["gone"],
        "changed": {"kept": {"requests_per_min": [None, 5], "secret": "replaced"}},
    }
    assert (changed.actor, changed.action) == ("graph", "keys.in_force")
    assert kept.sha256 not in repr((made, changed))
