"""An ingress replica that is stopped: what it answered is in the store, where that can be had."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Router

from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.records.spool.spooled_sink import LAST_S, SpooledSink
from serve_graph.records.store import DecisionStore
from tests.fixtures.upstream import DirectHandle

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def ingress_of(folder: Path, **settings: Any) -> IngressDeployment:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    graph = GraphConfig.model_validate({"tiers": tiers, "state_folder": folder, "access": {"open": True}, **settings})
    handles: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in graph.tiers}  # type: ignore[arg-type]
    begun = ServedVersion(1, ServedPolicy.of(None, NONE, "none", graph))
    return IngressDeployment(graph, begun, handles, None, None, b"x" * 16)


async def answer_and_stop(ingress: IngressDeployment, questions: int) -> float:
    """Answer, and end as Ray Serve ends a replica: by its application's lifespan; returns how long that took."""
    app = ingress.__serve_build_asgi_app__()
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
    loop = asyncio.get_running_loop()
    routes: Router = app.router
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        routes.lifespan_context(app),
    ):
        for n in range(questions):
            body = {"model": "cheap", "messages": [{"role": "user", "content": f"question {n}"}]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        began = loop.time()
    return loop.time() - began


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_what_a_replica_answered_is_in_the_store_when_it_has_stopped(tmp_path: Path) -> None:
    """Its node may go with it, and the spool on it."""
    ingress = ingress_of(tmp_path)
    await answer_and_stop(ingress, 7)
    assert ingress.sink.pending == 0
    assert await ingress.store.count() == 7
    ingress.sink.close()
    await ingress.store.close()


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_a_store_that_is_away_does_not_hold_a_stop_up_and_the_next_process_has_its_records(
    tmp_path: Path,
) -> None:
    nowhere = tmp_path / "not-there-yet"
    ingress = ingress_of(tmp_path, records={"url": f"sqlite+aiosqlite:///{nowhere / 'x.db'}"})
    assert await answer_and_stop(ingress, 7) < LAST_S + 5
    assert ingress.sink.pending == 7
    ingress.sink.close()
    nowhere.mkdir()
    store = DecisionStore(ingress.store.url)
    heir = SpooledSink(store, tmp_path / "spool")
    assert await heir.drain() == 7
    assert await store.count() == 7
    heir.close()
    await store.close()
