"""An ingress replica tries a candidate beside what it serves, whose own watch goes on as if there were none.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_graph.config.learning import AlarmsConfig
from serve_graph.policy.served_version import ServedRollout, ServedVersion
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.registry import echo_graph, sealed_version
from tests.fixtures.upstream import DirectHandle

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.config.graph import GraphConfig

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[GraphConfig, ServedVersion, ServedVersion]:
    """A configuration, its stable version and a candidate."""
    folder = tmp_path_factory.mktemp("versions")
    config = echo_graph(folder)
    config = config.model_copy(update={"alarms": AlarmsConfig(poll_s=0.1)})
    one, two = (
        ServedVersion.of(serving_version(config, sealed_version(config, folder / str(n), NOW, n / 10)), config, 1)
        for n in (7, 6)
    )
    return config, named(one, "router/1"), named(two, "router/2")


def named(version: ServedVersion, name: str) -> ServedVersion:
    assert version.files is not None
    policy, files = replace(version.policy, name=name), replace(version.files, name=name)
    return replace(version, policy=policy, files=files)


@pytest.fixture
async def ingress(
    versions: tuple[GraphConfig, ServedVersion, ServedVersion], tmp_path: Path
) -> AsyncIterator[IngressDeployment]:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    config, stable, _ = versions
    config = config.model_copy(update={"state_folder": tmp_path})
    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    none: Any = DirectHandle(None)
    made = IngressDeployment(config, stable, tiers, none, none, b"x" * 16)
    yield made
    made.sink.close()
    await made.store.close()


def rollout(candidate: ServedVersion, weight: float, rollout_id: str = "rol-1") -> ServedRollout:
    return ServedRollout(rollout_id, "canary", weight, 0.1, candidate)


async def test_only_the_candidate_changes_where_only_the_rollout_does(
    ingress: IngressDeployment, versions: tuple[GraphConfig, ServedVersion, ServedVersion]
) -> None:
    _, stable, candidate = versions
    status, alarms, context = ingress.serving.certificate_status, ingress.serving.alarms, ingress.service.context
    assert ingress.service.arms is None
    assert await ingress.take(replace(stable, epoch=2, rollout=rollout(candidate, 0.05)))
    assert ingress.serving.tried is not None
    assert ingress.service.arms is not None
    tried = ingress.serving.tried
    assert (ingress.service.arms.context.version, ingress.service.arms.rollout.weight) == ("router/2", 0.05)
    assert ingress.service.arms.routing.sessions is ingress.service.routing.sessions
    told = {"kind": "canary", "candidate": "router/2", "state": "Progressing", "weight": 0.05}
    assert (await ingress.readiness())["rollout"] == told
    page = await ingress.graph_metrics.page()
    assert 'serve_graph_rollout_weight{kind="canary",version="router/2"} 0.05' in page
    assert 'serve_graph_rollout_state{kind="canary",state="Progressing",version="router/2"} 1.0' in page

    assert await ingress.take(replace(stable, epoch=3, rollout=rollout(candidate, 0.5)))
    assert ingress.serving.tried is tried, "a greater share is no other candidate"
    assert ingress.service.arms.rollout.weight == 0.5
    assert not await ingress.take(replace(stable, epoch=3, rollout=None)), "it is no newer"

    assert await ingress.take(replace(stable, epoch=4))
    assert (ingress.serving.tried, ingress.service.arms) == (None, None)
    assert "serve_graph_rollout_weight{" not in await ingress.graph_metrics.page()
    assert (ingress.serving.certificate_status, ingress.serving.alarms, ingress.service.context) == (
        status,
        alarms,
        context,
    )
    assert not ingress.serving._switched.is_set(), "the watch of the stable version goes on"
    assert tried.looks is not None
    await asyncio.wait_for(tried.looks, 5)


async def test_a_candidate_that_is_promoted_is_served_alone(
    ingress: IngressDeployment, versions: tuple[GraphConfig, ServedVersion, ServedVersion]
) -> None:
    _, stable, candidate = versions
    await ingress.take(replace(stable, epoch=2, rollout=rollout(candidate, 1.0)))
    assert ingress.serving.tried is not None
    looks, checks = ingress.serving.tried.looks, ingress.serving.tried.checks
    assert looks is not None
    assert checks is not None
    assert await ingress.take(replace(candidate, epoch=3))
    assert (ingress.service.context.version, ingress.service.arms) == ("router/2", None)
    await asyncio.wait([looks, checks], timeout=5)
    assert (looks.done(), looks.cancelled(), checks.cancelled()) == (True, False, True)


async def test_router_replicas_that_come_later_load_both_versions(
    versions: tuple[GraphConfig, ServedVersion, ServedVersion],
) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    _, stable, candidate = versions

    class Controller:
        """What a replica asks when it starts."""

        async def current(self) -> ServedVersion:
            return replace(stable, epoch=2, rollout=rollout(candidate, 0.05))

        async def files(self, name: str) -> None:
            return None

    handle: Any = DirectHandle(Controller())
    replica = PolicyDeployment(None, controller=handle)
    await replica.catching_up
    assert list(replica.held.loaded) == ["router/2", "router/1"]
