"""A version is saved and loaded as it was, sealed, and refused where anything of it was changed."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from router_models.data.artifacts import seal
from router_models.data.features import FEATURES_VERSION
from router_models.errors import ArtifactError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.pricing.prices import Price
from router_models.types import Completion, OperatingPoint
from router_models.types.coverage import Coverage
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.digest import models_digest
from tests.unit.router_models.versions.made_version import PRICES, QUERIES, certificate, version


def behaviour(of: RouterVersion) -> list[object]:
    """Everything a version says about some queries and answers."""
    said: list[object] = []
    for query in QUERIES:
        decision = of.decide(query)
        said.append(decision)
        for text in ("an answer", ""):
            said += [of.judge(query, Completion(text), replace(decision, tier=tier)) for tier in of.policy.tiers]
    return said


def test_saved_and_loaded_version_behaves_the_same(tmp_path: Path) -> None:
    made = version()
    digest = made.save(tmp_path / "v1")
    loaded = RouterVersion.load(tmp_path / "v1", "router/1")
    assert behaviour(loaded) == behaviour(made)
    assert loaded.policy == made.policy
    assert loaded.certificate == made.certificate
    assert (loaded.name, loaded.digest) == ("router/1", digest)
    assert models_digest(loaded) == models_digest(made)


def test_loaded_version_saves_to_the_same_hash(tmp_path: Path) -> None:
    first = version().save(tmp_path / "a")
    assert RouterVersion.load(tmp_path / "a").save(tmp_path / "b") == first


def test_uncertified_version_has_no_certificate(tmp_path: Path) -> None:
    replace(version(), certificate=None).save(tmp_path / "v")
    assert RouterVersion.load(tmp_path / "v").certificate is None


def test_the_report_is_sealed_with_the_version(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# Report")
    version().save(tmp_path / "v", extra=tmp_path / "report")
    assert "report.md" in json.loads((tmp_path / "v" / "manifest.json").read_text())


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    version().save(tmp_path / "v")
    with pytest.raises(ArtifactError, match="never replaced"):
        version().save(tmp_path / "v")


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Unsaveable(ConstantRouter):
        def state(self):  # type: ignore[no-untyped-def]
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        version(Stage(Unsaveable(), None, NonEmptyVerifier(), None)).save(tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_no_file_of_a_version_is_a_pickle(tmp_path: Path) -> None:
    version().save(tmp_path / "v")
    assert {path.suffix for path in (tmp_path / "v").iterdir()} == {".json", ".npz"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    version().save(tmp_path / "v")
    return tmp_path / "v"


@pytest.mark.parametrize(
    "name", ["policy.json", "certificate.json", "cheap.router.json", "cheap.verifier_calibrator.json"]
)
@pytest.mark.parametrize("harm", ["alter", "cut", "remove"])
def test_a_damaged_file_is_named(saved: Path, name: str, harm: str) -> None:
    data = (saved / name).read_bytes()
    if harm == "remove":
        (saved / name).unlink()
    else:
        (saved / name).write_bytes(data[:-1] if harm == "cut" else data.replace(b"0", b"1", 1) + b" ")
    with pytest.raises(ArtifactError, match=name):
        RouterVersion.load(saved)


def test_a_half_written_version_is_refused(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="incomplete"):
        RouterVersion.load(saved)


def test_a_certificate_slipped_in_after_sealing_is_refused(tmp_path: Path) -> None:
    replace(version(), certificate=None).save(tmp_path / "v")
    (tmp_path / "v" / "certificate.json").write_text(json.dumps(certificate().to_json()))
    with pytest.raises(ArtifactError, match=r"certificate\.json: added after"):
        RouterVersion.load(tmp_path / "v")


def tampered(folder: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Change policy.json and seal again: what only a sealed lie can look like."""
    path = folder / "policy.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    seal(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d.update(features_version=FEATURES_VERSION + 1), "retrain"),
        (lambda d: d["families"]["cheap"].update(router="no-such-family"), "no-such-family"),
        (lambda d: d.pop("tiers"), "not a router version"),
        (lambda d: d.update(tiers=[]), "not a router version"),
        (lambda d: d.update(tiers=5), "not a router version"),
        (lambda d: d.update(points={"nowhere": [0, 0, None]}), "nowhere"),
        (lambda d: d["points"].update(cheap=[0.5]), "not a router version"),
        (lambda d: d["points"].update(cheap=["high", 1, None]), "not a router version"),
        (lambda d: d.update(families=None), "not a router version"),
        (lambda d: d["families"].update(cheap={}), "has no verifier"),
    ],
    ids=[
        "features",
        "family",
        "no tiers",
        "empty ladder",
        "ladder",
        "tier",
        "point",
        "word",
        "families",
        "no verifier",
    ],
)
def test_a_version_this_release_does_not_understand_is_refused(
    saved: Path, change: Callable[[dict[str, object]], object], word: str
) -> None:
    with pytest.raises(ArtifactError, match=word):
        RouterVersion.load(tampered(saved, change))


def test_infinite_thresholds_survive(saved: Path) -> None:
    assert RouterVersion.load(saved).policy.points["frontier"].route_at == math.inf


def test_binds_name_models_encoder_prices_and_thresholds() -> None:
    before = version().binds(PRICES)
    assert set(before) == {"models", "encoder", "prices", "thresholds", "coverage"}
    dearer = PRICES | {"cheap": Price(Decimal(2), Decimal(2))}
    other = version(Stage(ConstantRouter(0.3), None, NonEmptyVerifier(), None))
    moved = version()
    moved = replace(moved, policy=Policy(moved.policy.tiers, {"cheap": OperatingPoint(0.4, 0.7)}))
    for changed, name in (
        (version().binds(dearer), "prices"),
        (other.binds(PRICES), "models"),
        (moved.binds(PRICES), "thresholds"),
        (replace(version(), certificate=certificate(coverage=Coverage(turns=2))).binds(PRICES), "coverage"),
    ):
        assert {key for key in before if before[key] != changed[key]} == {name}
