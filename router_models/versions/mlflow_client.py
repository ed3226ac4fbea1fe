"""MLflow's client for a registry's address, and its errors as ours."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router_models.errors import ArtifactError, RegistryError

MOST_AT_ONCE = 100
"""Parameters, and metrics, of one request: MLflow takes no more parameters."""


def registry_client(uri: str) -> Any:
    """Return MLflow's client for a tracking and registry URI; RegistryError where it cannot be opened."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for results
    # A registry that is down must not hold a start up for minutes (MLflow's own: 7 retries, 120 s each).
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with mlflow_errors(f"opening the registry {without_password(uri)}"), _one_at_a_time(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_new_registry(uri: str) -> bool:
    """Whether asking would first make the database: reading must not write."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Hold `<database>.lock` of a registry on disk: MLflow migrates it when it is opened, and fails where two do.

    So a graph that follows a registry and the first `certify` would meet. The lock ends with its process.
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    try:
        lock = os.open(f"{uri.removeprefix('sqlite:///')}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        yield  # a folder that may only be read: nothing can be migrated there
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class mlflow_errors:  # noqa: N801 (reads as a statement)
    """Turn whatever MLflow, its store or the network raises into RegistryError, saying what was being done."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (RegistryError, ArtifactError)):
            raise RegistryError(f"{self.doing} failed: {without_password(str(error))}") from error


def without_password(text: str) -> str:
    """A URI, or a message that quotes one, without user and password."""
    text = re.sub(r"(?<!sqlite)://\S*@", "://…@", text)  # to the last @: passwords may hold / and @ unescaped
    return re.sub(r"(?i)([?&;](?:password|passwd|pwd|token|secret|sslpassword|user)=)[^&;\s\"']*", r"\1…", text)


def experiment_of(client: Any, name: str, artifacts_folder: Path | None) -> str:
    """The id of an experiment, made where there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    served = str(client.tracking_uri).startswith(("http://", "https://", "databricks"))
    location = None if artifacts_folder is None or served else artifacts_folder.resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def log_values(client: Any, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Log a run's parameters and metrics, `MOST_AT_ONCE` of each in a request: one by one each is a request."""
    from mlflow.entities import Metric, Param

    at_ms = round(time.time() * 1000)
    known = [Param(key, value) for key, value in params.items()]
    measured = [Metric(key, float(number), at_ms, 0) for key, number in metrics.items()]
    for start in range(0, max(len(known), len(measured)), MOST_AT_ONCE):
        rows = slice(start, start + MOST_AT_ONCE)
        client.log_batch(run_id, metrics=measured[rows], params=known[rows])
