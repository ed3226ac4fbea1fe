"""A version whose proof is gone, over, of an earlier kind or rejected in review is named; the last tier answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router_models.data.artifacts import MANIFEST, seal
from router_models.errors import ArtifactError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificate import ACCEPTED_RISK, Certificate, LabelSource
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.registry import register, set_tags
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import tier_binds, tier_prices
from serve_graph.policy.serving_version import serving_version

MADE = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


@pytest.fixture
def graph(tmp_path: Path) -> GraphConfig:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    return GraphConfig.model_validate({"tiers": tiers, "state_folder": tmp_path / "state"})


def sealed(graph: GraphConfig, folder: Path) -> Path:
    bare = RouterVersion(
        Policy(graph.tier_names, {"cheap": OperatingPoint(0.5, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
    )
    proof = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=300, accepted_n=200, errors=9, upper=0.08,
        threshold=0.5, label_source=LabelSource.PROGRAMMATIC, made_at=MADE, expires_at=MADE + timedelta(days=90),
        binds={**tier_binds(graph), **bare.binds(tier_prices(graph, MADE))},
    )  # fmt: skip
    replace(bare, certificate=proof).save(folder)
    return folder


def resealed(folder: Path, change: Callable[[Path], object]) -> Path:
    """The folder after a change, with a manifest that fits it."""
    change(folder)
    (folder / MANIFEST).unlink()
    seal(folder)
    return folder


def former(folder: Path) -> None:
    path = folder / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))


def test_a_version_that_holds_is_served(graph: GraphConfig, tmp_path: Path) -> None:
    served = serving_version(graph, sealed(graph, tmp_path / "v"), MADE)
    assert served.version is not None


@pytest.mark.parametrize(
    ("change", "days", "reason"),
    [
        (lambda folder: (folder / "certificate.json").unlink(), 0, "carries no certificate"),
        (former, 0, "certificate format 1: made when every copy of a prompt counted"),
        (lambda folder: None, 90, "expired at 2026-04-01"),
    ],
    ids=["no certificate", "an earlier format", "expired"],
)
def test_a_version_without_a_valid_certificate_is_refused_with_the_reason(
    graph: GraphConfig, tmp_path: Path, change: Callable[[Path], object], days: int, reason: str
) -> None:
    folder = resealed(sealed(graph, tmp_path / "v"), change)
    served = serving_version(graph, folder, MADE + timedelta(days=days))
    assert served.version is None
    assert reason in served.reason


def test_every_file_that_is_missing_is_named(graph: GraphConfig, tmp_path: Path) -> None:
    for name in sorted(path.name for path in sealed(graph, tmp_path / "v").iterdir()):
        folder = sealed(graph, tmp_path / f"without {name}")
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=name):
            serving_version(graph, folder, MADE)


def test_a_prefix_verifier_without_its_certificate_is_refused(graph: GraphConfig, tmp_path: Path) -> None:
    def forget(folder: Path) -> None:
        path = folder / "policy.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps(data | {"prefix_families": data["families"]}))

    folder = resealed(sealed(graph, tmp_path / "v"), forget)
    with pytest.raises(ArtifactError, match="judges the first tokens of 'cheap' without a certificate"):
        serving_version(graph, folder, MADE)


def test_a_version_that_was_rejected_in_review_is_not_served_even_as_stable(
    graph: GraphConfig, tmp_path: Path
) -> None:
    made = register(
        graph.registry_uri, graph.policy.model_name, sealed(graph, tmp_path / "v"), params={}, metrics={},
        tags={"status": "approved"}, alias="stable", artifacts_folder=tmp_path / "artifacts",
    )  # fmt: skip
    assert serving_version(graph, now=MADE).name == made.name
    set_tags(graph.registry_uri, made.model, made.number, {"status": "rejected"})
    served = serving_version(graph, now=MADE)
    assert served.version is None
    assert f"{made.name} was rejected in review" in served.reason
    late = MADE + timedelta(days=91)
    set_tags(graph.registry_uri, made.model, made.number, {"status": "approved"})
    assert serving_version(graph, now=late).reason.startswith(made.name)
