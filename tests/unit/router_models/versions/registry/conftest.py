"""A registry, and what registers small versions in it."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.registry import (
    RegisteredVersion,
    register,
)
from router_models.versions.router_version import RouterVersion, Stage
from tests.unit.router_models.versions.registry.registering import MODEL, Register


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> str:
    """One SQLite registry for the module."""
    return new_registry(tmp_path_factory.mktemp("registries") / "mlflow.db")


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return f"{MODEL}-{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture
def registered(uri: str, model: str, tmp_path: Path) -> Register:
    """Register a small version; `p` makes them differ."""

    def make(p: float = 0.5, alias: str | None = None, report: str | None = None) -> RegisteredVersion:
        folder = tmp_path / f"made-{p}"
        points = {"cheap": OperatingPoint(math.inf, 0.5)}
        made = RouterVersion(
            Policy(("cheap", "frontier"), points), {"cheap": Stage(ConstantRouter(p), None, NonEmptyVerifier(), None)}
        )
        extra = None
        if report is not None:
            extra = tmp_path / "report"
            extra.mkdir()
            (extra / "report.md").write_text(report)
        made.save(folder, extra)
        return register(
            uri,
            model,
            folder,
            params={"router": "constant"},
            metrics={"accepted": 0.4},
            tags={"dataset": "abc"},
            alias=alias,
            artifacts_folder=tmp_path / "artifacts",
        )

    return make
