"""What administrators read of callers is written down before it is shown, and listed to administrators alone."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_graph.access.keys import Keyring, key_hash
from serve_graph.api.http import Backend, build_http
from serve_graph.config.access import KeyConfig
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

Ask = Callable[..., Any]


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    yield AuditLog(store)
    await store.close()


@pytest.fixture
def ask(log: AuditLog, endpoint: Callable[..., Any], a_record: Callable[..., Any]) -> Ask:
    """Get a path with a key, of which there are `boss` (admin) and `team`; the store holds `dec-1`, of `team`."""
    at = endpoint()
    at.sink.records.append(a_record(key="team", prompt="my secret prompt"))
    scopes = {"boss": ["admin"], "team": ["use"]}
    keys = [KeyConfig.model_validate({"name": n, "sha256": key_hash(n), "scopes": s}) for n, s in scopes.items()]

    async def nothing(*_: Any) -> Any:
        return None

    backend = Backend(at.service, at._find, nothing, nothing, nothing, 4096, audit=log)
    apps = {bool(ring.keys): build_http(replace(backend, keyring=ring)) for ring in (Keyring(keys), Keyring())}

    async def get(path: str, key: str | None = "boss", **asked: Any) -> httpx.Response:
        transport = httpx.ASGITransport(apps[key is not None], raise_app_exceptions=False, client=("127.0.0.1", 1))
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers, params=asked)

    return get


async def test_reading_a_decision_is_written_down_with_whose_it_was(ask: Ask, log: AuditLog) -> None:
    assert (await ask("/v1/decisions/dec-1")).json()["prompt"] == "my secret prompt"
    assert (await ask("/decisions/dec-1/", key=None)).status_code == 200
    for refused in (await ask("/v1/decisions/dec-1", key="team"), await ask("/v1/decisions/dec-9")):
        assert refused.status_code in (403, 404)
    unkeyed, read = await log.entries()
    assert (read.actor, read.action, read.target, read.detail) == (
        "key:boss", "decisions.read", "dec-1", {"key": "team"},
    )  # fmt: skip
    assert unkeyed.actor == "anyone"
    assert "secret" not in repr(read)


async def test_administrators_list_the_log_and_that_is_written_down_too(ask: Ask) -> None:
    await ask("/v1/decisions/dec-1")
    await ask("/metrics")  # nothing of callers' words: no entry
    listed = (await ask("/v1/audit", action="decisions", since="2026-01-01", limit="5")).json()
    assert [entry["action"] for entry in listed["data"]] == ["decisions.read"]
    both = (await ask("/audit")).json()["data"]
    assert [entry["action"] for entry in both] == ["audit.read", "audit.read", "decisions.read"]
    assert both[1]["detail"] == {"action": "decisions", "since": "2026-01-01", "limit": "5"}
    assert (await ask("/v1/audit", since="2999-01-01T00:00:00+02:00")).json()["data"] == []
    for path in ("/v1/audit", "/audit", "/v1//audit/", "/openai/v1/audit"):
        assert (await ask(path, key="team")).status_code == 403
        assert (await ask(path, key="wrong")).status_code == 401


@pytest.mark.parametrize(
    "asked",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"limit": "٣"}, {"limit": "1e9"}, {"since": "soon"},
     {"since": "0001-01-01T00:00:00+23:00"}, {"target": "a\0b"}],
    ids=str,
)  # fmt: skip
async def test_a_filter_that_is_none_is_refused_in_openais_shape(ask: Ask, asked: dict[str, str]) -> None:
    refused = await ask("/v1/audit", **asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_what_cannot_be_written_down_is_not_shown(ask: Ask, log: AuditLog, tmp_path: Path) -> None:
    log.store.url = f"sqlite+aiosqlite:///{tmp_path / 'no such folder' / 'd.db'}"
    refused = await ask("/v1/decisions/dec-1")
    assert refused.status_code == 503
    assert "secret" not in refused.text
