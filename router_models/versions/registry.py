"""Router versions in MLflow: registered, found, listed, reviewed, removed.

A registered model's version holds one sealed folder (`version.py`) as its artifact. Aliases `stable`, `canary`,
`shadow` point at versions. Any tracking URI works; the default is SQLite under the state folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_models.data.artifacts import verify
from router_models.errors import ArtifactError
from router_models.versions.mlflow_client import (
    experiment_of,
    is_new_registry,
    log_values,
    mlflow_errors,
    registry_client,
    without_password,
)
from router_models.versions.mlflow_model import (
    dataset_input,
    folder_within,
    log_model,
    page_description,
    shortened_report,
)
from router_models.versions.names import check_name
from router_models.versions.review import FORMER_TAG, TAG, Review, review_state
from router_models.versions.sealed.local_copies import HeldCopy, LocalCopies

MANIFEST_TAG = "manifest_sha256"
"""The tag of a version that says which files it has."""
ALIASES = ("stable", "canary", "shadow")


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version as the registry knows it.

    Parameters
    ----------
    uri : str
        The registry's.
    model, number, run_id : str
        The registered model, the version's number there, and the run that logged it.
    tags : mapping of str to str
        Of the version.
    aliases : tuple of str
        That name it now.
    """

    uri: str
    model: str
    number: str
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """How traffic and records call it: `<model>/<number>`."""
        return f"{self.model}/{self.number}"

    def folder(self, cache: Path) -> Path:
        """A verified local copy of the version's files, downloaded once into `cache`.

        Raises ArtifactError where the files do not match their manifest, RegistryError where they cannot be had.
        """
        return LocalCopies(cache).get(self.cached_in(cache).name, self.fetch, self.check)

    def held_folder(self, cache: Path) -> HeldCopy:
        """As `folder`, of a copy that stays until it is closed; a damaged one is fetched again."""
        return LocalCopies(cache).hold(self.cached_in(cache).name, self.fetch, self.check)

    def cached_in(self, cache: Path) -> Path:
        """Where `folder` keeps the copy."""
        return cache / f"{self.model}-{self.number}-{self.run_id[:8]}"

    def fetch(self, into: Path) -> Path:
        """Download the version's files; returns the folder that they are in. Raises RegistryError."""
        from mlflow.artifacts import download_artifacts

        with mlflow_errors(f"downloading {self.name}"):
            source = registry_client(self.uri).get_model_version(self.model, self.number).source
            within = folder_within(source or "")
            got = download_artifacts(
                run_id=self.run_id, artifact_path=within, dst_path=str(into), tracking_uri=self.uri
            )
        return Path(got)

    def check(self, folder: Path) -> None:
        """Raise ArtifactError where `folder` is damaged, or is not known to be what was registered."""
        registered = self.tags.get(MANIFEST_TAG, "")
        if not re.fullmatch(r"[0-9a-f]{64}", registered):
            found = "is missing" if MANIFEST_TAG not in self.tags else "is empty" if not registered else "is no sha256"
            raise ArtifactError(
                f"{self.name}: its tag {MANIFEST_TAG} {found}, so nothing says which files were "
                "registered; register the version again (`serve-graph certify`)"
            )
        if verify(folder) != registered:
            raise ArtifactError(f"{self.name}: the manifest in {folder} differs from the one that was registered")


