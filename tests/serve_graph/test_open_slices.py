"""Requests to a graph whose thresholds are certified together in some slices: what is answered in the others."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from router_models.calibration.certificate import ANSWERED_RISK, Certificate, LabelSource, Promise
from router_models.policy import Policy
from router_models.routers import LengthRouter
from router_models.types import Completion, Decision, OperatingPoint, Query, Verdict
from router_models.verifiers import NonEmptyVerifier
from router_models.version import RouterVersion, Stage
from serve_graph.cascade import answer
from serve_graph.testing import FakeEngine, fake_graph
from serve_graph.trail import Graph, Trail

MADE = datetime(2026, 1, 5, tzinfo=UTC)


class VersionPolicy:
    """Decider and Judge of a real version, certified for English alone; silence is abstained on at the last tier."""

    def __init__(self) -> None:
        certificate = Certificate(
            what=ANSWERED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=200, accepted_n=100, errors=2, upper=0.06,
            threshold=None, label_source=LabelSource.HUMAN, made_at=MADE, expires_at=MADE.replace(year=2027), binds={},
            slices={
                "en": Promise(ANSWERED_RISK, 0.1, 0.05, 100, 2, 0.06, -math.inf),
                "de": Promise(ANSWERED_RISK, 0.1, 0.05, 0, 0, 1.0),
            },
        )  # fmt: skip
        stages = {
            "cheap": Stage(LengthRouter(), None, NonEmptyVerifier(), None),
            "frontier": Stage(None, None, NonEmptyVerifier(), None),
        }
        points = {"cheap": OperatingPoint(0.0, 0.5), "frontier": OperatingPoint(math.inf, -math.inf, 0.5)}
        policy = Policy(("cheap", "frontier"), points)
        self.version = RouterVersion(policy, stages, certificate, slicer="language")

    async def decide(self, query: Query) -> Decision:
        return self.version.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return self.version.judge(query, completion, decision)


def graph(cheap: str = "cheap says", frontier: str = "frontier says") -> Graph:
    policy = VersionPolicy()
    made = fake_graph(FakeEngine(cheap), FakeEngine(frontier))
    return replace(made, decider=policy, judge=policy, policy=policy.version.policy)


async def asked(of: Graph, language: str, held: str | None = None) -> Trail:
    trail = Trail(held=held)
    await answer(of, Query.from_prompt("why?", language=language), None, trail)
    return trail


@pytest.mark.parametrize("language", ["de", "it"])
async def test_a_request_in_a_slice_without_proof_is_answered_by_the_last_tier_alone(language: str) -> None:
    trail = await asked(graph(), language)
    assert (trail.tier, trail.action, [call.tier for call in trail.calls]) == ("frontier", "routed", ["frontier"])
    assert trail.decision is not None
    assert f"language={language} is not certified" in trail.decision.reason
    assert (await asked(graph(), "en")).tier == "cheap"


async def test_the_last_tier_abstains_where_that_is_promised_and_nowhere_else() -> None:
    silent = graph(cheap="", frontier="")
    assert (await asked(silent, "en")).action == "abstained"
    assert (await asked(silent, "de")).action == "routed"


async def test_a_cheap_answer_that_a_held_tier_brings_is_escalated_in_a_slice_without_proof() -> None:
    trail = await asked(graph(), "de", held="cheap")
    assert (trail.tier, trail.action, [call.tier for call in trail.calls]) == (
        "frontier",
        "escalated",
        ["cheap", "frontier"],
    )
    assert (await asked(graph(), "en", held="cheap")).action == "accepted"
