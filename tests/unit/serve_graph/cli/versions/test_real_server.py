"""A registry that is a real `mlflow server` on PostgreSQL with an artifact store of its own: outcomes to traffic.

The server runs as a process of its own and is spoken to over HTTP alone; artifacts go through it.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.versions.registry import poll_review
from serve_graph.access.auth import EVENTS
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from serve_graph.policy.registry_events import RegistryEvents
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.local_graph import listening
from tests.fixtures.outcomes import sure_outcomes
from tests.fixtures.servers.stores import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]
MODEL = "serve-graph-router"
DRIVER = "psycopg2"
HOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "dGVzdHMgb2YgcmVnaXN0cnkgZXZlbnRzLCAzMiBieXQ=",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}
"""What has the server post to this machine, without TLS, keep a secret in its database, and know new webhooks soon."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the server finds its PostgreSQL driver, which the project itself does not need."""
    if importlib.util.find_spec(DRIVER) is not None:
        return ""
    folder = tmp_path_factory.mktemp("driver")
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else [shutil.which("uv") or "uv"]
    words = ["pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--target", str(folder)]
    try:
        subprocess.run([*uv, *words, "psycopg2-binary>=2.9"], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"MLflow's server needs {DRIVER} for PostgreSQL, which cannot be installed here ({error})")
    return str(folder)


@pytest.fixture(scope="module")
def server(postgres: PostgresServer, driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server, which is stopped afterwards."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"postgresql+psycopg2://postgres@127.0.0.1:{postgres.port}/postgres"
    words = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *words, "--host", "127.0.0.1", "--port", str(port)]
    path = os.pathsep.join(filter(None, [driver, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **HOOKS}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
        else:
            pytest.fail((folder / "log").read_text()[-3000:])
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_train_certify_approve_load_by_alias_reject_refused(server: str, tmp_path: Path) -> None:
    tiers = [
        {"name": name, "engine": "echo", "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}}
        for name, usd in (("cheap", 0.1), ("frontier", 2))
    ]
    config = tmp_path / "graph.yaml"
    state = {"tracking_uri": server, "state_folder": str(tmp_path / "state")}
    config.write_text(yaml.safe_dump({"tiers": tiers, **state}))
    graph, table = load_config(config), tmp_path / "outcomes.parquet"
    sure_outcomes(table, 600)
    write_collected_binds(table, tier_binds(graph))
    given = ("--config", config, "--outcomes", table)
    call("train", *given, "--out", tmp_path / "candidate", "--router", "surface", "--verifier", "combined")
    said = call(
        "certify", *given, "--candidate", tmp_path / "candidate", "--epsilon", "0.2", "--alias", "stable", "--json"
    )
    assert json.loads(said)["review"]["state"] == "proposed"
    assert f"{MODEL}/1 is proposed and not approved" in serving_version(graph).reason

    call("versions", "approve", "stable", "--config", config, "--by", "anna", "--reason", "read the report")
    served = serving_version(graph)
    assert served.name == f"{MODEL}/1", served.reason
    assert not (tmp_path / "state" / "artifacts").exists(), "artifacts are the server's"

    client = mlflow.MlflowClient(server, server)
    version = client.get_model_version_by_alias(MODEL, "stable")
    assert version.source.startswith("mlflow-artifacts:")
    assert version.description.startswith("# Router version: cheap → frontier")
    page = client.download_artifacts(version.run_id, "report.html", str(tmp_path))
    assert "data:image/png;base64," in Path(page).read_text()
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(server)
    mlflow.set_registry_uri(server)
    try:
        answered = mlflow.pyfunc.load_model(f"models:/{MODEL}@stable").predict(pd.DataFrame({"prompt": ["short one"]}))
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    assert answered["tier"].isin(["cheap", "frontier"]).all()

    client.set_model_version_tag(MODEL, "1", "review", "Rejected")  # as in MLflow's page
    seen = poll_review(server, MODEL, "stable")
    assert seen is not None
    assert (seen[0], seen[1].state) == (f"{MODEL}/1", "rejected")
    refused = serving_version(graph)
    assert refused.version is None
    assert f"{MODEL}/1 was rejected in review" in refused.reason


def test_an_alias_and_a_tag_that_change_are_told_to_the_graph_at_once(
    server: str, endpoint: Callable[..., Any]
) -> None:
    """By webhooks of the server, as docs/guides/versions.md has them made."""
    client, told = mlflow.MlflowClient(server, server), list[float]()

    async def changed() -> None:
        told.append(time.monotonic())

    made = client.create_registered_model("told")
    run = client.create_run("0").info
    version = client.create_model_version(made.name, run.artifact_uri, run.run_id)
    graph = endpoint(secrets=("ann",), registry_events=RegistryEvents("a word of two", changed))
    with listening(graph.app) as url:
        events = ["model_version_alias.created", "model_version_tag.set"]
        client.create_webhook("serve-graph", f"{url}{EVENTS}", events, secret="a word of two")
        client.create_webhook("another", f"{url}{EVENTS}", events, secret="not this graph's")
        time.sleep(1.1)  # an event of a test before this one had the server list its webhooks
        for number, change in enumerate(
            (
                lambda: client.set_registered_model_alias(made.name, "stable", version.version),
                lambda: client.set_model_version_tag(made.name, version.version, "review", "approved"),
            ),
            start=1,
        ):
            change()
            began = time.monotonic()
            while len(told) < number:
                assert time.monotonic() < began + 60, f"not told of change {number}"
                time.sleep(0.05)
            print(f"told {told[-1] - began:.2f} s after change {number} had returned")
        time.sleep(1)
    assert len(told) == 2, "what is signed with another secret is no event"
