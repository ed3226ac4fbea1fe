"""The endpoint behind keys, and the code of an error."""

from datetime import UTC, datetime
from typing import Any

import httpx

from serve_graph.access.accounts import AccountingSink, Accounts
from serve_graph.access.keys import Keyring, key_hash
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import ListSink, fake_context
from serve_graph.config.access import EscalationWatchConfig, KeyConfig
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.records.metrics import render_metrics

HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
ELSEWHERE = ("203.0.113.7", 50_000)


class Guarded:
    """The endpoint with keys, whose secrets are their names; its clock stands still until told."""

    def __init__(
        self,
        keys: list[dict[str, Any]],
        watch: EscalationWatchConfig | None = None,
        is_open: bool = False,
        **fakes: Any,
    ) -> None:
        self.now = 0.0
        self.sink = ListSink()
        made = [KeyConfig.model_validate({"sha256": key_hash(key["name"]), **key}) for key in keys]
        keyring = Keyring(made)
        self.accounts = Accounts(watch, lambda: self.now, lambda: datetime(2026, 3, 15, 12, tzinfo=UTC))
        sink = AccountingSink(self.sink, self.accounts, keyring.named)
        self.service = Service(fake_context(**fakes), sink, routing=RoutingContext(certified=0.9))
        backend = Backend(
            self.service,
            self.find,
            self.ready,
            self.metrics,
            self.nothing,
            4096,
            keyring=keyring,
            accounts=self.accounts,
            is_open=is_open,
        )
        self.app = build_http(backend)

    async def ask(
        self, key: str | None, path: str = "/v1/chat/completions", body: Any = HELLO, **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=ELSEWHERE)
        shown = {} if key is None else {"authorization": f"Bearer {key}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=shown | named) as client:
            return await (
                client.post(path, json=body)
                if path.endswith(("completions", "embeddings", "messages"))
                else client.get(path)
            )

    async def find(self, decision_id: str) -> Any:
        return next((record for record in self.sink.records if record.id == decision_id), None)

    async def ready(self) -> dict[str, Any]:
        return {"ready": True, "coverage": self.service.metrics.coverage()}

    async def metrics(self) -> str:
        return render_metrics(self.service.metrics, 0, {}, self.accounts.watch.caps)

    async def nothing(self) -> None:
        return None


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error
