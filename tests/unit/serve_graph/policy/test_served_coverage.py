"""What the served version's certificate covers, as the server goes by it, with the tiers' own settings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import DecisionRecord, OperatingPoint, Prompts, Query
from router_models.types.coverage import Coverage
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cascade.fakes import ListSink, fake_context
from serve_graph.cluster.policy_client import HandlePolicy
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.gateway.handler import Service
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import VersionFiles
from serve_graph.policy.validity import CertificateStatus, Validity
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.upstream import DirectHandle

MADE = datetime(2026, 1, 5, tzinfo=UTC)
COVERAGE = Coverage(decodings=("", '{"temperature":0.7}'), novelty=0.8, n=200)
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
FAR = 1.04


class Measured(ConstantRouter):
    """A router that knows its training data: prompts that say "novel" lie far from it."""

    def distance(self, X: Prompts) -> np.ndarray:
        return np.array([FAR if "novel" in text else 0.3 for text in X.texts])


class Asked:
    """A service over fakes, as a configuration wants it, whose router is a deployed version."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        greedy = {"engine": "echo", "price": PRICE, "decoding": {"temperature": 0.0}, "default_max_tokens": 64}
        tiers = [{"name": "cheap", **greedy}, {"name": "frontier", **greedy, "default_max_tokens": 128}]
        config = GraphConfig.model_validate({"tiers": tiers, "policy": policy})
        certificate = Certificate(
            ACCEPTED_RISK, 0.1, 0.1, 0.1, 200, 100, 2, 0.05, 0.5, LabelSource.HUMAN, MADE, MADE + timedelta(days=90),
            {}, coverage=COVERAGE,
        )  # fmt: skip
        stage = Stage(Measured(0.9), None, NonEmptyVerifier(), None)
        points = {"cheap": OperatingPoint(0.5, 0.5)}
        version = RouterVersion(Policy(config.tier_names, points), {"cheap": stage}, certificate)
        version.save(folder / "version")
        files = VersionFiles("router/1", str(folder / "version"), Validity())
        deployment = PolicyDeployment(files, config.policy.uncovered)
        held = deployment.held.loaded["router/1"]
        measured = replace(held.version, stages={"cheap": stage})  # as loaded it measures no distance
        deployment.held.loaded["router/1"] = replace(held, version=measured)
        served = ServedPolicy.of(measured, "router/1", "P <= 0.1", config)
        self.sink = ListSink()
        self.routing = routing_context_for(config, served, CertificateStatus())
        decider = HandlePolicy(DirectHandle(deployment), "router", "router/1", 2.0)  # type: ignore[arg-type]
        self.service = Service(
            replace(fake_context(), decider=decider),
            self.sink,
            routing=self.routing,
        )

    async def ask(self, prompt: str, floor: float | None = None, **parameters: Any) -> DecisionRecord:
        query = replace(Query.from_prompt(prompt), parameters=parameters)
        options = RequestOptions(quality_floor=floor)
        await self.service.answer(self.service.open(query, "auto", False, options))
        return self.sink.records[-1]


async def test_requests_are_compared_with_the_certificate_on_top_of_the_tiers_own_settings(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    assert asked.routing.coverage == COVERAGE
    covered: list[dict[str, Any]] = [{}, {"temperature": 0}, {"temperature": 0.7}, {"max_tokens": 128}]
    for parameters in covered:
        record = await asked.ask("What is 2 + 2?", **parameters)
        assert (record.outcome, record.evidence["promised"]) == ("accepted", 0.9), parameters
    for reason, parameters in (("decoding", {"temperature": 1.0}), ("max_tokens", {"max_tokens": 127})):
        record = await asked.ask("What is 2 + 2?", **parameters)
        assert (record.tier, record.evidence["uncovered"]) == ("frontier", reason)


@pytest.mark.parametrize(
    ("uncovered", "floor", "became"),
    [
        ("last_tier", None, ("frontier", "routed")),
        ("last_tier", 0.5, ("frontier", "routed")),
        ("route", None, ("cheap", "accepted")),
        ("route", 0.5, ("frontier", "routed")),
    ],
)
async def test_what_the_version_itself_finds_novel_is_answered_as_the_configuration_says(
    uncovered: str, floor: float | None, became: tuple[str, str], tmp_path: Path
) -> None:
    asked = Asked(tmp_path, uncovered=uncovered)
    near, novel = await asked.ask("near", floor), await asked.ask("novel", floor)
    assert (near.tier, near.outcome, near.evidence["promised"]) == ("cheap", "accepted", 0.9)
    assert (novel.tier, novel.outcome) == became
    assert (novel.evidence["promised"], novel.evidence["uncovered"]) == (None, "novelty")
    assert novel.route_reason.count("lies 1.04 from the training data") == (1 if floor is None else 2)
