"""`doctor` says whether the decision store and the collector of spans can be reached, and changes neither."""

from __future__ import annotations

import socket
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.local.doctor import _collector, _finding, _store
from serve_graph.config.graph import GraphConfig
from serve_graph.config.prices import PriceConfig
from serve_graph.config.records import TracingConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.errors import ServeGraphError
from serve_graph.records.migrations.migrate import HEAD
from serve_graph.records.store import DecisionStore


def graph(**fields: Any) -> GraphConfig:
    price = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
    tier = EchoTierConfig(name="cheap", engine="echo", price=price)
    return GraphConfig.model_validate({"tiers": (tier,), "policy": {"safe_tier": "cheap"}} | fields)


def of(path: Path) -> GraphConfig:
    return graph(records={"url": f"sqlite:///{path}"})


async def made(path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{path}")
    await store.open()
    await store.close()


def test_a_store_of_this_release(tmp_path: Path) -> None:
    import asyncio

    asyncio.run(made(tmp_path / "d.db"))
    assert _store(of(tmp_path / "d.db")) == f"answers; its schema is this release's ({HEAD})"


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert _store(of(tmp_path / "d.db")) == f"there is none; it is made at start, in {tmp_path}"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ServeGraphError, match="there is no folder"):
        _store(of(tmp_path / "no" / "d.db"))


def test_an_empty_store_is_said_to_be_one_and_stays_so(tmp_path: Path) -> None:
    (tmp_path / "d.db").touch()
    assert "is at none, and is brought to" in _store(of(tmp_path / "d.db"))
    with sqlite3.connect(tmp_path / "d.db") as opened:
        assert opened.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    import asyncio

    asyncio.run(made(tmp_path / "d.db"))
    with sqlite3.connect(tmp_path / "d.db") as opened:
        opened.execute("UPDATE serve_graph_alembic_version SET version_num = '9999'")
    with pytest.raises(ServeGraphError, match="of a newer release"):
        _store(of(tmp_path / "d.db"))


def test_a_store_that_is_away_is_named_without_its_address() -> None:
    away = graph(records={"url": "postgresql://somebody:secret@127.0.0.1:9/x"})
    found = _finding("decision store", lambda: _store(away))
    assert not found.ok
    assert "cannot be reached" in found.detail
    assert "secret" not in found.detail


def test_a_collector_that_listens_and_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        said = _collector(TracingConfig(otlp_endpoint=url.replace("://", "://somebody:hidden@")))
        assert said == f"{url}/v1/traces, 100% of requests", "a password in the address is nobody's to read"
    with pytest.raises(ServeGraphError, match="nothing takes spans"):
        _collector(TracingConfig(otlp_endpoint=url))
    with pytest.raises(ServeGraphError, match="otlp_endpoint: Port out of range"):
        _collector(TracingConfig(otlp_endpoint="http://collector:99999"))
