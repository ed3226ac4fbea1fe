"""Requests to a graph whose thresholds are certified together in some slices: what is answered in the others."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ANSWERED_RISK, HARM_RISK
from router_models.types import Completion, Decision, DecisionRecord, OperatingPoint, Query, Verdict
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cascade.cascade import answer
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeEngine, ListSink, fake_context
from serve_graph.cascade.steps import RequestState
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.protocol.requests import RequestOptions

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


def context(cheap: str = "cheap says", frontier: str = "frontier says") -> CascadeContext:
    policy = VersionPolicy()
    made = fake_context(FakeEngine(cheap), FakeEngine(frontier))
    return replace(made, decider=policy, judge=policy, policy=policy.version.policy)


async def asked(of: CascadeContext, language: str) -> RequestState:
    state = RequestState()
    await answer(of, Query.from_prompt("why?", language=language), None, state)
    return state


@pytest.mark.parametrize("language", ["de", "it"])
async def test_a_request_in_a_slice_without_proof_is_answered_by_the_last_tier_alone(language: str) -> None:
    state = await asked(context(), language)
    assert (state.tier, state.action, [call.tier for call in state.calls]) == ("frontier", "routed", ["frontier"])
    assert state.decision is not None
    assert f"language={language} is not certified" in state.decision.reason
    assert (await asked(context(), "en")).tier == "cheap"


async def test_the_last_tier_abstains_where_that_is_promised_and_nowhere_else() -> None:
    silent = context(cheap="", frontier="")
    assert (await asked(silent, "en")).action == "abstained"
    assert (await asked(silent, "de")).action == "routed"


class Asked:
    """A Service over the version: what it records of whole replies and of streams."""

    def __init__(self) -> None:
        self.sink = ListSink()
        self.context = context()
        self.service = Service(self.context, self.sink, routing=RoutingContext(0.9, joint=True))

    async def record(self, language: str = "en", stream: bool = False, **resolved: Any) -> DecisionRecord:
        query = Query.from_prompt("why?", language=language)
        request = self.service.open(query, "auto", stream, RequestOptions(**resolved))
        if stream:
            assert [chunk async for chunk in self.service.stream(request)]
        else:
            await self.service.answer(request)
        return self.sink.records[-1]


async def test_records_claim_a_promise_where_there_is_one() -> None:
    asked = Asked()
    assert (await asked.record()).evidence["promised"] == 0.9
    assert (await asked.record()).evidence["promised_of"] == "answers"
    assert (await asked.record("de")).evidence["promised"] is None


async def test_thresholds_certified_together_promise_nothing_where_they_may_not_abstain() -> None:
    """The last tier is shown as it speaks in a stream: what the certificate counts as silence is then an answer."""
    asked = Asked()
    assert (await asked.record(stream=True)).evidence["promised"] is None
    assert (await asked.record(abstain="forbid")).evidence["promised"] is None
    loud = replace(asked.context, policy=asked.context.policy.without_abstention())
    asked.service = Service(loud, asked.sink, routing=RoutingContext(0.9, joint=True))
    assert (await asked.record(stream=True)).evidence["promised"] == 0.9


@pytest.mark.parametrize("wish", [{"stream": True}, {"abstain": "forbid"}])
async def test_a_quality_floor_is_not_met_by_a_promise_that_counts_on_silence(wish: dict[str, Any]) -> None:
    asked = Asked()
    assert (await asked.record(quality_floor=0.9)).tier == "cheap"
    unmet = await asked.record(quality_floor=0.9, **wish)
    assert (unmet.tier, unmet.outcome) == ("frontier", "routed")
    assert "abstentions were counted on" in unmet.route_reason


async def test_nobody_judges_the_last_tier_where_nothing_is_promised() -> None:
    made, judged = context(), list[str]()

    class Counts(VersionPolicy):
        async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
            judged.append(decision.tier)
            return await super().judge(query, completion, decision)

    counted = replace(made, judge=Counts())
    await asked(counted, "de")
    assert judged == []
    await asked(counted, "en")
    assert judged == ["cheap"]


def test_what_a_ladder_promises_of_harm_is_served_as_a_promise_of_cheap_answers() -> None:
    from serve_graph.policy.served_policy import ServedPolicy  # imports ray.serve

    version = VersionPolicy().version
    assert version.certificate is not None
    made = replace(version.certificate, what=HARM_RISK, settings={"cheap.accept_at": 0.5})
    assert made.joint
    tier = {"engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    tiers = [{"name": "cheap", **tier}, {"name": "frontier", **tier}]
    config = GraphConfig.model_validate({"tiers": tiers, "policy": {"safe_tier": "frontier"}})
    served = ServedPolicy.of(replace(version, certificate=made), "router/1", made.summary(), config)
    assert (served.promised, served.joint, served.harm) == (0.9, False, True)
    assert served.headline[0].startswith(f"{HARM_RISK} <= 0.1 in each certified slice: 2 of 100 on CERT")


def test_a_configuration_that_forbids_abstaining_voids_what_counts_on_it() -> None:
    from serve_graph.policy.served_policy import ServedPolicy  # imports ray.serve

    version = VersionPolicy().version
    tier = {"engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    given: dict[str, Any] = {"tiers": [{"name": "cheap", **tier}, {"name": "frontier", **tier}]}
    for abstain, promised in (("allow", 0.9), ("forbid", None)):
        config = GraphConfig.model_validate(given | {"policy": {"safe_tier": "frontier", "abstain": abstain}})
        served = ServedPolicy.of(version, "router/1", "P(wrong | answered) <= 0.1", config)
        assert (served.promised, served.joint, served.certified) == (promised, True, promised is not None)
        assert ("policy.abstain is forbid" in served.promise) is (promised is None)
