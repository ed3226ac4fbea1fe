"""A console over a graph of fakes and an SQLite store of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router_models.types import DecisionRecord
from serve_graph.access.accounts import Accounts
from serve_graph.access.console.sessions import ConsoleSessions
from serve_graph.access.keys import Keyring, key_hash
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import ListSink, fake_context
from serve_graph.config.access import KeyConfig
from serve_graph.gateway.handler import Service
from serve_graph.learning.feedback import FeedbackIntake
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
PAGE = {"accept": "text/html"}


@dataclass
class ConsoleAt:
    """A console, and a browser that keeps its cookies."""

    store: DecisionStore
    parts: ConsoleParts
    service: Service
    keyring: Keyring
    written: list[Feedback] = field(default_factory=list)
    is_open: bool = False
    console: bool = True
    cors: Any = None

    def app(self) -> FastAPI:
        more = {} if self.cors is None else {"cors": self.cors}
        return build_http(
            Backend(
                self.service,
                self.store.get,
                self.parts.readiness,
                self._nothing,
                self._until_closed,
                1 << 20,
                keyring=self.keyring,
                accounts=Accounts(),
                is_open=self.is_open,
                audit=self.parts.audit,
                console=self.parts if self.console else None,
                **more,
            )
        )

    def browser(self, host: str = "http://localhost:8000", caller: str = "127.0.0.1") -> httpx.AsyncClient:
        app = self.app()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(caller, 50_000))
        return httpx.AsyncClient(transport=transport, base_url=host, headers=PAGE)

    async def sign_in(self, browser: httpx.AsyncClient, key: str = "boss", **fields: str) -> httpx.Response:
        fields = {"form": self.parts.sessions.form_token(""), "key": key, **fields}
        return await browser.post("/console/sign-in", data=fields)

    async def shown(self, path: str, **headers: str) -> str:
        """A page as an administrator sees it, whole."""
        async with self.browser() as browser:
            reply = await browser.get(path, headers={"authorization": "Bearer boss", **headers})
        assert reply.status_code == 200, reply.text
        return reply.text

    async def _nothing(self) -> Any:
        return ""

    async def _until_closed(self) -> None:
        """What runs beside a server: it closes the store where it was opened."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.store.close()


def console_over(store: DecisionStore, *, keys: bool = True, state: Any = None, **settings: Any) -> ConsoleAt:
    """A console over a store, with the keys `boss` (admin) and `team`, each named as it is, or none."""
    scopes = {"boss": ("use", "admin"), "team": ("use",)} if keys else {}
    listed = [KeyConfig(name=name, sha256=key_hash(name), scopes=of) for name, of in scopes.items()]  # type: ignore[arg-type]
    keyring = Keyring(listed)
    service = Service(fake_context(), ListSink())
    table = FeedbackTable(store)
    written: list[Feedback] = []
    parts = ConsoleParts(
        ConsoleSessions(b"s" * 16, keyring),
        Accounts().refusals,
        store,
        service,
        settings.pop("served", lambda: _served(service)),
        lambda: _given({"ready": True} | (state or {})),
        AuditLog(store),
        FeedbackIntake(store.get, written.append, said=table.of, looks_s=(0.0,)),
        now=lambda: NOW,
    )
    own = {name: settings.pop(name) for name in list(settings) if name in ConsoleAt.__dataclass_fields__}
    return ConsoleAt(store, replace(parts, **settings), service, keyring, written, **own)


@pytest.fixture
async def console(
    tmp_path: Path, new_store: Callable[[Path], str]
) -> AsyncIterator[Callable[..., Awaitable[ConsoleAt]]]:
    """Make a console with the keys `boss` (admin) and `team`, each named as it is; `records` are in its store."""
    stores = []

    async def make(
        records: list[DecisionRecord] | None = None, *, keys: bool = True, state: Any = None, **settings: Any
    ) -> ConsoleAt:
        file = tmp_path / "decisions.db"
        store = DecisionStore(f"sqlite+aiosqlite:///{file}" if file.exists() else new_store(file))
        stores.append(store)
        await store.open()
        await store.write_many(records or [])
        return console_over(store, keys=keys, state=state, **settings)

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
def ago() -> Callable[..., str]:
    """A moment before now, as records write it; keywords are timedelta's."""
    return lambda **length: (NOW - timedelta(**length)).isoformat(timespec="milliseconds")


def _served(service: Service) -> ServedPolicy:
    return ServedPolicy(service.context.policy, "fake/1", "nothing: for tests", False, "digest")


async def _given(value: dict[str, Any]) -> dict[str, Any]:
    return value
