import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from router_models.data.artifacts import seal
from router_models.errors import ArtifactError, RegistryError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint
from router_models.versions.label_looks import LOOKS, record_look
from router_models.versions.mlflow_client import MOST_AT_ONCE, log_values, registry_client, without_password
from router_models.versions.policy import Policy
from router_models.versions.registry import (
    MANIFEST_TAG,
    RegisteredVersion,
    find_sealed,
    find_version,
    list_versions,
    register,
    set_alias,
    set_tags,
)
from router_models.versions.router_version import RouterVersion, Stage

MODEL = "test-router"
Register = Callable[..., RegisteredVersion]


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


def test_registered_version_is_found_by_number_and_alias(uri: str, model: str, registered: Register) -> None:
    made = registered(alias="stable")
    assert made.name == f"{model}/1"
    assert made.aliases == ("stable",)
    for wanted in ("stable", "1"):
        found = find_version(uri, model, wanted)
        assert found == made


def test_registered_version_carries_tags_and_its_hash(registered: Register) -> None:
    tags = registered().tags
    assert tags["dataset"] == "abc"
    assert len(tags["manifest_sha256"]) == 64


def test_more_values_than_a_request_takes_are_all_logged(uri: str) -> None:
    client = registry_client(uri)
    run = client.create_run("0").info.run_id
    n = 2 * MOST_AT_ONCE + 1
    params, metrics = {f"p{i}": str(i) for i in range(MOST_AT_ONCE + 1)}, {f"m{i}": i / 7 for i in range(n)}
    log_values(client, run, params, metrics)
    log_values(client, run, {}, {})
    kept = client.get_run(run).data
    assert (kept.params, kept.metrics) == (params, metrics)


