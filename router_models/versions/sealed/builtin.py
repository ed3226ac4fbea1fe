"""The version that is there before any was trained."""

from __future__ import annotations

from pathlib import Path

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage


def builtin_version(tiers: tuple[str, ...], folder: Path) -> Path:
    """An uncertified version for tests and benches: prompt length routes, non-empty answers pass.

    Written to `folder` once; returns the folder. It promises nothing, and its name says so.
    """
    path = folder / "builtin-uncertified"
    if not path.exists():
        stages = {tier: Stage(LengthRouter(), None, NonEmptyVerifier(), None) for tier in tiers[:-1]}
        points = {tier: OperatingPoint(route_at=0.2, accept_at=0.5) for tier in tiers[:-1]}
        RouterVersion(Policy(tiers, points), stages).save(path)
    return path
