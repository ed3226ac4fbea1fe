"""Events of MLflow's registry: taken where they are signed as MLflow signs them, and then the graph looks at once."""

import asyncio
import importlib
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serve_graph.access.auth import EVENTS
from serve_graph.errors import AuthenticationError
from serve_graph.policy.registry_events import FRESH_S, MOST_EVENT_BYTES, RegistryEvents

SECRET, NOW = "a secret of two", 1_800_000_000
BODY = '{"entity": "model_version_tag", "action": "set", "data": {"name": "serve-graph-router"}}'


def signed(body: str = BODY, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    """Headers as MLflow makes them, by its own code."""
    delivery = importlib.import_module("mlflow.webhooks.delivery")
    made = delivery._generate_hmac_signature(secret, "one", str(int(at)), body)
    return {"x-mlflow-signature": made, "x-mlflow-timestamp": str(int(at)), "x-mlflow-delivery-id": "one"}


class Told:
    """Who is told that the registry has changed."""

    def __init__(self) -> None:
        self.times = 0
        self.events = RegistryEvents(SECRET, self.changed, lambda: NOW)

    async def changed(self) -> None:
        self.times += 1


async def test_an_event_that_mlflow_signed_is_passed_on() -> None:
    told = Told()
    await told.events.take(signed(), BODY.encode())
    assert told.times == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (signed(secret="another"), BODY),
        (signed(), BODY.replace("set", "deleted")),
        (signed() | {"x-mlflow-delivery-id": "two"}, BODY),
        (signed() | {"x-mlflow-timestamp": str(NOW + 1)}, BODY),
        (signed(at=NOW - FRESH_S - 1), BODY),
        (signed(at=NOW + FRESH_S + 1), BODY),
        (signed() | {"x-mlflow-signature": "v1,\udcff"}, BODY),
    ],
    ids=["unsigned", "other secret", "other body", "other delivery", "other time", "old", "to come", "no text"],
)
async def test_what_is_not_signed_so_tells_nobody(headers: dict[str, str], body: str) -> None:
    told = Told()
    with pytest.raises(AuthenticationError):
        await told.events.take(headers, body.encode())
    assert told.times == 0


async def test_the_route_asks_for_a_signature_and_for_no_key(endpoint: Callable[..., Any]) -> None:
    told = Told()
    at = endpoint(secrets=("ann",), registry_events=told.events)
    async with at.client() as client:
        taken = await client.post(EVENTS, content=BODY, headers=signed())
        assert (taken.status_code, told.times) == (200, 1)
        for content, headers in ((BODY, {}), (BODY + " ", signed()), (" " * (MOST_EVENT_BYTES + 1), signed())):
            refused = await client.post(EVENTS, content=content, headers=headers)
            assert refused.status_code in (401, 413)
            assert SECRET not in refused.text
        assert (await client.get(EVENTS)).status_code in (404, 405)
        assert (await client.post("/v1/chat/completions", json={})).status_code == 401
    assert told.times == 1


async def test_without_a_secret_there_is_no_such_route(endpoint: Callable[..., Any]) -> None:
    async with endpoint().client() as client:
        assert (await client.post(EVENTS, content=BODY, headers=signed())).status_code == 404


async def test_a_real_webhook_of_mlflow_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent by MLflow's own delivery over HTTP; its guard against private addresses is told that this one is meant."""
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    delivery, entities = (
        importlib.import_module(f"mlflow.{name}") for name in ("webhooks.delivery", "entities.webhook")
    )
    heard: list[int] = []
    told = Told()
    told.events.clock = time.time

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        given = httpx.Headers(headers)
        body = await reader.readexactly(int(given["content-length"]))
        await told.events.take(given, body)
        heard.append(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    event = entities.WebhookEvent(entities.WebhookEntity.MODEL_VERSION_TAG, entities.WebhookAction.SET)
    hook = entities.Webhook("id", "graph", f"http://127.0.0.1:{port}{EVENTS}", [event], 0, 0, secret=SECRET)
    payload = {"name": "serve-graph-router", "version": "2", "key": "review", "value": "approved"}
    sent = await asyncio.to_thread(
        delivery._send_webhook_request, hook, payload, event, delivery._create_webhook_session()
    )
    server.close()
    assert (sent.status_code, told.times, len(heard)) == (200, 1, 1)
