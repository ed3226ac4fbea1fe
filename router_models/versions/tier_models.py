"""The models of one tier, and how they are told apart and read back from a version's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router_models.data.artifacts import load_state
from router_models.errors import ArtifactError
from router_models.estimators.calibrators.base import ScoreCalibrator
from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import ROUTERS, RouterModel
from router_models.estimators.verifiers import VERIFIERS, VerifierModel


@dataclass(frozen=True)
class Stage:
    """The models of one tier: raw scores, and the calibrators that make them probabilities (None = as they are)."""

    router: RouterModel | None
    router_calibrator: ScoreCalibrator | None
    verifier: VerifierModel
    verifier_calibrator: ScoreCalibrator | None


def parts_of(stage: Stage) -> dict[str, RouterModel | VerifierModel | ScoreCalibrator | None]:
    """Everything of a tier that is learned, by what it does."""
    return {
        "router": stage.router,
        "router_calibrator": stage.router_calibrator,
        "verifier": stage.verifier,
        "verifier_calibrator": stage.verifier_calibrator,
    }


def prefix_named(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The same stages under the names that their files begin with."""
    return {f"{tier}.prefix": stage for tier, stage in stages.items()}


def families_of(stages: Mapping[str, Stage]) -> dict[str, dict[str, str | None]]:
    """The registry names of every tier's models, as policy.json keeps them; None where there is none."""
    return {
        tier: {what: None if part is None else part.family for what, part in parts_of(stage).items()}
        for tier, stage in stages.items()
    }


def load_stage(folder: Path, tier: str, families: Mapping[str, str | None]) -> Stage:
    """Read one tier's models; raises ArtifactError for families that this release does not know."""

    def part(what: str, registry: Mapping[str, type]) -> object:
        family = families.get(what)
        if family is None:
            return None
        if family not in registry:
            raise ArtifactError(f"{folder}: unknown {what} family {family!r}; known: {', '.join(registry)}")
        return registry[family].from_state(load_state(folder, f"{tier}.{what}"))  # type: ignore[attr-defined]

    if families.get("verifier") is None:
        raise ArtifactError(f"{folder}: tier {tier!r} has no verifier")
    return Stage(
        part("router", ROUTERS),  # type: ignore[arg-type]
        part("router_calibrator", CALIBRATORS),  # type: ignore[arg-type]
        part("verifier", VERIFIERS),  # type: ignore[arg-type]
        part("verifier_calibrator", CALIBRATORS),  # type: ignore[arg-type]
    )