def test_looks_are_counted_for_each_data_set_deleted_ones_included(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    assert [record_look(uri, "a" * 64, (), {}, tmp_path) for _ in range(3)] == [1, 2, 3]
    assert record_look(uri, "b" * 64, (), {"epsilon": "0.1"}) == 1
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(LOOKS)
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        client.delete_run(run.info.run_id)
    assert record_look(uri, "a" * 64, (), {}) == 4


def test_a_look_counts_wherever_one_label_was_read_before(uri: str, tmp_path: Path) -> None:
    def look(dataset: str, *labels: str) -> int:
        return record_look(uri, dataset * 64, labels, {}, tmp_path)

    assert look("c", "l1", "l2") == 1
    assert look("d", "l2", "l3") == 2  # rows were added: another data set, one label in common
    assert look("e", "l3", "l4") == 2
    assert look("f", "l5") == 1
    assert look("c", "l1", "l2") == 3  # itself, again, and the one with l2


def test_alias_moves_to_the_next_version(uri: str, model: str, registered: Register) -> None:
    registered(0.4, alias="stable")
    second = registered(0.6, alias="stable")
    found = find_version(uri, model, "stable")
    assert found is not None
    assert found.number == second.number == "2"
    first = find_version(uri, model, "1")
    assert first is not None
    assert first.aliases == ()
    set_alias(uri, model, "stable", "1")
    back = find_version(uri, model, "stable")
    assert back is not None
    assert back.number == "1"


def test_versions_are_listed_newest_first(uri: str, model: str, registered: Register) -> None:
    registered(0.4)
    registered(0.6, alias="canary")
    assert [(v.number, v.aliases) for v in list_versions(uri, model)] == [("2", ("canary",)), ("1", ())]


def test_a_list_asks_for_the_aliases_once_and_takes_every_page(
    uri: str, model: str, registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share in (0.4, 0.5, 0.6):
        registered(share)
    set_alias(uri, model, "shadow", "2")
    asked = list[str]()
    searched, read = MlflowClient.search_model_versions, MlflowClient.get_registered_model

    def two_at_a_time(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        asked.append("page")
        return searched(self, *args, **kwargs, max_results=2)

    def counted(self: MlflowClient, name: str) -> Any:
        asked.append("model")
        return read(self, name)

    monkeypatch.setattr(MlflowClient, "search_model_versions", two_at_a_time)
    monkeypatch.setattr(MlflowClient, "get_registered_model", counted)
    found = list_versions(uri, model)
    assert [(v.number, v.aliases) for v in found] == [("3", ()), ("2", ("shadow",)), ("1", ())]
    assert asked == ["page", "page", "model"]


def test_a_version_is_found_by_its_files(uri: str, model: str, registered: Register, tmp_path: Path) -> None:
    digests = [registered(share).tags[MANIFEST_TAG] for share in (0.4, 0.6)]
    register(uri, model, tmp_path / "made-0.4", params={}, metrics={}, tags={})  # the first one's files once more
    set_alias(uri, model, "canary", "3")
    for digest, number, aliases in zip(digests, ("3", "2"), (("canary",), ()), strict=True):
        found = find_sealed(uri, model, digest)
        assert found is not None
        assert (found.number, found.aliases) == (number, aliases)
    assert find_sealed(uri, model, "0" * 64) is None
    assert find_sealed(uri, "no-such-model", digests[0]) is None


def test_tags_can_be_added(uri: str, model: str, registered: Register) -> None:
    registered()
    set_tags(uri, model, "1", {"approved_by": "somebody"})
    found = find_version(uri, model, "1")
    assert found is not None
    assert found.tags["approved_by"] == "somebody"
    assert found.tags["dataset"] == "abc"


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


def test_the_reports_text_is_the_versions_description(uri: str, model: str, registered: Register) -> None:
    from mlflow import MlflowClient

    registered(report="# Report\nall well")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert client.get_model_version(model, "1").description.startswith("# Report")


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


@pytest.mark.parametrize("wanted", ["stable", "7", "no-such-alias"])
def test_what_is_not_there_is_none(uri: str, model: str, registered: Register, wanted: str) -> None:
    registered()
    assert find_version(uri, model, wanted) is None
    assert find_version(uri, "no-such-model", wanted) is None


def test_asking_a_registry_that_was_never_made_makes_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'deep' / 'mlflow.db'}"
    assert find_version(uri, MODEL, "stable") is None
    assert list_versions(uri, MODEL) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unreachable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if request.param == "server":
        return "http://user:hunter2@127.0.0.1:9"
    if request.param == "not a database":
        (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    else:
        sqlite3.connect(tmp_path / "x.db").execute("CREATE TABLE experiments (other TEXT)").connection.close()
    return f"sqlite:///{tmp_path / 'x.db'}"


@pytest.mark.parametrize("unreachable", ["server", "not a database", "another database"], indirect=True)
def test_registry_that_cannot_be_reached_says_what_was_asked(unreachable: str, registered: Register) -> None:
    for ask in (
        lambda: find_version(unreachable, MODEL, "stable"),
        lambda: list_versions(unreachable, MODEL),
        lambda: set_alias(unreachable, MODEL, "stable", "1"),
        lambda: set_tags(unreachable, MODEL, "1", {"a": "b"}),
    ):
        with pytest.raises(RegistryError, match=f"{MODEL}|registry"):
            ask()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter2@db/mlflow",
        "postgresql://me:hun/ter2@db/mlflow",
        "postgresql://me:a@hunter2@db/mlflow",
        "postgresql://db/mlflow?user=me&password=hunter2&sslmode=require",
        "mysql+pymysql://db/mlflow?Password=hunter2",
        "https://me:hunter2@mlflow.example.com/a/b",
        "cannot connect to postgresql://me:hunter2@db/x (timeout) nor to postgresql://you:hunter2@db2/x",
    ],
)
def test_no_password_is_ever_quoted(address: str) -> None:
    shown = without_password(address)
    assert "hunter2" not in shown
    assert "ter2" not in shown
    assert "db" in shown or "example.com" in shown
    assert without_password("sqlite:////tmp/a@b/mlflow.db is locked") == "sqlite:////tmp/a@b/mlflow.db is locked"


def test_a_password_in_the_address_stays_out_of_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as caught:
        find_version("http://user:hunter2@127.0.0.1:9", MODEL, "stable")
    assert "hunter2" not in str(caught.value)
