"""Experiment 15 on echo tiers: a label that revokes acts before its reply leaves, on other replicas within a poll."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.monitoring.promise_watch import WatchedPromise
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.config.graph import GraphConfig
from serve_graph.learning.alarm_table import AlarmTable
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.validity import Validity
from tests.fixtures.upstream import DirectHandle

BODY = {"model": "auto", "messages": [{"role": "user", "content": "one two"}]}
POLL_S = 0.1


@asynccontextmanager
async def replicas(folder: Path, count: int = 2) -> AsyncIterator[list[IngressDeployment]]:
    """Ingress replicas of one certified graph, with one store, each with its background work running."""
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    settings = {"feedback": {"label_share": 1.0}, "alarms": {"poll_s": POLL_S}, "access": {"open": True}}
    config = GraphConfig.model_validate({"tiers": tiers, "state_folder": folder, **settings})
    stage = Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)
    policy = Policy(config.tier_names, {"cheap": OperatingPoint(0.0, 0.5)})
    if not (folder / "version").exists():
        RouterVersion(policy, {"cheap": stage}).save(folder / "version")
    router: Any = DirectHandle(PolicyDeployment(VersionFiles("version/1", str(folder / "version"), Validity())))
    served = ServedPolicy.of(RouterVersion.load(folder / "version"), "version/1", "P(wrong) <= 0.1", config)
    served = replace(served, certified=True, promised=0.9, watched=WatchedPromise(0.1))
    handles: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    made = [
        IngressDeployment(config, ServedVersion(1, served), handles, router, router, b"x" * 16) for _ in range(count)
    ]
    running = [asyncio.ensure_future(ingress.background()) for ingress in made]
    try:
        yield made
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for ingress in made:
            ingress.sink.close()
            await ingress.store.close()


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_a_stream_of_labels_revokes_within_one_decision_here_and_within_a_poll_elsewhere(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (here, there):
        apps = [ingress.__serve_build_asgi_app__() for ingress in (here, there)]
        async with client(apps[0]) as at, client(apps[1]) as elsewhere:
            tier, labels = "cheap", 0
            while tier == "cheap" and labels < 60:
                asked = await at.post("/v1/chat/completions", json=BODY)
                tier = asked.headers["x-serve-graph-tier"]
                if tier == "cheap":
                    label = {"decision": asked.headers["x-serve-graph-decision"], "kind": "label"}
                    said = await at.post("/v1/feedback", json={**label, "value": labels < 15})  # then all goes wrong
                    assert said.status_code == 200
                    labels += 1
                    assert (here.serving.certificate_status.revoked is None) == (not here.serving.alarms.standing)
            assert 17 <= labels <= 35
            # the very next decision after the label that revoked went to the last tier: `tier` is of that decision
            told = time.monotonic()
            while (await elsewhere.post("/v1/chat/completions", json=BODY)).headers["x-serve-graph-tier"] == "cheap":
                assert time.monotonic() - told < 20
                await asyncio.sleep(0.02)
            while not (ready := (await elsewhere.get("/readyz")).json())["alarms"]:  # it acts first
                assert time.monotonic() - told < 20
                await asyncio.sleep(0.02)
            assert ready["certified"] is False
            assert ready["promise"].startswith(("revoked by labels", "drift by labels"))
            assert {alarm["scope"] for alarm in ready["alarms"]} == {"overall"}
            metrics = (await at.get("/metrics")).text
            assert "serve_graph_certificate_revoked 1.0" in metrics
            assert 'serve_graph_certificate_valid{certificate="answers"} 0.0' in metrics
            assert f"serve_graph_alarm_labels {labels}.0" in metrics
            decision = asked.headers["x-serve-graph-decision"]
            await asyncio.sleep(0.3)
            page = (await at.get(f"/v1/decisions/{decision}")).json()
            assert page["evidence"]["promised"] is None
            await AlarmTable(here.store).lift("version/1", "ann", "a test", "2999-01-01T00:00:00.000+00:00")
            for ingress in (here, there):
                await ingress.serving.alarms.look()
            assert (await at.post("/v1/chat/completions", json=BODY)).headers["x-serve-graph-tier"] == "cheap"


async def test_a_replica_that_starts_on_a_revoked_version_never_tries_the_cheap_tier(tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as (first,), client(first.__serve_build_asgi_app__()) as at:
        for _ in range(30):
            asked = await at.post("/v1/chat/completions", json=BODY)
            label = {"decision": asked.headers["x-serve-graph-decision"], "kind": "label", "value": "wrong"}
            await at.post("/v1/feedback", json=label)
            if first.serving.certificate_status.revoked:
                break
    async with replicas(tmp_path, 1) as (second,):
        assert second.serving.certificate_status.revoked is not None
        async with client(second.__serve_build_asgi_app__()) as at:
            asked = await at.post("/v1/chat/completions", json=BODY)
            assert asked.headers["x-serve-graph-tier"] == "frontier"


@pytest.fixture(autouse=True)
async def _threads(sqlite_threads_end: None) -> None:
    return None
