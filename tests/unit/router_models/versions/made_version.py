"""A small certified version."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.pricing.prices import Price
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import OperatingPoint, Query
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

MADE = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = {"cheap": Price(Decimal(1), Decimal(2)), "frontier": Price(Decimal(10), Decimal(20))}
QUERIES = [Query.from_prompt(text) for text in ("short", "a longer question " * 20, "x" * 2000, "", "naïve ☃\n")]


def certificate(**fields: object) -> Certificate:
    made = Certificate(
        what=ACCEPTED_RISK,
        epsilon=0.1,
        delta=0.1,
        level=0.1,
        n=300,
        accepted_n=200,
        errors=9,
        upper=0.08,
        threshold=0.7,
        label_source=LabelSource.PROGRAMMATIC,
        made_at=MADE,
        expires_at=MADE + timedelta(days=90),
        binds={},
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def version(stage: Stage | None = None, **fields: object) -> RouterVersion:
    rng = np.random.default_rng(0)
    scores, grades = rng.random(300), (rng.random(300) < 0.6).astype(float)
    platt = CALIBRATORS["platt"]().fit(scores, grades)
    stages = {"cheap": stage or Stage(LengthRouter(), platt, NonEmptyVerifier(), platt)}
    points = {"cheap": OperatingPoint(0.5, 0.7, 0.1), "frontier": OperatingPoint(math.inf, 0.0, 0.05)}
    return RouterVersion(Policy(("cheap", "frontier"), points), stages, certificate(), **fields)  # type: ignore[arg-type]
