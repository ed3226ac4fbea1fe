"""What somebody without a key learns from a graph that requires keys, on every route there is: that it is ready."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router_models.types.coverage import Coverage
from serve_graph.access.caller import Caller
from serve_graph.access.keys import key_hash
from serve_graph.access.refusals import RefusalDelays
from serve_graph.api.console.pages import SECTIONS
from serve_graph.api.readiness import readiness_for
from serve_graph.config.access import KeyConfig
from serve_graph.config.graph import GraphConfig

SECRETS = {"use": "sg-use", "admin": "sg-admin"}
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
PLANTED = {
    "version": "planted-router/7",
    "promise": "planted-epsilon-0.0731",
    "evidence": "planted-n-4242",
    "digest": "planted-digest",
    "first tier": "planted-cheap",
    "last tier": "planted-frontier",
    "model": "planted-model",
    "alias": "planted-alias",
    "key": "planted-key",
    "fault": "planted-fault",
    "folder": "planted-folder",
    "account": "refuse the tier's key",
}
FOR_ADMINS = {"fault", "account"}
BESIDE = ("/", "/docs", "/redoc", "/console", "/nowhere", "/v1/audit", "/v1/chat/completions/", "/anthropic/metrics")


class Replica:
    """A tier's handle: its API refuses the key, and whatever it is asked to generate fails."""

    def __getattr__(self, name: str) -> "Replica":
        return self

    def remote(self, *_: Any) -> Any:
        return asyncio.sleep(0, {"deployments_refusing": 1})


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.policy.served_policy import ServedPolicy
    from serve_graph.policy.served_version import ServedVersion

    names = PLANTED["first tier"], PLANTED["last tier"]
    tiers = [{"engine": "openai", "name": name, "model": PLANTED["model"], "price": PRICE} for name in names]
    keys = [{"name": f"{PLANTED['key']}-{s}", "sha256": key_hash(k), "scopes": [s]} for s, k in SECRETS.items()]
    config = GraphConfig.model_validate(
        {
            "tiers": tiers,
            "state_folder": tmp_path / PLANTED["folder"],
            "access": {"keys": keys},
            "policy": {"safe_tier": PLANTED["last tier"]},
            "models": {"aliases": {PLANTED["alias"]: "auto"}},
        }
    )
    promise = f"P(wrong) <= {PLANTED['promise']} (n {PLANTED['evidence']}, {PLANTED['fault']})"
    served = replace(
        ServedPolicy.of(None, PLANTED["version"], promise, config),
        coverage=Coverage(),
        headline=(f"ε = {PLANTED['promise']}, n = {PLANTED['evidence']}",),
        binds=PLANTED["digest"],
        prefixes={PLANTED["first tier"]: PLANTED["evidence"]},
    )
    handles: Any = dict.fromkeys(names, Replica())
    ingress = IngressDeployment(config, ServedVersion(1, served), handles, None, None, b"x" * 16)
    ingress.accounts.refusals = RefusalDelays(clock=itertools.count(step=60).__next__)  # no refusal waits
    yield ingress.__serve_build_asgi_app__()
    ingress.sink.close()
    await ingress.store.close()


async def said(app: FastAPI, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> str:
    """The whole reply: status, headers, body."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("203.0.113.7", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="https://llm.example") as client:
        reply = await client.request(method, path, headers=headers, content=body)
    return f"{reply.status_code} {reply.headers} {reply.text}"


def routes(app: FastAPI) -> list[str]:
    """Every path of the application with something in the place of its parameters."""
    paths = {getattr(route, "path", "") for route in app.routes} - {""}
    for parameter, value in {"{model:path}": "x", "{decision_id}": "dec-x", "{name}": "console.css"}.items():
        paths = {path.replace(parameter, value) for path in paths}
    return sorted(paths)


STRANGERS: list[dict[str, str]] = [
    {},
    {"authorization": "Bearer sg-wrong"},
    {"x-api-key": "sg-wrong", "anthropic-version": "2023-06-01"},
    {"origin": "https://page.example", "access-control-request-method": "POST", "x-serve-graph-tier": "x"},
]


async def test_a_stranger_learns_nothing_on_any_route_but_that_the_graph_is_ready(app: FastAPI) -> None:
    asked = [*routes(app), *BESIDE]
    assert {"/readyz", "/metrics", "/v1/models", "/v1/messages", "/v1/responses", "/openapi.json"} <= set(asked)
    answered = set()
    for path in asked:
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            for headers in STRANGERS:
                reply = await said(app, method, path, headers, b'{"model": ' if method == "POST" else None)
                assert {what for what, word in PLANTED.items() if word in reply} == set(), (method, path, reply)
                answered |= {path} if reply.startswith("2") else set()
    assert answered == {"/healthz", "/readyz", "/console/sign-in", "/console/static/console.css"}
    assert (await said(app, "GET", "/readyz")).endswith('{"status":"ready","ready":true}')


async def test_keys_are_told_what_concerns_them_and_administrators_everything(app: FastAPI) -> None:
    told = {}
    for scope, key in SECRETS.items():
        reply = "".join(
            [await said(app, "GET", path, {"authorization": f"Bearer {key}"}) for path in ("/readyz", "/v1/models")]
        )
        told[scope] = {what for what, word in PLANTED.items() if word in reply}
    assert told["admin"] - told["use"] == FOR_ADMINS
    assert told["admin"] == PLANTED.keys() - {"model", "key", "folder"}


async def test_the_console_of_the_graph_shows_every_page_to_administrators_alone(app: FastAPI) -> None:
    for path, _ in SECTIONS:
        assert (await said(app, "GET", path, {"authorization": "Bearer sg-admin"})).startswith("200 "), path
        assert (await said(app, "GET", path, {"authorization": "Bearer sg-use"})).startswith("403 "), path
        assert (await said(app, "GET", path)).startswith("401 "), path


def test_of_an_alarm_keys_are_told_that_it_stands_and_administrators_why() -> None:
    alarm = {"kind": "revoked", "scope": "a slice", "raised_at": "2026-03-01", "reason": "numbers", "acts": True}
    report = {"ready": True, "alarms": [alarm]}
    callers = {scope: Caller(KeyConfig(name="k", sha256="0" * 64, scopes=(scope,))) for scope in ("use", "admin")}  # type: ignore[arg-type]
    assert readiness_for(callers["use"], report)["alarms"] == [
        {"kind": "revoked", "raised_at": "2026-03-01", "acts": True}
    ]
    assert readiness_for(callers["admin"], report)["alarms"] == [alarm]
    assert "alarms" not in readiness_for(Caller(stranger=True), report)
