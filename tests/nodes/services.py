"""What is no node's: PostgreSQL, an MLflow server on it, and the Redis that keeps what Ray's head knows."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.nodes.network import NETWORK, OUTSIDE

REDIS_PASSWORD = "of-one-run"
POSTGRES_PORT, MLFLOW_PORT, REDIS_PORT = 5432, 5000, 6379
STORE_URL = f"postgresql://postgres@{OUTSIDE}:{POSTGRES_PORT}/serve_graph"
REGISTRY_URL = f"http://{OUTSIDE}:{MLFLOW_PORT}"


class Services:
    """The three of them, in a folder; all end with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._postgres = _postgres_programs()
        self._user = next(name for name in ("postgres", "nobody") if name in {e.pw_name for e in pwd.getpwall()})

    def start(self) -> None:
        """Bring them up, each in a process of its own."""
        data = self.folder / "postgres"
        data.mkdir()
        shutil.chown(data, self._user)
        self._run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        with (data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {NETWORK} trust\n")
        self.start_postgres()
        for name in ("serve_graph", "mlflow"):
            self._run("psql", "-h", OUTSIDE, "-U", "postgres", "-q", "-c", f"CREATE DATABASE {name}")
        redis = ["redis-server", "--bind", OUTSIDE, "--port", str(REDIS_PORT), "--requirepass", REDIS_PASSWORD]
        self._begin("redis", [*redis, "--save", "", "--dir", str(self.folder)], {})
        store = f"postgresql+psycopg2://postgres@{OUTSIDE}:{POSTGRES_PORT}/mlflow"
        words = ["--backend-store-uri", store, "--artifacts-destination", str(self.folder / "artifacts")]
        listens = ["--host", OUTSIDE, "--port", str(MLFLOW_PORT), "--allowed-hosts", f"{OUTSIDE}:{MLFLOW_PORT}"]
        path = os.pathsep.join(filter(None, [os.environ.get(DRIVER_FOLDER, ""), os.environ.get("PYTHONPATH", "")]))
        more = {"PYTHONPATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._begin("mlflow", [sys.executable, "-m", "mlflow", "server", *words, "--workers", "1", *listens], more)
        _until_open(REDIS_PORT)
        self._until_answers(f"{REGISTRY_URL}/health")

    def start_postgres(self) -> None:
        options = f"-p {POSTGRES_PORT} -h {OUTSIDE} -k {self.folder / 'postgres'} -F"
        data = str(self.folder / "postgres")
        self._run("pg_ctl", "-D", data, "-l", f"{data}/log", "-o", options, "-w", "start")

    def stop_postgres(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "postgres"), "-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        with contextlib.suppress(subprocess.SubprocessError):
            self.stop_postgres()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._postgres / program), *arguments]
        with (self.folder / "postgres.log").open("ab") as log:
            subprocess.run(
                command, check=True, stdout=log, stderr=log, user=self._user, cwd=self.folder / "postgres", timeout=120
            )

    def _begin(self, name: str, command: list[str], more: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | more, cwd=self.folder)
            )

    def _until_answers(self, url: str) -> None:
        until = time.monotonic() + 300
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (reply := httpx.get(url, timeout=5)).status_code == 200:
                    return
                raise RuntimeError(f"{url}: {reply.status_code} {reply.text[:500]}")
            if time.monotonic() > until or self._processes[-1].poll() is not None:
                raise RuntimeError(f"{url} does not answer: {(self.folder / 'mlflow.log').read_text()[-2000:]}")
            time.sleep(0.5)


DRIVER_FOLDER = "SERVE_GRAPH_NODES_DRIVER"


def with_driver(folder: Path) -> None:
    """Install MLflow's PostgreSQL driver, which the project itself does not need, beside the run."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    subprocess.run([*uv, "--target", str(folder), "psycopg2-binary>=2.9"], check=True, timeout=120)
    os.environ[DRIVER_FOLDER] = str(folder)


def missing() -> str:
    """Which program is not installed; '' where all are."""
    if shutil.which("redis-server") is None:
        return "redis-server (Debian: apt-get install redis-server)"
    try:
        _postgres_programs()
    except FileNotFoundError as error:
        return str(error)
    return ""


def _postgres_programs() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = debian or [Path(where) for where in [shutil.which("initdb")] if where]
    if not found:
        raise FileNotFoundError("PostgreSQL's server programs (Debian: apt-get install postgresql)")
    return found[-1].parent


def _until_open(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection((OUTSIDE, port), timeout=5):
            return
        if time.monotonic() > until:
            raise RuntimeError(f"nothing listens on port {port}")
        time.sleep(0.2)
