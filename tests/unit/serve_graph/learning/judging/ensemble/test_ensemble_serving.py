"""An ensemble in an ingress replica, from its configuration to HTTP, over the real deployments of echo tiers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from router_models.pricing.prices import Price
from router_models.types import Query, Usage
from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.ingress_deployment import IngressDeployment
from serve_graph.cluster.service import live_ensemble
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import NONE, ServedVersion
from tests.fixtures.upstream import DirectHandle

pytestmark = pytest.mark.usefixtures("sqlite_threads_end")
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ASKS = "Q: {question}\n{first}\n{second}\nVERDICT {nonce}: second"
"""An echo tier repeats it: whoever stands second is right alone, in whatever order."""


class PrefersDeployment(EchoDeployment):
    """A judge that finds the frontier's answer right alone; it keeps what it read."""

    read: list[str] = []  # noqa: RUF012 (of one test)

    async def generate(self, body: dict[str, Any], *given: Any, **carried: Any) -> dict[str, Any]:
        reply = await super().generate(body, *given, **carried)
        message = reply["choices"][0]["message"]
        if "VERDICT" in message["content"]:
            asked = message["content"]
            last_is_second = asked.index("echo cheap: 2 + 2?") < asked.index("echo frontier: 2 + 2?")
            message["content"] = asked if last_is_second else asked.removesuffix("second") + "first"
        return reply


def graph_of(folder: Path, ensemble: dict[str, Any], **settings: Any) -> GraphConfig:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    return GraphConfig.model_validate(
        {
            "tiers": tiers,
            "state_folder": folder,
            "access": {"open": True},
            "policy": {"ensemble": ensemble},
            **settings,
        }
    )


@asynccontextmanager
async def serving(
    graph: GraphConfig, judge: Callable[[Any], Any] = EchoDeployment
) -> AsyncIterator[tuple[IngressDeployment, httpx.AsyncClient]]:
    ensemble = graph.policy.ensemble
    kinds = {ensemble.judge: judge} if ensemble is not None else {}
    handles: Any = {one.name: DirectHandle(kinds.get(one.name, EchoDeployment)(one)) for one in graph.every_tier}
    ingress = IngressDeployment(
        graph, ServedVersion(1, ServedPolicy.of(None, NONE, "none", graph)), handles, None, None, b"x" * 16
    )
    app, background = ingress.__serve_build_asgi_app__(), asyncio.ensure_future(ingress.background())
    try:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield ingress, client
    finally:
        background.cancel()
        with suppress(asyncio.CancelledError):
            await background
        ingress.sink.close()
        await ingress.store.close()


