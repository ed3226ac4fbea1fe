"""A shadow in an ingress replica with real deployments: echo tiers, a router and a verifier with two versions.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_graph.config.judge import JudgeConfig
from serve_graph.config.learning import AlarmsConfig
from serve_graph.config.rollouts import ComparisonsConfig
from serve_graph.policy.served_version import ServedRollout, ServedVersion
from serve_graph.policy.serving_version import serving_version
from serve_graph.records.comparisons import ComparisonsTable
from tests.fixtures.registry import echo_graph, sealed_version
from tests.fixtures.upstream import DirectHandle

NOW = datetime.now(UTC)
BOTH_RIGHT = "{question}\n{first}\n{second}\nVERDICT {nonce}: both"
"""An echo tier repeats it, and so ends with a verdict."""


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_a_shadow_decides_live_requests_and_answers_none_of_them(tmp_path: Path) -> None:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    plain = echo_graph(tmp_path)
    judge = JudgeConfig(tier="cheap", rate=0.0, mode="pairwise", prompt=BOTH_RIGHT)
    rare = AlarmsConfig(poll_s=3600.0)  # its looks are over when the test ends
    graph = plain.model_copy(update={"judge": judge, "alarms": rare})
    stable, candidate = (
        ServedVersion.of(serving_version(plain, sealed_version(plain, tmp_path / name, NOW, p_ok)), plain, 1)
        for name, p_ok in (("one", 0.7), ("two", 0.2))
    )
    stable, candidate = named(stable, "router/1"), named(candidate, "router/2")
    handles: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in graph.tiers}  # type: ignore[arg-type]
    policy = PolicyDeployment(stable.files)
    assert candidate.files is not None
    await policy.prepare(candidate.files)
    decides: Any = DirectHandle(policy)
    ingress = IngressDeployment(graph, stable, handles, decides, decides, b"x" * 16)
    ingress.comparer.after_s, ingress.comparer.busy_loop_s = 0.0, 10.0
    await ingress.take(replace(stable, epoch=2, rollout=ServedRollout("rol-1", "shadow", 0.0, 1.0, candidate)))
    app, background = ingress.__serve_build_asgi_app__(), asyncio.ensure_future(ingress.background())
    try:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"model": "auto", "messages": [{"role": "user", "content": "What is one and two?"}]}
            asked = await client.post("/v1/chat/completions", json=body)
            assert asked.headers["x-serve-graph-version"] == "router/1"
            decision, table = asked.headers["x-serve-graph-decision"], ComparisonsTable(ingress.store)
            async with asyncio.timeout(20):
                while not (found := await table.in_rollout("rol-1")):
                    await asyncio.sleep(0.02)
            page = (await client.get("/metrics")).text
        [row] = found
        assert (row.decision, row.arm, row.weight, row.probability) == (decision, "stable", 0.0, 1.0)
        assert (row.stable_tier, row.stable_action) == ("cheap", "accepted")
        assert (row.candidate_tier, row.candidate_action) == ("frontier", "routed")
        assert row.slices == ("en",)
        assert 'serve_graph_comparisons_calls_total{tier="frontier",what="answer"} 1.0' in page
        assert await ingress.store.count() == 1, "what only a comparison needs is no decision"
        record = await ingress.store.get(decision)
        assert record is not None
        assert [line.tier for line in record.calls] == ["cheap"], "and on no request's bill"
        assert (graph.state_folder / "comparisons.json").is_file()
    finally:
        ingress.serving._try_beside(None)
        background.cancel()
        with suppress(asyncio.CancelledError):
            await background
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:  # all of them asleep: looks for alarms are an hour apart here
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        ingress.sink.close()
        await ingress.store.close()


def named(version: ServedVersion, name: str) -> ServedVersion:
    assert version.files is not None
    return replace(version, policy=replace(version.policy, name=name), files=replace(version.files, name=name))


def test_the_grader_is_the_comparisons_own_tier_else_the_judges_else_the_last(tmp_path: Path) -> None:
    from serve_graph.cluster.rollouts.live_comparer import grading_config

    plain = echo_graph(tmp_path)
    judged = plain.model_copy(update={"judge": JudgeConfig(tier="cheap", prompt="{question} {answer} {nonce}")})
    own = judged.model_copy(update={"comparisons": ComparisonsConfig(judge="frontier")})
    assert [grading_config(graph).tier for graph in (plain, judged, own)] == ["frontier", "cheap", "frontier"]
    assert grading_config(judged).prompt is None, "a pointwise prompt grades no pairs"
    assert grading_config(judged).mode == "pairwise"


def test_comparisons_give_way_before_the_judge_and_the_judge_before_requests(tmp_path: Path) -> None:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.rollouts.live_comparer import live_comparer
    from serve_graph.cluster.service import live_judge
    from serve_graph.cluster.tier_client import HandleEngine

    graph = echo_graph(tmp_path).model_copy(update={"judge": JudgeConfig(tier="cheap", max_queued=10)})
    engines = {}
    for tier in graph.tiers:
        handle: Any = DirectHandle(EchoDeployment(tier))  # type: ignore[arg-type]
        engines[tier.name] = HandleEngine(handle, tier)
    judge = live_judge(graph, engines, lambda label: None)
    assert judge is not None
    comparer, gate = live_comparer(graph, engines, lambda row: None, judge), engines["cheap"].gate
    begins: dict[str, int] = {}
    for taken in range(gate.max_in_flight + 1):
        gate.in_flight = taken
        for who, is_out in (("comparer", comparer.gives_way()), ("judge", gate.is_busy)):
            if is_out:
                begins.setdefault(who, taken)
    assert 0 < begins["comparer"] < begins["judge"] < gate.max_in_flight
    gate.in_flight = 0
    for waiting, busy in ((5, False), (6, True)):
        judge.metrics.waiting = waiting
        assert comparer.gives_way() is busy, "the judge is behind"
