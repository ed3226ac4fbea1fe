"""Router and verifier in every ingress replica (`policy.placement: ingress`): no deployments of their own.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.errors import ArtifactError
from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.types.decisions import PromptEmbedding
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.served_version import NONE, ServedRollout, ServedVersion
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.registry import echo_graph, sealed_version
from tests.fixtures.upstream import DirectHandle

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.config.graph import GraphConfig

NOW = datetime.now(UTC)
ASKED = Query.from_prompt("What is the capital of France?")
Versions = tuple["GraphConfig", ServedVersion, ServedVersion]


class OneVector:
    """An encoder to which all texts are alike."""

    digest = "an encoder"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 2), dtype=np.float32)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """A configuration, its version, and another one."""
    config = echo_graph(tmp_path)
    policy = config.policy.model_copy(update={"placement": "ingress"})
    config = config.model_copy(update={"policy": policy, "state_folder": tmp_path})
    made = []
    for n in (7, 6):
        folder = sealed_version(config, tmp_path / str(n), NOW, n / 10)
        version = ServedVersion.of(serving_version(config, folder), config, 1)
        assert version.files is not None
        name = f"router/{n}"
        policy_, files = replace(version.policy, name=name), replace(version.files, name=name)
        made.append(replace(version, policy=policy_, files=files))
    return config, made[0], made[1]


@pytest.fixture
async def ingress(versions: Versions) -> AsyncIterator[IngressDeployment]:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    config, stable, _ = versions
    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    made = IngressDeployment(config, stable, tiers, None, None, b"x" * 16)
    yield made
    made.sink.close()
    await made.store.close()


async def test_it_decides_and_judges_as_replicas_of_their_own_would(
    ingress: IngressDeployment, versions: Versions
) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    _, stable, _ = versions
    context, replica = ingress.service.context, PolicyDeployment(stable.files)
    decision = await context.decider.decide(ASKED)
    assert decision == await replica.decide(ASKED, stable.name)
    answer = Completion("Paris", token_logprobs=(-0.1,))
    assert await context.judge.judge(ASKED, answer, decision) == await replica.judge(
        ASKED, answer, decision, stable.name
    )


async def test_a_switch_loads_the_version_before_it_is_served(ingress: IngressDeployment, versions: Versions) -> None:
    _, stable, other = versions
    held = ingress.policies.held
    assert held is not None
    assert list(held.held.loaded) == [stable.name]
    assert await ingress.take(replace(other, epoch=2))
    assert list(held.held.loaded) == [stable.name, other.name], "requests under way end with the one they began with"
    assert (await ingress.service.context.decider.decide(ASKED)).tier in ("cheap", "frontier")
    assert ingress.service.context.version == other.name


async def test_a_damaged_version_is_not_taken(ingress: IngressDeployment, versions: Versions) -> None:
    _, stable, other = versions
    assert other.files is not None
    shutil.rmtree(other.files.folder)
    with pytest.raises(ArtifactError):
        await ingress.prepare(other.files)
    with pytest.raises(ArtifactError):
        await ingress.take(replace(other, epoch=2))
    assert (ingress.serving.version.name, ingress.serving.version.epoch) == (stable.name, 1)


async def test_a_candidate_is_decided_beside_the_served_version(
    ingress: IngressDeployment, versions: Versions
) -> None:
    _, stable, other = versions
    assert other.files is not None
    assert await ingress.prepare(other.files)
    rollout = ServedRollout("rol-1", "canary", 0.5, 0.1, other)
    assert await ingress.take(replace(stable, epoch=2, rollout=rollout))
    assert ingress.service.arms is not None
    decision = await ingress.service.arms.context.decider.decide(ASKED)
    verdict = await ingress.service.arms.context.judge.judge(ASKED, Completion("Paris"), decision)
    assert verdict.action in (Action.ACCEPTED, Action.ESCALATED)


async def test_what_fails_here_is_a_policy_that_is_away(versions: Versions) -> None:
    from serve_graph.cluster.policy_client import LocalPolicy
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    _, stable, _ = versions
    held = PolicyDeployment(stable.files, in_thread=True)
    with pytest.raises(PolicyUnavailableError, match="router/0 is not held here"):
        await LocalPolicy(held, "router/0", 2.0).decide(ASKED)
    broken = replace(held.held.loaded[stable.name], version=None)  # type: ignore[arg-type]
    held.held.loaded[stable.name] = broken
    with pytest.raises(PolicyUnavailableError, match="router: AttributeError"):
        await LocalPolicy(held, stable.name, 2.0).decide(ASKED)
    with pytest.raises(PolicyUnavailableError, match="verifier: AttributeError"):
        await LocalPolicy(held, stable.name, 2.0).judge(ASKED, Completion("x"), Decision("cheap", "it is cheap"))


async def test_a_decision_that_takes_too_long_beside_the_event_loop_is_given_up(versions: Versions) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    _, stable, _ = versions
    held = PolicyDeployment(stable.files, limit_s=0.05, in_thread=True)
    let_go, loaded = threading.Event(), held.held.loaded[stable.name]

    class Slow:
        needs_encoder, policy, encoder = True, loaded.version.policy, OneVector()

        def decide_all(self, queries: list[Query], made: list[PromptEmbedding]) -> list[Decision]:
            let_go.wait(10)
            return [Decision("cheap", "too late")]

    held.held.loaded[stable.name] = replace(loaded, version=Slow())  # type: ignore[arg-type]
    try:
        decision = await asyncio.wait_for(held.decide(ASKED, stable.name), 5)
    finally:
        let_go.set()
    assert (decision.tier, decision.promised) == (loaded.version.policy.top, False)


async def test_a_verdict_that_embeds_the_prompt_itself_is_given_beside_the_event_loop(versions: Versions) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    _, stable, _ = versions
    held = PolicyDeployment(stable.files, in_thread=True)
    loaded = held.held.loaded[stable.name]
    places = list[bool]()

    class Judging:
        policy, prefix_stages = loaded.version.policy, MappingProxyType[str, Any]({})
        stages = MappingProxyType({"cheap": SimpleNamespace(verifier=SimpleNamespace(wants_embeddings=True))})

        def judge(self, *_: Any) -> Verdict:
            places.append(threading.current_thread() is threading.main_thread())
            return Verdict(Action.ACCEPTED, "it is good")

    held.held.loaded[stable.name] = replace(loaded, version=Judging())  # type: ignore[arg-type]
    embedded = PromptEmbedding("a text", "an encoder", np.ones(2, dtype=np.float32))
    for embedding in (None, embedded):
        await held.judge(ASKED, Completion("Paris"), Decision("cheap", "forced", embedding=embedding), stable.name)
    assert places == [False, True], "with the decision's embedding there is nothing to wait for"


async def test_without_a_version_the_last_tier_answers(ingress: IngressDeployment, versions: Versions) -> None:
    from serve_graph.cluster.policy_client import AlwaysTop

    _, stable, _ = versions
    none = replace(stable, epoch=2, policy=replace(stable.policy, name=NONE), files=None)
    assert await ingress.take(none)
    assert isinstance(ingress.service.context.decider, AlwaysTop)


async def test_an_application_without_deployments_for_them(versions: Versions, tmp_path: Path) -> None:
    from serve_graph.app import build_app

    config, _, _ = versions
    policy = config.policy.model_copy(update={"version": "builtin", "follow_s": None})
    bound = build_app({"config": config.model_copy(update={"policy": policy})})
    assert bound._bound_deployment.init_args[3:5] == (None, None)