def register(
    uri: str,
    model: str,
    folder: Path,
    *,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    alias: str | None = None,
    artifacts_folder: Path | None = None,
    dataset: tuple[str, Mapping[str, object]] | None = None,
    pages: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Log a sealed folder as one run and one new version of `model`; set `alias` to it if given.

    The version is an MLflow model (`mlflow_model`): `mlflow.pyfunc.load_model("models:/<model>@<alias>")` loads it.

    Parameters
    ----------
    uri : str
        MLflow's tracking and registry URI.
    model : str
        The registered model's name.
    folder : Path
        The sealed folder; `report.md` in it becomes the version's description.
    params, metrics, tags : mapping
        Of the run, of the run, of the version.
    alias : str, optional
        Set to the new version.
    artifacts_folder : Path, optional
        Where a local (SQLite) store keeps its files; ignored by a server.
    dataset : tuple of str and mapping, optional
        The hash of the outcomes that it was made of, and what else is known of them: the run's input.
    pages : mapping of str to str, optional
        Further text artifacts of the run, by file name.

    Returns
    -------
    RegisteredVersion
        The new version.
    """
    check_name("model", model)
    if alias is not None:
        check_name("alias", alias)
    digest = verify(folder)
    client = registry_client(uri)
    with mlflow_errors(f"registering a version of {model!r}"):
        experiment_id = experiment_of(client, model, artifacts_folder)
        run = client.create_run(experiment_id, run_name=folder.name)
        run_id = run.info.run_id
        log_values(client, run_id, params, metrics)
        if dataset is not None:
            client.log_inputs(run_id, datasets=[dataset_input(dataset[0], dict(dataset[1]))])
        for name, text in (pages or {}).items():
            client.log_text(run_id, text, name)
        logged = log_model(folder, lambda made, name: client.log_artifacts(run_id, made, name))
        client.set_terminated(run_id)
        if not any(m.name == model for m in client.search_registered_models(f"name='{model}'")):
            client.create_registered_model(model, description="Router versions of serve-graph")
        source = f"{client.get_run(run_id).info.artifact_uri}/{logged}"
        all_tags = {**tags, MANIFEST_TAG: digest}
        made = client.create_model_version(model, source, run_id, tags=all_tags)
        report = folder / "report.md"
        if report.is_file():
            page = shortened_report(page_description(report.read_text()))
            client.update_model_version(model, made.version, description=page)
        if alias is not None:
            client.set_registered_model_alias(model, alias, made.version)
    return _registered(uri, made, model, () if alias is None else (alias,))


def find_version(uri: str, model: str, wanted: str) -> RegisteredVersion | None:
    """Return the version that an alias or number names.

    Parameters
    ----------
    uri, model : str
        The registry, and the registered model in it.
    wanted : str
        An alias or a number.

    Returns
    -------
    RegisteredVersion or None
        None where the registry has no such version.

    Raises
    ------
    RegistryError
        Where the registry cannot be reached.
    """
    if is_new_registry(uri):
        return None
    found = _ask(uri, registry_client(uri), model, wanted)
    return None if found is None else _registered(uri, found, model, found.aliases)


def poll_review(uri: str, model: str, wanted: str) -> tuple[str, Review] | None:
    """Read what an alias or number names now, and its review, in one question to the registry.

    For whoever asks again and again: a review that was withdrawn, or an alias that was moved, shows at the next poll.

    Parameters
    ----------
    uri, model : str
        The registry, and the registered model in it.
    wanted : str
        An alias or a number.

    Returns
    -------
    tuple of str and Review, or None
        `<model>/<number>` and its review; None where the registry has no such version.

    Raises
    ------
    RegistryError
        Where the registry cannot be reached.
    """
    if is_new_registry(uri) or (found := _ask(uri, registry_client(uri), model, wanted)) is None:
        return None
    seen = RegisteredVersion(uri, model, str(found.version), found.run_id, dict(found.tags), ())
    return seen.name, review_state(seen)


def find_sealed(uri: str, model: str, digest: str) -> RegisteredVersion | None:
    """The newest version whose files have this manifest's hash; None where none was registered."""
    return next(iter(_search(uri, model, f" and tags.`{MANIFEST_TAG}` = '{digest}'")), None)


def list_versions(uri: str, model: str) -> list[RegisteredVersion]:
    """Every version, newest first; none where there is no registry yet."""
    return _search(uri, model)


def _search(uri: str, model: str, further: str = "") -> list[RegisteredVersion]:
    """The versions of a model that meet a further condition of MLflow's filters, newest first.

    The model's aliases are asked once for all of them: what is found by searching does not say its own.
    """
    if is_new_registry(uri):
        return []
    client = registry_client(uri)
    found: list[Any] = []
    token: str | None = None
    numbered: dict[str, list[str]] = {}
    with mlflow_errors(f"listing {model!r}"):
        while True:
            page = client.search_model_versions(f"name='{model}'{further}", page_token=token)
            found.extend(page)
            if not (token := page.token):
                break
        if found:
            for alias, number in client.get_registered_model(model).aliases.items():
                numbered.setdefault(str(number), []).append(alias)
    newest_first = sorted(found, key=lambda version: -int(version.version))
    return [_registered(uri, version, model, numbered.get(str(version.version), ())) for version in newest_first]


def set_alias(uri: str, model: str, alias: str, number: str) -> None:
    """Point an alias at a version; RegistryError for one that cannot be."""
    check_name("alias", alias)
    with mlflow_errors(f"setting {alias!r} of {model!r} to {number}"):
        registry_client(uri).set_registered_model_alias(model, alias, number)


def set_tags(uri: str, model: str, number: str, tags: Mapping[str, str]) -> None:
    """Set tags on a version."""
    client = registry_client(uri)
    with mlflow_errors(f"tagging {model}/{number}"):
        for key, value in tags.items():
            client.set_model_version_tag(model, number, key, value)


def set_review(version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    """Write a review (`review_tags`) in their order; spellings of the tag that were left by hand are removed first."""
    client = registry_client(version.uri)
    with mlflow_errors(f"noting the review of {version.name}"):
        for key in client.get_model_version(version.model, version.number).tags:
            if key == FORMER_TAG or (key != TAG and key.strip().casefold() == TAG):
                client.delete_model_version_tag(version.model, version.number, key)
    set_tags(version.uri, version.model, version.number, tags)


def seed_of(version: RegisteredVersion) -> int:
    """Return the seed that the outcomes of a version were divided with, as its run noted it; 0 where it did not."""
    client = registry_client(version.uri)
    with mlflow_errors(f"reading the run of {version.name}"):
        return int(client.get_run(version.run_id).data.params.get("seed", 0))


def delete_version(version: RegisteredVersion) -> None:
    """Remove a version; its run is marked as deleted, and `mlflow gc` frees its files."""
    client = registry_client(version.uri)
    with mlflow_errors(f"removing {version.name}"):
        client.delete_model_version(version.model, version.number)
        client.delete_run(version.run_id)


def _ask(uri: str, client: Any, model: str, wanted: str) -> Any:
    """MLflow's entity of the version that an alias or number names; None where there is none."""
    from mlflow.exceptions import MlflowException

    with mlflow_errors(f"asking the registry {without_password(uri)} for {model}@{wanted}"):
        try:
            if wanted.isdigit():
                return client.get_model_version(model, wanted)
            return client.get_model_version_by_alias(model, wanted)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def _registered(uri: str, found: Any, model: str, aliases: Sequence[str]) -> RegisteredVersion:
    return RegisteredVersion(uri, model, str(found.version), found.run_id, dict(found.tags), tuple(sorted(aliases)))
