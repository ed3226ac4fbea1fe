"""While a rollout is under way a request is answered by one version, wholly, and whoever asks again by the same."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router_models.types import Action
from serve_graph.cascade.fakes import FakeDecider, FakeJudge
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.policy.served_version import ServedRollout

Endpoints = Callable[..., Any]
CANDIDATE = "router/2"


def trying(at: Any, weight: float, kind: Any = "canary") -> Any:
    """Have a candidate, whose answers are all escalated, try beside what an endpoint serves."""
    rollout = ServedRollout("rol-1", kind, weight, 0.1, candidate=None)  # type: ignore[arg-type]
    context = replace(at.context, version=CANDIDATE, judge=FakeJudge(Action.ESCALATED))
    at.service.try_beside(RolloutArms(rollout, context, RoutingContext(certified=0.8)))
    return at


async def test_a_request_is_decided_judged_and_recorded_by_the_version_of_its_arm(endpoint: Endpoints) -> None:
    for weight, version, outcome in ((1.0, CANDIDATE, "escalated"), (0.0, "fake/1", "accepted")):
        for stream in (False, True):
            at = trying(endpoint(), weight)
            reply = await at.chat(stream=stream)
            assert reply.headers["x-serve-graph-version"] == at.record.version == at.record.arm == version
            assert at.record.outcome == outcome
            assert (at.record.evidence["not_promised"] == "nothing is certified") is (weight == 0.0)


async def test_conversations_and_prompts_stay_with_their_version_while_the_weight_grows(endpoint: Endpoints) -> None:
    at, versions = endpoint(), []
    for weight in (0.0, 0.2, 0.5, 1.0):
        trying(at, weight)
        for n in range(12):
            for _ in range(2):
                await at.chat(content=f"question {n}")
                await at.chat(content="always the same", serve_graph={"session": f"s{n}"})
        found = [record.version == CANDIDATE for record in at.sink.records]
        at.sink.records.clear()
        assert found[0::4] == found[2::4], "the same prompt goes the same way"
        assert found[1::4] == found[3::4], "the same session goes the same way"
        versions.append(found)
    assert not any(versions[0])
    assert all(versions[-1])
    assert 0 < sum(versions[2]) < len(versions[2])
    for before, now in itertools.pairwise(versions):
        assert all(later for earlier, later in zip(before, now, strict=True) if earlier), "nobody is taken back"


async def test_a_record_says_which_arm_with_which_probability_and_the_page_shows_it(endpoint: Endpoints) -> None:
    at = trying(endpoint(), 0.25)
    for n in range(24):
        await at.chat(content=f"question {n}")
    arms = {record.evidence["rollout"]["arm"]: record for record in at.sink.records}
    assert set(arms) == {"stable", "candidate"}
    counted = at.service.metrics.arms
    assert dict(counted) == dict(Counter(record.evidence["rollout"]["arm"] for record in at.sink.records))
    for arm, propensity, version in (("stable", 0.75, "fake/1"), ("candidate", 0.25, CANDIDATE)):
        record = arms[arm]
        assert (record.propensity, record.version) == (propensity, version)
        assert record.evidence["rollout"].items() >= {"id": "rol-1", "weight": 0.25}.items()
        async with at.client() as client:
            page = (await client.get(f"/v1/decisions/{record.id}")).json()
        assert page["evidence"]["rollout"] == record.evidence["rollout"]
        told = f"Rollout rol-1: answered by the {arm} version, the candidate having 0.25 of the traffic."
        assert told in page["explanation"]


async def test_a_named_tier_and_a_request_without_a_rollout_have_no_arm(endpoint: Endpoints) -> None:
    for at, model in ((trying(endpoint(), 1.0), "frontier"), (endpoint(), "auto")):
        await at.chat(model=model)
        assert at.record.version == "fake/1"
        assert at.record.propensity == 1.0
        assert "rollout" not in at.record.evidence


async def test_a_request_under_way_keeps_its_version_when_the_rollout_ends(endpoint: Endpoints) -> None:
    at = endpoint()

    class Ending(FakeDecider):
        """The candidate's router: the rollout is aborted while it decides."""

        async def decide(self, query: Any) -> Any:
            at.service.try_beside(None)
            return await super().decide(query)

    trying(at, 1.0)
    at.service.arms = replace(at.service.arms, context=replace(at.service.arms.context, decider=Ending()))
    await at.chat()
    assert (at.record.version, at.record.outcome) == (CANDIDATE, "escalated")
    at.sink.records.clear()
    await at.chat()
    assert (at.record.version, at.record.outcome) == ("fake/1", "accepted")


async def test_a_shadow_answers_nobody(endpoint: Endpoints) -> None:
    at = trying(endpoint(), 0.0, "shadow")
    for n in range(8):
        await at.chat(content=f"question {n}")
    assert {record.version for record in at.sink.records} == {"fake/1"}
    assert {record.evidence["rollout"]["arm"] for record in at.sink.records} == {"stable"}
    assert at.sink.records[0].propensity == pytest.approx(1.0)
