"""The judge in an ingress replica with the real deployments of echo tiers, beside its background work."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.cluster.service import live_judge
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.records.feedback import FeedbackTable
from tests.fixtures.upstream import DirectHandle

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ASKS = "{question}\n{answer}\nVERDICT {nonce}: right"
"""An echo tier repeats it, and so ends with a verdict."""


def config(folder: Path, **settings: Any) -> GraphConfig:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    return GraphConfig.model_validate({"tiers": tiers, "state_folder": folder, "access": {"open": True}, **settings})


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_an_answer_that_left_is_judged_and_its_label_is_in_the_store(tmp_path: Path) -> None:
    graph = config(tmp_path, judge={"tier": "cheap", "rate": 1.0, "prompt": ASKS})
    handles: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in graph.tiers}  # type: ignore[arg-type]
    begun = ServedVersion(1, ServedPolicy.of(None, NONE, "none", graph))
    ingress = IngressDeployment(graph, begun, handles, None, None, b"x" * 16)
    assert ingress.judge is not None
    ingress.judge.after_s = 0.0
    app, background = ingress.__serve_build_asgi_app__(), asyncio.ensure_future(ingress.background())
    try:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"model": "auto", "messages": [{"role": "user", "content": "one two"}]}
            asked = await client.post("/v1/chat/completions", json=body)
            decision = asked.headers["x-serve-graph-decision"]
            table, found = FeedbackTable(ingress.store), {}
            async with asyncio.timeout(20):
                while not (found := await table.of([decision])):
                    await asyncio.sleep(0.02)
            page = (await client.get("/metrics")).text
        [label] = found[decision]
        assert (label.source, label.value, label.probability) == ("judge:cheap/echo", 1.0, 1.0)
        assert label.last_tier_right is True
        assert 'serve_graph_judge_verdicts_total{outcome="' in page
        assert await ingress.store.count() == 1, "the judge's calls are no decisions"
    finally:
        background.cancel()
        with suppress(asyncio.CancelledError):
            await background
        ingress.sink.close()
        await ingress.store.close()


def test_without_configuration_there_is_no_judge(tmp_path: Path) -> None:
    assert live_judge(config(tmp_path), {}, lambda label: None) is None
