"""A version whose proof is gone, over, of an earlier kind or rejected in review is named; the last tier answers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router_models.data.artifacts import MANIFEST, seal
from router_models.errors import ArtifactError
from router_models.versions.registry import RegisteredVersion, poll_review, register, set_review, set_tags
from router_models.versions.review import review_tags
from serve_graph.cli.local.doctor import examine
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.serving_version import Served, serving_folder, serving_version
from tests.fixtures.registry import echo_graph, sealed_version

MADE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def graph(tmp_path: Path) -> GraphConfig:
    return echo_graph(tmp_path)


def sealed(graph: GraphConfig, folder: Path) -> Path:
    return sealed_version(graph, folder, MADE)


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


@pytest.fixture
def registered(graph: GraphConfig, tmp_path: Path, new_registry: Callable[[Path], str]) -> RegisteredVersion:
    """A version that holds, at `stable`, reviewed by nobody."""
    new_registry(graph.state_folder / "mlflow.db")
    return register(
        graph.registry_uri, graph.policy.model_name, sealed(graph, tmp_path / "v"), params={}, metrics={}, tags={},
        alias="stable", artifacts_folder=tmp_path / "artifacts",
    )  # fmt: skip


def asking_for(graph: GraphConfig, version: str) -> GraphConfig:
    return graph.model_copy(update={"policy": graph.policy.model_copy(update={"version": version})})


def test_a_version_serves_by_alias_number_and_folder_while_it_is_approved_and_no_longer(
    graph: GraphConfig, registered: RegisteredVersion, tmp_path: Path
) -> None:
    def served() -> list[Served]:
        by_name = [serving_version(asking_for(graph, wanted), now=MADE) for wanted in ("stable", "1")]
        return [*by_name, serving_folder(graph, tmp_path / "v")]

    for word, said in (
        (None, "is not reviewed"),
        ("proposed", "is proposed and not approved"),
        ("rejected", "was rejected in review"),
        ("yes", "says 'yes'"),
    ):
        if word is not None:
            set_tags(graph.registry_uri, registered.model, registered.number, {"review": word})
        for found in served():
            assert (found.version, found.folder, found.refused) == (None, None, True)
            assert f"{registered.name} " in found.reason
            assert said in found.reason
            assert "`serve-graph versions approve 1" in found.reason
    set_review(registered, review_tags("approved", "anna", MADE, "read the report"))
    assert [found.name for found in served()[:2]] == [registered.name] * 2
    late = serving_version(graph, now=MADE + timedelta(days=91))
    assert late.reason.startswith(registered.name)
    assert "expired" in late.reason
    assert "`serve-graph certify`" in late.reason
    set_tags(graph.registry_uri, registered.model, registered.number, {"Review": "rejected"})
    assert "contradict each other" in serving_version(graph, now=MADE).reason


def test_a_withdrawn_approval_and_a_moved_alias_show_at_the_next_poll(
    graph: GraphConfig, registered: RegisteredVersion
) -> None:
    def polled(wanted: str = "stable") -> tuple[str, str] | None:
        seen = poll_review(graph.registry_uri, registered.model, wanted)
        return None if seen is None else (seen[0], seen[1].state)

    assert (polled(), polled("canary")) == ((registered.name, "none"), None)
    set_review(registered, review_tags("approved", "anna", MADE, "read the report"))
    assert polled() == (registered.name, "approved")
    set_tags(graph.registry_uri, registered.model, registered.number, {"review": "rejected"})
    assert polled() == polled("1") == (registered.name, "rejected")


def test_files_that_nobody_registered_are_not_served(
    graph: GraphConfig, tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    found = serving_folder(graph, sealed(graph, tmp_path / "v"))
    assert found.version is None
    assert "no version that was registered" in found.reason


def test_doctor_fails_where_a_version_is_refused(graph: GraphConfig, registered: RegisteredVersion) -> None:
    [finding] = [found for found in examine(graph) if found.check == "router version"]
    assert not finding.ok
    assert f"{registered.name} is not reviewed" in finding.detail
