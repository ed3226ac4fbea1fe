"""Hosted tiers that the ingress calls itself: what a handle promises, without replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.app import build_app
from serve_graph.cluster.replicas.graph_metrics import graph_metrics
from serve_graph.cluster.replicas.in_process import InProcessHandle, TierOfIngresses, tiers_called_here
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.replica_counters import CountedReplica, ReplicaCounters
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.errors import ConfigError

HOSTED: dict[str, Any] = {
    "name": "frontier",
    "engine": "openai",
    "model": "m",
    "base_url": "http://127.0.0.1:1/v1",
    "api_key_env": "KEY_OF_TEST",
    "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
    "placement": "ingress",
}
ECHO = {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2}}


def graph_of(tmp_path: Path, **changes: Any) -> GraphConfig:
    data = {"tiers": [ECHO, HOSTED | changes], "policy": {"version": "builtin", "safe_tier": "frontier"}}
    return GraphConfig.model_validate(data | {"state_folder": str(tmp_path)})


class Tier(CountedReplica):
    """Says for whom it works, and notes what becomes of its streams."""

    def __init__(self) -> None:
        self.closed = 0

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        context = CALL.get()
        await asyncio.sleep(body.get("seconds", 0.0))
        return {"for": None if context is None else context.decision}

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[int]:
        try:
            for i in range(body["n"]):
                await asyncio.sleep(0)
                yield i
        finally:
            self.closed += 1

    async def counters(self) -> dict[str, float]:
        return {"deployment_calls": 3.0}


async def test_a_call_is_under_way_at_once_and_works_for_whom_it_is_made() -> None:
    token = CALL.set(CallContext("dec-1"))
    try:
        call = InProcessHandle(Tier()).generate.remote({}, carried=CallContext("dec-1"))
    finally:
        CALL.reset(token)
    assert await asyncio.wait_for(call, 1.0) == {"for": "dec-1"}
    slow = InProcessHandle(Tier()).generate.remote({"seconds": 60})
    await asyncio.sleep(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_a_stream_ends_with_its_last_piece_or_is_closed_when_it_is_cancelled() -> None:
    tier = Tier()
    handle = InProcessHandle(tier).options(stream=True)
    assert [piece async for piece in handle.stream.remote({"n": 3})] == [0, 1, 2]
    pieces = handle.stream.remote({"n": 3})
    assert await asyncio.wait_for(anext(pieces), 1.0) == 0
    pieces.cancel()
    pieces.cancel()
    await asyncio.sleep(0.01)
    assert tier.closed == 2


def test_the_graph_has_no_deployment_of_a_tier_that_the_ingress_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.serve._private.build_app import build_app as deployments_of

    monkeypatch.setenv("KEY_OF_TEST", "none")
    names = {}
    for placement in ("ingress", "replicas"):
        bound = build_app({"config": graph_of(tmp_path, placement=placement)})
        names[placement] = {deployment.name for deployment in deployments_of(bound, name="x").deployments}
    assert names["replicas"] - names["ingress"] == {"frontier"}


def test_a_missing_key_is_named_and_replicas_that_are_not_there_do_not_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_OF_TEST", raising=False)
    with pytest.raises(ConfigError, match="KEY_OF_TEST"):
        tiers_called_here(graph_of(tmp_path))
    assert tiers_called_here(graph_of(tmp_path, placement="replicas")) == {}
    with pytest.raises(ValidationError, match=r"leaves no replicas to `scaling`; see `admission\.max_in_flight`"):
        graph_of(tmp_path, scaling={"max_replicas": 4})


async def test_what_each_ingress_replica_has_counted_is_asked_of_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "none")
    config = graph_of(tmp_path)
    asked: list[tuple[str, object]] = []

    class Siblings:
        async def all(self, method: str, argument: object, within_s: float) -> list[Any]:
            asked.append((method, argument))
            return [ReplicaCounters(f"r{i}", {"deployment_calls": 2.0}) for i in range(2)]

    handles = tiers_called_here(config)
    alone = graph_metrics(config, list, handles, None)
    assert (await alone.engine_counters())["frontier"]["deployment_calls"] == 0
    several = graph_metrics(config, list, handles, Siblings())
    assert (await several.engine_counters())["frontier"]["deployment_calls"] == 4
    assert asked == [("tier_counted", "frontier")]
    with pytest.raises(ValueError, match="not asked for told"):
        await TierOfIngresses(Siblings(), "frontier").all("told", None, 1.0)
