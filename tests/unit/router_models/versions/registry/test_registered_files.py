"""Files of a registered version: as they were registered, or refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from router_models.data.artifacts import seal
from router_models.errors import ArtifactError, RegistryError
from router_models.estimators.routers import ConstantRouter
from router_models.versions.registry import (
    list_versions,
    register,
)
from router_models.versions.router_version import RouterVersion
from tests.unit.router_models.versions.registry.registering import Register


def test_downloaded_files_are_what_was_registered(registered: Register, tmp_path: Path) -> None:
    made = registered(0.37)
    folder = made.folder(tmp_path / "cache")
    loaded = RouterVersion.load(folder, made.name)
    stage = loaded.stages["cheap"]
    assert isinstance(stage.router, ConstantRouter)
    assert stage.router.p_ == 0.37
    assert loaded.digest == made.tags["manifest_sha256"]


def test_second_use_reads_the_cache(registered: Register, tmp_path: Path) -> None:
    made = registered()
    folder = made.folder(tmp_path / "cache")
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    for path in (tmp_path / "artifacts").rglob("manifest.json"):
        path.unlink()
    assert made.folder(tmp_path / "cache") == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]


def stored(tmp_path: Path, name: str) -> Path:
    [path] = (tmp_path / "artifacts").rglob(name)
    return path


def test_file_altered_in_the_registry_is_named(registered: Register, tmp_path: Path) -> None:
    made = registered()
    path = stored(tmp_path, "policy.json")
    path.write_text(path.read_text().replace("0.5", "0.1"))
    with pytest.raises(ArtifactError, match=r"policy\.json: altered"):
        made.folder(tmp_path / "cache")
    assert not any(p.is_dir() for p in (tmp_path / "cache").iterdir())


def test_file_altered_and_sealed_again_is_still_not_what_was_registered(registered: Register, tmp_path: Path) -> None:
    made = registered()
    path = stored(tmp_path, "policy.json")
    path.write_text(path.read_text().replace("0.5", "0.1"))
    seal(path.parent)
    with pytest.raises(ArtifactError, match="differs from the one that was registered"):
        made.folder(tmp_path / "cache")


@pytest.mark.parametrize("sealed_again", [False, True])
def test_file_altered_in_the_cache_is_refused(registered: Register, tmp_path: Path, sealed_again: bool) -> None:
    made = registered()
    folder = made.folder(tmp_path / "cache")
    (folder / "policy.json").write_text(json.dumps({}))
    if sealed_again:
        seal(folder)
    with pytest.raises(ArtifactError):
        made.folder(tmp_path / "cache")


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        (None, "tag manifest_sha256 is missing"),
        ("", "tag manifest_sha256 is empty"),
        ("none", "tag manifest_sha256 is no sha256"),
        ("0" * 64, "differs from the one that was registered"),
    ],
)
def test_a_version_whose_tag_does_not_say_which_files_it_has_is_refused_by_name(
    registered: Register, tmp_path: Path, tag: str | None, said: str
) -> None:
    made = registered()
    tags = {name: value for name, value in made.tags.items() if name != "manifest_sha256"}
    other = replace(made, tags=tags if tag is None else {**tags, "manifest_sha256": tag})
    for cache in ("new", "filled"):
        if cache == "filled":
            made.folder(tmp_path / cache)
        with pytest.raises(ArtifactError) as caught:
            other.folder(tmp_path / cache)
        assert str(caught.value).startswith(f"{made.name}: ")
        assert said in str(caught.value)


def slip_in_a_certificate(folder: Path) -> None:
    (folder / "certificate.json").write_text("{}")


def add_a_file(folder: Path) -> None:
    (folder / "plugin.py").write_text("raise SystemExit")


def remove_a_file(folder: Path) -> None:
    (folder / "cheap.router.npz").unlink()


@pytest.mark.parametrize("sealed_again", [False, True])
@pytest.mark.parametrize("change", [slip_in_a_certificate, add_a_file, remove_a_file])
def test_files_that_came_or_went_in_the_registry_are_refused(
    registered: Register, tmp_path: Path, change: Callable[[Path], None], sealed_again: bool
) -> None:
    made = registered()
    folder = stored(tmp_path, "policy.json").parent
    change(folder)
    if sealed_again:
        seal(folder)
    with pytest.raises(ArtifactError):
        made.folder(tmp_path / "cache")


def test_files_gone_from_the_registry_are_a_registry_error(registered: Register, tmp_path: Path) -> None:
    made = registered()
    for path in sorted((tmp_path / "artifacts").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises((RegistryError, ArtifactError)):
        made.folder(tmp_path / "cache")


def test_damaged_folder_is_never_registered(uri: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(ArtifactError, match="incomplete"):
        register(uri, model, tmp_path / "half", params={}, metrics={}, tags={})
    assert list_versions(uri, model) == []
