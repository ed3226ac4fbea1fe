"""Router and verifier: what takes long is given up, and nobody else waits for it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Action, Completion, Decision, FloatArray, OperatingPoint, Prompts, Query
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.held_versions import MOST_CHARS
from serve_graph.policy.served_version import VersionFiles
from serve_graph.policy.validity import Validity
from tests.fixtures.made_up_time import hurry

NAME = "router/1"
LONG = Query.from_prompt("slow " + "x" * 5_000)
QUICK = Query.from_prompt("quick")
TOOLS = replace(QUICK, parameters={"tools": [{"type": "function", "function": {"name": "f"}}]})
ANSWER = Completion("an answer")


class Held(ConstantRouter):
    """A router that does not come to an end with prompts that begin with `slow` until it is let go."""

    def __init__(self, let_go: threading.Event, computes: bool = False) -> None:
        super().__init__(0.9)
        self.let_go = let_go
        self.computes = computes

    def predict(self, X: Prompts) -> FloatArray:
        if X.texts[0].startswith("slow"):
            while self.computes and not self.let_go.is_set():
                sum(range(1_000))
            self.let_go.wait(30)
        return super().predict(X)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """What lets every thread end, at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in long_work_threads():
        thread.join(10)


def long_work_threads() -> set[threading.Thread]:
    """The threads that are at long work now."""
    return {thread for thread in threading.enumerate() if thread.name == "long-work"}


def with_stage(deployment: Any, stage: Any) -> None:
    """Give the version that a replica holds another stage than its files have."""
    held = deployment.held.loaded[NAME]
    deployment.held.loaded[NAME] = replace(held, version=replace(held.version, stages={"cheap": stage}))


@pytest.fixture
def deployment(tmp_path: Path, let_go: threading.Event) -> Callable[..., Any]:
    """The deployment of a version whose router can be held; importing it imports ray."""
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    stage = Stage(ConstantRouter(0.9), None, NonEmptyVerifier(), None)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)})
    RouterVersion(policy, {"cheap": stage}).save(tmp_path / "version")

    def make(limit_s: float = 0.1, computes: bool = False) -> Any:
        made = PolicyDeployment(VersionFiles(NAME, str(tmp_path / "version"), Validity()), limit_s=limit_s)
        with_stage(made, replace(stage, router=Held(let_go, computes)))
        return made

    return make


@pytest.mark.parametrize("computes", [False, True], ids=["waits", "computes"])
async def test_twenty_quick_prompts_are_answered_while_a_slow_one_is_given_up(
    deployment: Callable[..., Any], computes: bool
) -> None:
    at = deployment(limit_s=60.0, computes=computes)
    slow = asyncio.ensure_future(at.decide(LONG, NAME))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        decisions = [await at.decide(QUICK, NAME) for _ in range(20)]
    assert not slow.done(), "nobody waited for the slow one"
    assert {decision.tier for decision in decisions} == {"cheap"}
    hurry(60.0)
    given_up = await asyncio.wait_for(slow, 20)
    assert (given_up.tier, given_up.promised) == ("frontier", False)
    assert given_up.reason == "not routed: not done in 60 s: frontier"


async def test_a_verdict_that_takes_too_long_is_an_escalation_and_the_last_tiers_answer_is_given(
    deployment: Callable[..., Any], let_go: threading.Event
) -> None:
    at = deployment()
    with_stage(at, Stalled(let_go))
    for query in (LONG, TOOLS):
        verdict = await at.judge(query, ANSWER, Decision("cheap", "why"), NAME)
        assert (verdict.action, verdict.promised) == (Action.ESCALATED, False)
        assert verdict.reason == "not judged: not done in 0.1 s"


class Stalled:
    """A stage whose verifier does not come to an end."""

    def __init__(self, let_go: threading.Event) -> None:
        self.let_go = let_go

    def __getattr__(self, name: str) -> Any:
        self.let_go.wait(30)
        raise AttributeError(name)


async def test_texts_beyond_what_is_read_go_to_the_last_tier_at_once(deployment: Callable[..., Any]) -> None:
    at = deployment(limit_s=30.0)
    huge = Query.from_prompt("slow " + "x" * MOST_CHARS)
    decision = await at.decide(huge, NAME)
    assert (decision.tier, decision.promised) == ("frontier", False)
    assert "more than are read (131072)" in decision.reason
    verdict = await at.judge(QUICK, Completion("x" * (MOST_CHARS + 1)), Decision("cheap", "why"), NAME)
    assert (verdict.action, verdict.promised) == (Action.ESCALATED, False)
    verdict = await at.judge(huge, ANSWER, Decision("frontier", "why"), NAME)
    assert (verdict.action, verdict.promised) == (Action.ACCEPTED, False)


async def test_prompts_as_long_as_those_that_were_certified_are_read(tmp_path: Path) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    stage = Stage(ConstantRouter(0.9), None, NonEmptyVerifier(), None)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)})
    RouterVersion(policy, {"cheap": stage}, longest_prompt=MOST_CHARS + 1).save(tmp_path / "version")
    at = PolicyDeployment(VersionFiles(NAME, str(tmp_path / "version"), Validity()), limit_s=30.0)
    assert (await at.decide(Query.from_prompt("x" * (MOST_CHARS + 1)), NAME)).tier == "cheap"
    assert (await at.decide(Query.from_prompt("x" * (MOST_CHARS + 2)), NAME)).tier == "frontier"


async def test_a_place_is_given_to_others_until_too_many_threads_are_stuck(
    deployment: Callable[..., Any], let_go: threading.Event
) -> None:
    at = deployment()
    for _ in range(at.long_work.most_stuck):
        at.check_health()
        assert "not done in 0.1 s" in (await at.decide(LONG, NAME)).reason
    with pytest.raises(PolicyUnavailableError, match="4 threads do not come to an end"):
        at.check_health()
    begun = long_work_threads()
    assert "4 threads do not come to an end" in (await at.decide(LONG, NAME)).reason
    assert long_work_threads() == begun, "nothing is begun"
    assert (await at.decide(QUICK, NAME)).tier == "cheap"
    let_go.set()
    async with asyncio.timeout(10):
        while at.long_work.fault() is not None:
            await asyncio.sleep(0.01)
    at.check_health()
    at.long_work.limit_s = 30.0
    assert (await at.decide(LONG, NAME)).tier == "cheap"


async def test_what_waits_for_a_thread_is_bounded_in_number_and_in_time(deployment: Callable[..., Any]) -> None:
    at = deployment(limit_s=0.3)
    at.long_work.most_waiting = 3
    reasons = [decision.reason for decision in await asyncio.gather(*[at.decide(LONG, NAME) for _ in range(8)])]
    assert sum("3 others are waiting for a thread" in reason for reason in reasons) == 3
    assert sum("not done in 0.3 s" in reason for reason in reasons) == 5


async def test_what_work_raises_is_raised_to_its_caller_and_a_caller_may_go(
    deployment: Callable[..., Any], let_go: threading.Event
) -> None:
    work = deployment(limit_s=30.0).long_work
    with pytest.raises(ZeroDivisionError):
        await work.run(lambda: 1 // 0)
    leaving = asyncio.ensure_future(work.run(lambda: let_go.wait(30)))
    await asyncio.sleep(0.05)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await work.run(lambda: 5) == 5
