"""What is replayed is what is served and billed: batch prices, and slices with thresholds of their own."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.planning.simulation.arrivals import Arrivals
from router_models.planning.simulation.itineraries import always_itineraries, version_itineraries
from router_models.planning.simulation.scenario import Circumstances, replay
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import Action, Completion, OperatingPoint, Query
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

TIERS = ("cheap", "frontier")


@pytest.fixture
def table() -> OutcomeTable:
    columns = {"prompt": ["a question", "another one"], "domain": ["law", "art"]}
    for tier in TIERS:
        columns |= {tier: [1.0, 1.0], f"{tier}_answer": ["Yes.", "No."], f"{tier}_latency_s": [1.0, 1.0]}
        columns |= {f"{tier}_prompt_tokens": [100, 100], f"{tier}_completion_tokens": [10, 10]}
    return table_of(parse_columns(pd.DataFrame(columns), TIERS))


def test_traffic_that_may_wait_is_billed_at_batch_prices(table: OutcomeTable) -> None:
    price = Price(Decimal(1), Decimal(2))
    given = Circumstances(Arrivals(1.0), 10, {"cheap": 1})

    def cost(terms: TierCosts) -> Decimal:
        ways = {"always": always_itineraries("cheap", len(table))}
        return replay(table, {"cheap": terms}, ways, given, [0])["always"][0].cost_usd

    assert cost(TierCosts(price)) == 10 * Decimal("0.00012")
    assert cost(TierCosts(price, batch_factor=0.5, batch_share=0.2)) == 9 * Decimal("0.00012")


def test_a_slice_without_proof_is_escalated_as_when_served(table: OutcomeTable) -> None:
    held = Promise(ACCEPTED_RISK, 0.1, 0.05, 100, 2, 0.06, 0.5)
    open_ = Promise(ACCEPTED_RISK, 0.1, 0.05, 0, 0, 1.0, math.inf)
    made = datetime(2026, 1, 5, tzinfo=UTC)
    certificate = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=200, accepted_n=100, errors=2, upper=0.06,
        threshold=0.5, label_source=LabelSource.HUMAN, made_at=made, expires_at=made.replace(year=2027), binds={},
        slices={"law": held, "art": open_},
    )  # fmt: skip
    stages = {"cheap": Stage(ConstantRouter(0.9), None, NonEmptyVerifier(), None)}
    policy = Policy(TIERS, {"cheap": OperatingPoint(0.1, 0.5)})
    version = RouterVersion(policy, stages, certificate, slicer="domain")
    ways = version_itineraries(version, table)
    assert [way.action for way in ways] == [Action.ACCEPTED, Action.ESCALATED]
    for way, text, domain in zip(ways, table.prompts.texts, table.column("domain"), strict=True):
        query = Query.from_prompt(text, domain=domain)
        served = version.judge(query, Completion("Yes."), version.decide(query))
        assert way.action is served.action
