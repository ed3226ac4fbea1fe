"""The graph on three nodes: its configuration, versions in the registry, Ray on every node, `serve deploy`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_graph.access.keys import key_hash
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.kubernetes.graph_settings import tier_resource
from serve_graph.config.kubernetes.serve_application import serve_config
from serve_graph.config.kubernetes.worker_groups import PER_REPLICA, SERVING_GROUP, serving_deployments
from tests.fixtures.registry import PRICE, registered_version
from tests.nodes.network import OUTSIDE, Host
from tests.nodes.services import REDIS_PASSWORD, REDIS_PORT, REGISTRY_URL, STORE_URL

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-of-one-run"
PORT, DASHBOARD_PORT = 8000, 8265
OBJECT_STORE = "80000000"
PORTS = (  # a raylet waits 15 s to be told those that it may choose, which a busy machine exceeds
    "--dashboard-agent-listen-port", "52365", "--dashboard-agent-grpc-port", "52366",
    "--runtime-env-agent-port", "52367", "--metrics-export-port", "8080",
)  # fmt: skip
TOKEN = "of-one-run-only-and-longer-than-it-must-be"


@dataclass
class Cluster:
    """Head, cheap worker, frontier worker; all in `root`, which every node sees as its own at `root`/node."""

    root: Path
    head: Host
    workers: dict[str, Host]
    config: Path

    @property
    def dashboard(self) -> str:
        return f"http://{self.head.address}:{DASHBOARD_PORT}"

    @property
    def graph(self) -> GraphConfig:
        return load_config(self.config)

    def start(self) -> None:
        """Ray on the three nodes."""
        self.head.start()
        until(lambda: self._answers(f"{self.dashboard}/api/gcs_healthz"), 180, "the head is up", self.head)
        for worker in self.workers.values():
            worker.start()

    def deploy(self) -> None:
        """`serve deploy` of what `serve-graph manifests` embeds, with this run's paths and tiers on their nodes."""
        settings = serve_config(self.graph)
        [application] = settings["applications"]
        application["args"]["config"] = str(self.root / "node" / "etc" / "graph.yaml")
        for deployment in application["deployments"]:
            if deployment["name"] in self.workers:
                resources = {tier_resource(deployment["name"]): PER_REPLICA}
                deployment["ray_actor_options"] = {"num_cpus": 0, "resources": resources}
        path = self.root / "deploy.yaml"
        path.write_text(yaml.safe_dump(settings))
        command = [str(Path(sys.executable).with_name("serve")), "deploy", str(path), "--address", self.dashboard]
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ | ray, check=False)
        if done.returncode:
            raise RuntimeError(f"serve deploy: {done.stdout[-1500:]}{done.stderr[-3000:]}")

    def applications(self) -> dict[str, Any]:
        """What Serve says of its applications."""
        asked = httpx.get(
            f"{self.dashboard}/api/serve/applications/", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
        )
        told: dict[str, Any] = asked.json()
        return told

    def readiness(self, worker: Host) -> dict[str, Any]:
        """`/readyz` of one worker as a key reads it; {} where it does not answer."""
        try:
            url = f"http://{worker.address}:{PORT}/readyz"
            told: dict[str, Any] = httpx.get(url, headers={"authorization": f"Bearer {KEY}"}, timeout=5).json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return {}
        return told

    def copies(self) -> dict[str, list[str]]:
        """Worker → the versions that its own disk holds."""
        found = {}
        for name, worker in self.workers.items():
            manifests = worker.folder.glob("state/versions/**/manifest.json")
            found[name] = sorted(str(path.parent.relative_to(worker.folder / "state/versions")) for path in manifests)
        return found

    def placed(self) -> dict[str, list[str]]:
        """Worker's name → the deployments with a replica there."""
        names = {worker.address: name for name, worker in self.workers.items()} | {self.head.address: "head"}
        found: dict[str, list[str]] = {}
        for application in self.applications()["applications"].values():
            for name, deployment in application["deployments"].items():
                for replica in deployment["replicas"]:
                    found.setdefault(names.get(replica["node_ip"], replica["node_ip"]), []).append(name)
        return {name: sorted(deployments) for name, deployments in found.items()}

    def _answers(self, url: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, timeout=5, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        return False


def made_cluster(root: Path) -> Cluster:
    """Write the configuration and say how each node starts; nothing runs yet."""
    mounted = root / "mounted"
    for folder in (mounted, root / "node", root / "disks", root / "volumes"):
        folder.mkdir(parents=True)
    config = mounted / "graph.yaml"
    at = root / "node"
    config.write_text(yaml.safe_dump(configuration(at), sort_keys=False))
    scopes = ["use", "force", "admin"]
    (mounted / "keys.yaml").write_text(yaml.safe_dump([{"name": "caller", "sha256": key_hash(KEY), "scopes": scopes}]))
    graph = load_config(config)
    environment = _environment(at)
    cpus = str(_cpus(graph))
    head = Host("head", 11, root, [], environment)
    common = ["--object-store-memory", OBJECT_STORE, "--block", "--disable-usage-stats", *PORTS]
    head.arguments = [
        "--head", "--port", "6379", "--node-ip-address", head.address, "--num-cpus", "0", "--temp-dir", f"{at}/ray",
        "--dashboard-host", head.address, "--dashboard-port", str(DASHBOARD_PORT), "--redis-password", REDIS_PASSWORD,
        *common,
    ]  # fmt: skip
    head.environment = environment | {
        "RAY_REDIS_ADDRESS": f"{OUTSIDE}:{REDIS_PORT}",
        "RAY_external_storage_namespace": "serve-graph",
    }
    workers = {}
    for number, name in ((12, "cheap"), (13, "frontier")):
        worker = Host(f"{name}-worker", number, root, [], environment)
        resources = json.dumps({SERVING_GROUP: 1, tier_resource(name): 1})
        worker.arguments = [
            "--address", f"{head.address}:6379", "--node-ip-address", worker.address, "--num-cpus", cpus,
            "--resources", resources, *common,
        ]  # fmt: skip
        workers[name] = worker
    return Cluster(root, head, workers, config)


def configuration(at: Path) -> dict[str, Any]:
    """`configs/cluster.yaml` with echo engines, and this run's addresses and folders; two of all that serves."""
    data: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())
    two = {"min_replicas": 2, "max_replicas": 2}
    data["tiers"] = [
        {"name": tier["name"], "engine": "echo", "price": PRICE, "latency_s": 0.05, "timeout_s": 5.0}
        for tier in data["tiers"]
    ]
    data["policy"] |= {"version": "stable", "router_scaling": two, "verifier_scaling": two}
    data["http"] |= {"port": PORT, "scaling": two | {"max_ongoing_requests": 512, "target_ongoing_requests": 128}}
    return data | {
        "shared_folders": [str(at / "etc")],
        "state_folder": str(at / "state"),
        "records": {"url": STORE_URL},
        "tracking_uri": REGISTRY_URL,
        "access": {"keys_file": str(at / "etc" / "keys.yaml")},
    }


def register_versions(config: GraphConfig, folder: Path) -> None:
    """Two approved versions, the first of them `stable`; their files go to the registry's own store."""
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)


def _cpus(graph: GraphConfig) -> int:
    """As a pod of the group `serving` has them: room for one replica of each deployment."""
    tiers = set(graph.tier_names)
    needed = [s.num_cpus for name, s in serving_deployments(graph).items() if name not in tiers]
    return max(1, math.ceil(math.fsum(needed)))


def _environment(at: Path) -> dict[str, str]:
    """What pods have, and paths of their own where a pod has a /tmp of its own."""
    haproxy = at / "tmp"
    return {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # as KubeRay sets it of workers whose head may come back
    }


def until(ready: Callable[[], Any], seconds: float, what: str, *hosts: Host) -> float:
    """Wait until something is so; how long that took. Raises with the logs of nodes that ended."""
    began = time.monotonic()
    while not ready():
        if ended := [host for host in hosts if not host.lives_still]:
            raise RuntimeError(f"{ended[0].name} ended: {ended[0].log[-3000:]}")
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"not so after {seconds:g} s: {what}")
        time.sleep(0.5)
    return time.monotonic() - began