async def asked(client: httpx.AsyncClient, content: str = "2 + 2?", **fields: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": content}], **fields}
    return await client.post("/v1/chat/completions", json=body)


async def recorded(ingress: IngressDeployment, reply: httpx.Response) -> Any:
    async with asyncio.timeout(20):
        while (found := await ingress.store.get(reply.headers["x-serve-graph-decision"])) is None:
            await asyncio.sleep(0.02)
    return found


async def test_a_tier_picks_and_the_record_is_in_the_store_with_the_whole_bill(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        {"share": 1.0, "judge": "frontier"},
        judge={"tier": "cheap", "rate": 0, "mode": "pairwise", "prompt": ASKS},
    )
    async with serving(graph, PrefersDeployment) as (ingress, client):
        reply = await asked(client)
        record, page = await recorded(ingress, reply), (await client.get("/metrics")).text
    assert reply.json()["choices"][0]["message"]["content"] == "echo frontier: 2 + 2?"
    assert reply.headers["x-serve-graph-outcome"] == record.outcome == "ensemble"
    assert reply.json()["serve_graph"]["picked_by"] == "judge:frontier/echo"
    assert record.evidence["ensemble"].items() >= {"picked": "frontier", "tie": False, "sure": 1.0}.items()
    lines = [(line.tier, line.what) for line in record.bill if line.usage.prompt_tokens]
    assert sorted(lines) == [
        ("cheap", "attempt"), ("frontier", "answer"), ("frontier", "picking"), ("frontier", "picking"),
    ]  # fmt: skip
    assert record.cost_usd == sum(line.cost_usd for line in record.bill) > 0
    assert 'serve_graph_ensemble_draws_total{result="picked"} 1.0' in page
    assert 'serve_graph_requests_total{outcome="ensemble"' in page
    assert (tmp_path / "ensemble.json").is_file()


def test_a_long_question_of_ones_own_is_held_of_the_days_budget(tmp_path: Path) -> None:
    own = "Grade with care. " * 10_000
    judge = {"tier": "cheap", "rate": 0, "mode": "pairwise", "prompt": own + ASKS}
    ensemble = live_ensemble(graph_of(tmp_path, {"share": 1.0, "judge": "frontier"}, judge=judge))
    assert ensemble is not None
    price = Price(Decimal(PRICE["input_usd_per_mtok"]), Decimal(PRICE["output_usd_per_mtok"]))
    read_twice = price.cost(Usage(2 * len(own.split()), 0))
    assert ensemble.most_usd(Query.from_prompt("2 + 2?"))["frontier"] > read_twice > 0


async def test_a_judge_that_prefers_a_place_is_a_tie(tmp_path: Path) -> None:
    judge = {"tier": "cheap", "rate": 0, "mode": "pairwise", "prompt": ASKS}
    async with serving(graph_of(tmp_path, {"share": 1.0, "judge": "frontier"}, judge=judge)) as (ingress, client):
        record = await recorded(ingress, await asked(client))
    assert record.evidence["ensemble"].items() >= {"picked": "cheap", "tie": True, "sure": 0.5}.items()


async def test_a_verifier_model_of_the_graph_picks_or_fails_and_the_policy_answers(tmp_path: Path) -> None:
    critic = {"engine": "echo", "name": "critic", "price": PRICE}
    graph = graph_of(tmp_path, {"share": 1.0, "judge": "reward:critic"}, verifiers=[critic])
    async with serving(graph) as (ingress, client):
        record = await recorded(ingress, await asked(client))
        failed = await recorded(ingress, reply := await asked(client, "2 + 2? [critic:fail]"))
        down = await recorded(ingress, other := await asked(client, "2 + 2? [cheap:fail]"))
    assert record.evidence["ensemble"].items() >= {"by": "reward:critic", "tie": True, "picked": "cheap"}.items()
    assert [line.what for line in record.overhead if line.tier == "critic"] == ["reward:critic"] * 2
    assert (reply.status_code, reply.json()["serve_graph"]["outcome"]) == (200, failed.outcome)
    assert failed.outcome != "ensemble"
    assert failed.evidence["ensemble"]["why_not"].startswith("judge: reward:critic failed")
    assert len(failed.calls) == 2
    assert (other.status_code, other.json()["serve_graph"]["tier"]) == (200, "frontier")
    assert down.evidence["ensemble"]["why_not"].startswith("tier: cheap failed")


async def test_the_days_budget_is_one_for_replicas_that_share_a_state_folder(tmp_path: Path) -> None:
    critic = {"engine": "echo", "name": "critic", "price": PRICE}
    ensemble = {"share": 1.0, "judge": "reward:critic", "budget_usd_per_day": "0.003"}
    graph, outcomes = graph_of(tmp_path, ensemble, verifiers=[critic]), []
    async with serving(graph) as (_, one), serving(graph) as (_, other):
        for _ in range(80):
            outcomes += [(await asked(client)).headers["x-serve-graph-outcome"] for client in (one, other)]
    first = outcomes.index("routed") if "routed" in outcomes else outcomes.index("fallback")
    assert 0 < first < 160
    assert "ensemble" not in outcomes[first:]
    assert Decimal(json.loads((tmp_path / "ensemble.json").read_text())["usd"]) <= Decimal("0.003")


async def test_without_configuration_nothing_is_drawn(tmp_path: Path) -> None:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    graph = GraphConfig.model_validate({"tiers": tiers, "state_folder": tmp_path, "access": {"open": True}})
    async with serving(graph) as (ingress, client):
        reply = await asked(client)
    assert ingress.both is None
    assert reply.headers["x-serve-graph-outcome"] != "ensemble"
    assert not (tmp_path / "ensemble.json").exists()
