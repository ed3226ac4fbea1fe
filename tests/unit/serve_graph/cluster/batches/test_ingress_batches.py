"""Batches as an ingress replica has them: its own application, worker, store and metrics, over real echo tiers.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.registry import echo_graph
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, OPEN_STATUSES, jsonl, line

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment


def ingress_of(folder: Path, **changes: Any) -> IngressDeployment:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.config.records import BatchesConfig
    from serve_graph.policy.served_policy import ServedPolicy
    from serve_graph.policy.served_version import NONE, ServedVersion

    batches = BatchesConfig.model_validate(changes)
    config = echo_graph(folder).model_copy(update={"state_folder": folder, "batches": batches})
    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    begun = ServedVersion(0, ServedPolicy.of(None, NONE, "no version", config))
    return IngressDeployment(config, begun, tiers, None, None, b"x" * 16)


@pytest.fixture
async def ingress(tmp_path: Path) -> AsyncIterator[IngressDeployment]:
    made = ingress_of(tmp_path)
    background = asyncio.create_task(made.background())
    yield made
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    made.sink.close()
    await made.store.close()


async def test_a_batch_runs_in_the_replica_with_records_in_its_store(
    ingress: IngressDeployment, tmp_path: Path
) -> None:
    transport = httpx.ASGITransport(app=ingress.__serve_build_asgi_app__(), client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client, asyncio.timeout(60):
        content = jsonl(*(line(n) for n in range(6)))
        sent = {"files": {"file": ("in.jsonl", content)}, "data": {"purpose": "batch"}}
        file = (await client.post("/v1/files", **sent)).json()
        body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = (await client.post("/v1/batches", json=body)).json()
        while batch["status"] in OPEN_STATUSES:
            await asyncio.sleep(0.05)
            batch = (await client.get(f"/v1/batches/{batch['id']}")).json()
        assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 6)
        text = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text
        rows = [json.loads(row)["response"] for row in text.splitlines()]
        for row in rows:
            decision = row["body"]["serve_graph"]["decision"]
            while (found := await ingress.store.get(decision)) is None:
                await asyncio.sleep(0.05)
            assert found.evidence["request_id"] == row["request_id"]
        families = {sample.name: sample.value for family in ingress._families() for sample in family.samples}
    assert families["serve_graph_batch_lines_total"] == 6
    assert {path.name for path in (tmp_path / "files").iterdir()} == {file["id"], batch["output_file_id"]}


async def test_requests_in_the_background_have_the_replicas_places(ingress: IngressDeployment) -> None:
    ingress.accounts.traffic.under_way += 1
    async with ingress.accounts.background_place(), asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), ingress.accounts.background_place():
                pass
        ingress.accounts.traffic.under_way -= 1
        async with ingress.accounts.background_place():  # a moment later there are more
            pass


async def test_where_batches_are_off_there_are_no_routes(tmp_path: Path) -> None:
    made = ingress_of(tmp_path, enabled=False)
    transport = httpx.ASGITransport(app=made.__serve_build_asgi_app__(), client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/v1/batches")).status_code == 404
    assert not (tmp_path / "files").exists()
    made.sink.close()
    await made.store.close()
