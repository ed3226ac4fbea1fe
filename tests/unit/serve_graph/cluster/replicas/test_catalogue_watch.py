"""A catalogue of intents in a running ingress: what it decides and says, and that its file is followed.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from router_models.types import Query
from router_models.types.coverage import Coverage
from serve_graph.cascade.fakes import ListSink
from serve_graph.cluster.replicas.nodes import node_local
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError
from serve_graph.policy import catalogue_watch
from serve_graph.policy.catalogue_watch import CatalogueWatch
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.serving_version import serving_version
from serve_graph.policy.validity import Validity
from serve_graph.records.explanation import sentences
from tests.fixtures.registry import echo_graph, sealed_version
from tests.fixtures.upstream import DirectHandle

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment

NOW = datetime.now(UTC)
REFUND, CHAT, OTHER = "I want my money back, please", "Hello, how are you?", "Name the capital of Peru."
INTENTS: dict[str, Any] = {
    "intents": [
        {"name": "refunds", "tier": "frontier", "examples": ["I want my money back"]},
        {"name": "chat", "tier": None, "examples": ["Hello, how are you"]},
    ]
}


def written(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


class Running:
    """An ingress over echo tiers, asked by HTTP."""

    def __init__(self, ingress: IngressDeployment, file: Path) -> None:
        self.ingress, self.file, self.sink = ingress, file, ListSink()
        ingress.service.sink = self.sink
        transport = httpx.ASGITransport(app=ingress.__serve_build_asgi_app__())
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    async def ask(self, prompt: str, **options: Any) -> httpx.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "serve_graph": options}
        return await self.client.post("/v1/chat/completions", json=body)

    async def edited(self, data: Any) -> None:
        """Change the file, and wait until it was looked at."""
        watch = self.ingress.catalogue
        assert watch is not None
        before = watch.catalogue, watch.fault
        written(self.file, data)
        await until(lambda: (watch.catalogue, watch.fault) != before and in_use(self.ingress))


def in_use(ingress: IngressDeployment) -> bool:
    held, watch = ingress.policies.held, ingress.catalogue
    assert held is not None
    assert watch is not None
    indexes = [one.version.catalogue for one in held.held.loaded.values()]
    return all(index is not None and index.catalogue is watch.catalogue for index in indexes)


async def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphConfig:
    monkeypatch.setattr(catalogue_watch, "CATALOGUE_LOOK_S", 0.02)
    return echo_graph(
        tmp_path, catalogue=written(tmp_path / "intents.yaml", INTENTS), placement="ingress", timeout_s=60
    )


@pytest.fixture
async def running(graph: GraphConfig, tmp_path: Path) -> AsyncIterator[Running]:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    version = ServedVersion.of(serving_version(graph, sealed_version(graph, tmp_path / "v", NOW)), graph, 1)
    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in graph.tiers}  # type: ignore[arg-type]
    made = IngressDeployment(graph, version, tiers, None, None, b"x" * 16)
    assert graph.policy.catalogue is not None
    yield Running(made, graph.policy.catalogue)
    assert made.policies.held is not None
    made.policies.held.following.cancel()
    made.sink.close()
    await made.store.close()


async def test_an_intent_decides_before_the_router_and_is_named(running: Running) -> None:
    refund, chat, other = [await running.ask(prompt) for prompt in (REFUND, CHAT, OTHER)]
    named = [(r.headers["x-serve-graph-tier"], r.headers.get("x-serve-graph-intent")) for r in (refund, chat, other)]
    assert named == [("frontier", "refunds"), ("cheap", "chat"), ("cheap", None)], "the router sends all to cheap"
    assert (refund.headers["x-serve-graph-layer"], refund.json()["serve_graph"]["intent"]) == ("semantic", "refunds")
    assert "cosine" not in refund.text, "scores are administrators'"

    found, _, plain = running.sink.records
    intent = found.evidence["intent"]
    assert (intent["layer"], intent["intent"], intent["tier"], intent["floor"]) == (
        "semantic",
        "refunds",
        "frontier",
        0.8,
    )
    assert 0.8 < intent["cosine"] <= 1
    assert found.route_reason.startswith("semantic: intent refunds, cosine 0.")
    assert any(line.startswith("Layer: semantic, intent: refunds, cosine 0.") for line in sentences(found, None))
    assert plain.evidence["intent"] == {"catalogue": intent["catalogue"], "layer": "router"}
    page = await running.ingress.graph_metrics.page()
    assert 'serve_graph_intent_requests_total{intent="refunds",tier="frontier"} 1.0' in page
    assert "serve_graph_catalogue_valid 1.0" in page


async def test_nothing_is_promised_beside_a_catalogue_that_was_not_certified(running: Running) -> None:
    for prompt in (REFUND, CHAT, OTHER):
        await running.ask(prompt)
    assert [record.evidence["promised"] for record in running.sink.records] == [None] * 3
    assert all("not certified with it" in record.evidence["not_promised"] for record in running.sink.records)
    floor = await running.ask(OTHER, quality_floor=0.5)
    assert floor.headers["x-serve-graph-tier"] == "frontier", "a floor is met by what is promised, or by the last tier"
    named = await running.client.post(
        "/v1/chat/completions", json={"model": "cheap", "messages": [{"role": "user", "content": REFUND}]}
    )
    assert named.headers["x-serve-graph-tier"] == "cheap", "a tier by name is asked for by name"

    await running.edited({"intents": [{**one, "tier": None} for one in INTENTS["intents"]]})
    assert (await running.ask(REFUND)).headers["x-serve-graph-intent"] == "refunds"
    assert running.sink.records[-1].evidence["promised"] == 0.9, "intents that send nothing anywhere void nothing"


async def test_an_edit_counts_at_once_and_a_broken_one_not_at_all(running: Running) -> None:
    assert (await running.ask(REFUND)).headers["x-serve-graph-tier"] == "frontier"
    cheap = {"intents": [{**INTENTS["intents"][0], "name": "money", "tier": "cheap"}]}
    await running.edited(cheap)
    assert (await running.ask(REFUND)).headers["x-serve-graph-intent"] == "money"

    for broken in ("intents: [", {"intents": [{**INTENTS["intents"][0], "tier": "gpt"}]}):
        await running.edited(broken)
        asked = await running.ask(REFUND)
        assert (asked.headers["x-serve-graph-tier"], asked.headers["x-serve-graph-intent"]) == ("cheap", "money")
        told = (await running.client.get("/readyz")).json()["catalogue"]
        assert str(running.file) in told["fault"]
        assert told["intents"] == ["money"]
        assert "serve_graph_catalogue_valid 0.0" in await running.ingress.graph_metrics.page()
    running.file.unlink()
    await until(lambda: "cannot read" in str(running.ingress.catalogue and running.ingress.catalogue.fault))
    assert (await running.ask(REFUND)).headers["x-serve-graph-intent"] == "money"

    await running.edited(INTENTS)
    assert (await running.client.get("/readyz")).json()["catalogue"]["fault"] is None
    assert (await running.ask(REFUND)).headers["x-serve-graph-intent"] == "refunds"


async def test_every_replica_follows_the_file_and_none_embeds_a_prompt_twice(
    graph: GraphConfig, tmp_path: Path
) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    files = VersionFiles("router/1", str(sealed_version(graph, tmp_path / "v", NOW)), Validity())
    replicas = [PolicyDeployment(files, catalogue=CatalogueWatch.of(graph)) for _ in range(2)]
    query = Query.from_prompt(REFUND)
    for replica in replicas:
        encoder = replica.held.loaded["router/1"].version.encoder
        calls, encode = [0], encoder.encode
        encoder.encode = lambda texts, at=calls, real=encode, **more: (at.append(len(texts)), real(texts, **more))[1]  # type: ignore[method-assign,assignment,misc]
        assert (await replica.decide(query, "router/1")).tier == "frontier"
        assert calls == [0, 1]
    assert graph.policy.catalogue is not None
    written(graph.policy.catalogue, {"intents": [{**INTENTS["intents"][0], "tier": "cheap"}]})
    for replica in replicas:
        ends = time.monotonic() + 20
        while (await replica.decide(query, "router/1")).tier != "cheap":
            assert time.monotonic() < ends
            await asyncio.sleep(0.02)
        replica.following.cancel()


async def test_a_promise_that_was_certified_beside_the_catalogue_holds(running: Running, graph: GraphConfig) -> None:
    held, watch = running.ingress.policies.held, running.ingress.catalogue
    assert held is not None
    assert watch is not None
    (name,) = held.held.loaded
    one = held.held.loaded[name]
    assert one.version.certificate is not None
    proof = replace(one.version.certificate, coverage=Coverage(catalogue=watch.catalogue.binding))
    held.held.loaded[name] = replace(one, version=replace(one.version, certificate=proof))
    for prompt in (OTHER, REFUND):
        await running.ask(prompt)
    other, refund = running.sink.records
    assert other.evidence["promised"] == 0.9
    assert refund.evidence["promised"] is None
    assert refund.evidence["not_promised"] == "not where the router sent it: the intent refunds"


def test_a_graph_does_not_start_with_a_broken_catalogue(tmp_path: Path) -> None:
    graph = echo_graph(tmp_path, catalogue=written(tmp_path / "intents.yaml", {"intents": [{"name": "x"}]}))
    with pytest.raises(ConfigError, match=r"policy\.catalogue: .*intents\.x\.tier"):
        CatalogueWatch.of(graph)
    assert CatalogueWatch.of(echo_graph(tmp_path)) is None


def test_several_nodes_have_it_alike(tmp_path: Path) -> None:
    graph = echo_graph(tmp_path, catalogue=tmp_path / "intents.yaml")
    assert "one node" in node_local(graph)["policy.catalogue"]
    assert "policy.catalogue" not in node_local(graph.model_copy(update={"shared_folders": (tmp_path,)}))


def test_a_description_is_another_file_and_the_same_catalogue(tmp_path: Path) -> None:
    graph = echo_graph(tmp_path, catalogue=written(tmp_path / "intents.yaml", INTENTS))
    watch = CatalogueWatch.of(graph)
    assert watch is not None
    assert not watch.look()
    written(tmp_path / "intents.yaml", {"intents": [{**one, "description": "words"} for one in INTENTS["intents"]]})
    assert not watch.look()
    assert watch.catalogue.intents[0].description == "words"
    written(tmp_path / "intents.yaml", {"intents": INTENTS["intents"][:1]})
    assert watch.look()
