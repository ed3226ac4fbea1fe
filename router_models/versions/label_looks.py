"""How often the labels of CERT were looked at: the registry notes every look, whatever came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from router_models.versions.mlflow_client import (
    experiment_of,
    is_new_registry,
    mlflow_errors,
    registry_client,
)

LOOKS = "serve-graph-looks"
"""The experiment that holds one run for each look at CERT labels, whatever the version is called."""
LABELS = "labels.txt"


def record_look(
    uri: str,
    dataset_sha256: str,
    labels: Collection[str],
    tags: Mapping[str, str],
    artifacts_folder: Path | None = None,
) -> int:
    """Note that labels are about to be read for a certificate; returns which look at any of them this is, from 1.

    A look counts that read one of the same `labels` (`label_budget.labels_read`), or the same data set. Noted before
    and not after, so that a look that certifies nothing, or is killed, counts as well; deleted runs count too. Looks
    at the same time may get the same, higher number: less is spent then, never more.
    """
    client = registry_client(uri)
    with mlflow_errors(f"noting a look at the labels of {dataset_sha256[:12]}"):
        experiment_id = experiment_of(client, LOOKS, artifacts_folder)
        run = client.create_run(experiment_id, tags={**tags, "dataset_sha256": dataset_sha256})
        client.log_text(run.info.run_id, "\n".join(sorted(labels)), LABELS)
        client.set_terminated(run.info.run_id)
        return len(_looks(uri, client, experiment_id, dataset_sha256, labels))


def looks_at(uri: str, dataset_sha256: str, labels: Collection[str]) -> list[dict[str, str]]:
    """The tags of the looks at any of these labels that `record_look` has counted so far; notes nothing."""
    if is_new_registry(uri):
        return []
    client = registry_client(uri)
    with mlflow_errors(f"counting the looks at the labels of {dataset_sha256[:12]}"):
        experiment = client.get_experiment_by_name(LOOKS)
        return [] if experiment is None else _looks(uri, client, experiment.experiment_id, dataset_sha256, labels)


def is_noted(uri: str, name: str, value: str) -> bool:
    """Whether `record_look` has noted a look with this tag."""
    if is_new_registry(uri):
        return False
    client = registry_client(uri)
    with mlflow_errors(f"asking for the look with {name} {value[:12]}"):
        experiment = client.get_experiment_by_name(LOOKS)
        if experiment is None:
            return False
        return bool(client.search_runs([experiment.experiment_id], f"tags.{name} = '{value}'", max_results=1))


def _looks(
    uri: str, client: Any, experiment_id: str, dataset_sha256: str, labels: Collection[str]
) -> list[dict[str, str]]:
    from mlflow.entities import ViewType

    token, looks = None, list[dict[str, str]]()
    while True:
        page = client.search_runs([experiment_id], run_view_type=ViewType.ALL, page_token=token)
        for earlier in page:
            same = earlier.data.tags.get("dataset_sha256") == dataset_sha256
            if same or not _labels_of(uri, client, earlier.info.run_id).isdisjoint(labels):
                looks.append(dict(earlier.data.tags))
        token = page.token
        if not token:
            return looks


def _labels_of(uri: str, client: Any, run_id: str) -> frozenset[str]:
    """The labels that a look read; none where it was killed before it could note them."""
    import tempfile

    from mlflow.artifacts import download_artifacts

    if not any(file.path == LABELS for file in client.list_artifacts(run_id)):
        return frozenset()
    with tempfile.TemporaryDirectory() as scratch:
        got = download_artifacts(run_id=run_id, artifact_path=LABELS, dst_path=scratch, tracking_uri=uri)
        return frozenset(Path(got).read_text().splitlines())
