"""What tests of signals that are asked for share: echo tiers, what `collect` wrote of them, and versions made of that.

The tiers are echo engines, whose answers about answers follow from the question (`engines.echo.engine`); all else is
the graph's own, in this process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.data.starter import Task
from router_models.estimators.asked_signals import ASKED_SIGNALS
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Query
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.echo.engine import question_draw
from serve_graph.gateway.request import Request
from serve_graph.policy.bindings import (
    asked_by_tier,
    check_certificate,
    signal_binds,
)
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, settings_of
from tests.fixtures.upstream import DirectHandle

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment

NOW = datetime.now(UTC)
EVERY = (*ASKED_SIGNALS, "reward:critic")
RIGHT_BELOW = 0.6
PROMPTS = [f"[{i}] " + "Tell me the name of the river that flows through this town, please. " * 3 for i in range(220)]
SAMPLED = {"self_verification": {"samples": 4, "max_tokens": 12}}


def graph(folder: Path, **changes: Any) -> GraphConfig:
    """Two echo tiers, dear words of the last one, router and verifier in the ingress."""
    price = {"input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.2"}
    dear = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "20"}
    tiers = [
        {"name": "cheap", "engine": "echo", "price": price, "skill": 0.95, "latency_s": 0.0},
        {"name": "frontier", "engine": "echo", "price": dear, "skill": 1.0, "latency_s": 0.0},
    ]
    critic = {"name": "critic", "engine": "echo", "price": {"input_usd_per_mtok": "0.05", "output_usd_per_mtok": "0"}}
    policy = {"placement": "ingress", "epsilon": 0.3, "delta": 0.2}
    state = {"state_folder": str(folder)}
    return GraphConfig.model_validate({"tiers": tiers, "verifiers": [critic], "policy": policy, **state, **changes})


def ingress_of(config: GraphConfig, begun: ServedVersion) -> IngressDeployment:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.every_tier}  # type: ignore[arg-type]
    return IngressDeployment(config, begun, tiers, None, None, b"x" * 16)


async def closed(ingress: IngressDeployment) -> None:
    ingress.sink.close()
    await ingress.store.close()


def hosted_without_logprobs() -> dict[str, Any]:
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    silent: dict[str, Any] = {"name": "cheap", "engine": "openai", "model": "m", "base_url": "http://x/v1"}
    return silent | {"price": price, "parameters": {"logprobs": None}}


def task(prompt: str) -> Task:
    right = {"accepted": ["echo" if question_draw(prompt) < RIGHT_BELOW else "nothing of it"]}
    return Task(prompt[:6], prompt, "notes", 1, "en", "mentions", right, "echo", None)


async def collected(config: GraphConfig, prompts: list[str], out: Path) -> OutcomeTable:
    """`collect` against a graph without a version, over HTTP, with every signal; the last tier is right mostly."""
    from serve_graph.cli.client.collect import collect_outcomes

    ingress = ingress_of(config, ServedVersion.of(Served(None, None, "none"), config))
    transport = httpx.ASGITransport(app=ingress.__serve_build_asgi_app__(), client=("127.0.0.1", 1))
    asked = asked_by_tier(config, EVERY)
    client = httpx.AsyncClient(transport=transport)
    try:
        await collect_outcomes(
            "http://graph", config.tier_names, [task(prompt) for prompt in prompts], out, concurrency=8,
            binds=signal_binds(config, asked), http_client=client, signals=asked,
        )  # fmt: skip
    finally:
        await closed(ingress)
    return read_outcomes(out, config.tier_names)


@dataclass(frozen=True)
class World:
    """What the tests share: a configuration, what `collect` wrote under it, and the versions made of that."""

    config: GraphConfig
    table: OutcomeTable
    out: Path
    versions: dict[Any, RouterVersion] = field(default_factory=dict)

    def splits(self) -> LabelledSplits:
        table = self.table
        dear = [float(question_draw(f"dear {prompt}") < 0.97) for prompt in table.prompts.texts]
        grades = {**table.grades, "frontier": table.grades["cheap"] * 0 + dear}
        return split_outcomes(replace(table, grades=grades), self.config.tier_names, 0)


def certified(world: World, **settings: Any) -> RouterVersion:
    """A version by these settings, made once for all tests."""
    wanted = tuple(sorted(settings.items()))
    if wanted not in world.versions:
        world.versions[wanted] = _certified(world, **settings)
    return world.versions[wanted]


def _certified(world: World, **settings: Any) -> RouterVersion:
    made = replace(settings_of(world.config), abstain_share=0.0, **{"router": "length", **settings})
    splits = world.splits()
    if made.router == "asked-first":
        splits = splits.with_embeddings(Encoder())
    return certify_candidate(fit_candidate(splits, made, Encoder()), splits, made, NOW).version


async def serving(world: World, version: RouterVersion, folder: Path) -> IngressDeployment:
    version.save(folder)
    loaded = RouterVersion.load(folder, "router/1")
    check_certificate(loaded, world.config, NOW)
    config = world.config.model_copy(update={"state_folder": folder.with_name(f"{folder.name}-state")})
    return ingress_of(config, ServedVersion.of(Served(loaded, folder, "certified"), config))


def check_escalated(request: Request, facts: dict[str, Any], lacking: str) -> None:
    """Whether the last tier answered for want of a signal, and nothing is promised of that."""
    assert (facts["outcome"], facts["tier"]) == ("escalated", "frontier")
    assert request.state.verdict is not None
    assert request.state.verdict.reason == f"not judged: no {lacking}"
    assert not request.state.verdict.promised


async def tried(ingress: IngressDeployment, *, stream: bool = False) -> tuple[Request, dict[str, Any]]:
    """The first request whose cheap answer was tried, and what its reply says of it."""
    for prompt in PROMPTS:
        request = ingress.service.open(Query.from_prompt(prompt), "auto", stream)
        if stream:
            facts = [chunk async for chunk in ingress.service.stream(request)][-1]["serve_graph"]
        else:
            facts = (await ingress.service.answer(request))["serve_graph"]
        if facts["outcome"] != "routed":
            return request, facts
    raise AssertionError("nothing was tried")
