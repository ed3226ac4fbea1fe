"""Ray's own tools: `serve build` writes the graph down, `serve deploy` brings it up on a running cluster."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_graph.cli.local.launch import free_ports
from serve_graph.config.graph import load_config
from serve_graph.config.kubernetes.serve_application import serve_config

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # the command knows no token of a cluster that lives a minute on loopback
    "RAY_raylet_start_wait_time_s": "120",
}
SERVE = str(Path(sys.executable).with_name("serve"))


@pytest.fixture(scope="module")
def echo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose configs/local.yaml is the echo graph."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "configs").mkdir()
    (folder / "configs" / "local.yaml").write_text((ROOT / "configs" / "echo.yaml").read_text())
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    """Where the graph listens: a cluster's first deployment decides."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def dashboard(echo_folder: Path) -> Iterator[str]:
    port = free_ports(1)[0]
    head = Path(__file__).parent / "graphs" / "ray_head.py"
    process = subprocess.Popen(
        [sys.executable, str(head), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=echo_folder,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def test_serve_build_writes_the_graph_down(echo_folder: Path) -> None:
    out = echo_folder / "graph.yaml"
    command = [SERVE, "build", "serve_graph.app:app", "--app-dir", str(ROOT), "-o", str(out)]
    subprocess.run(command, cwd=echo_folder, check=True, capture_output=True, timeout=300)
    [application] = yaml.safe_load(out.read_text())["applications"]
    assert [d["name"] for d in application["deployments"]] == ["cheap", "frontier", "router", "verifier", "ingress"]
    assert all("autoscaling_config" in d for d in application["deployments"])


def test_serve_deploy_brings_the_graph_up(
    echo_folder: Path, dashboard: str, port: int, wait_until: Callable[..., float]
) -> None:
    graph = {
        "name": "serve-graph",
        "import_path": "serve_graph.app:build_app",
        "args": {"config": str(echo_folder / "configs" / "local.yaml")},
    }
    settings = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [graph]}
    deploy(settings, echo_folder, dashboard)
    await_answer("echo cheap: hello", port, wait_until)


def test_the_application_of_a_ray_service_is_deployed_with_its_replicas_where_it_says(
    echo_folder: Path, dashboard: str, port: int, wait_until: Callable[..., float]
) -> None:
    """What `serve-graph manifests` embeds, with another path and port; no version is registered.

    It takes the place of the graph that was deployed before.
    """
    echo, path = (echo_folder / "configs" / f"{name}.yaml" for name in ("local", "service"))
    path.write_text(echo.read_text().replace("version: builtin", "version: stable"))
    settings = serve_config(load_config(path))
    settings["http_options"] = {"host": "127.0.0.1", "port": port}
    settings["applications"][0]["args"]["config"] = str(path)
    deploy(settings, echo_folder, dashboard)
    await_answer("echo frontier: hello", port, wait_until)
    told = httpx.get(f"{dashboard}/api/serve/applications/", timeout=30).json()["applications"]["serve-graph"]
    placed = {
        name: deployment["deployment_config"]["ray_actor_options"].get("resources")
        for name, deployment in told["deployments"].items()
    }
    names = {"cheap", "frontier", "router", "verifier", "controller", "ingress"}
    assert placed == {name: {"serving": 0.001} for name in names}
    scaling = told["deployments"]["ingress"]["deployment_config"]["autoscaling_config"]
    assert scaling["max_replicas"] == load_config(path).http.scaling.max_replicas, "the builder's own options stay"


def deploy(settings: dict[str, Any], folder: Path, dashboard: str) -> None:
    deployed = folder / "deploy.yaml"
    deployed.write_text(yaml.safe_dump(settings))
    command = [SERVE, "deploy", str(deployed), "--address", dashboard]
    said = subprocess.run(command, capture_output=True, text=True, timeout=200, env=ENVIRONMENT, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def await_answer(wanted: str, port: int, wait_until: Callable[..., float]) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}

    def answered() -> bool:
        try:
            reply = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=20)
        except httpx.TransportError:
            return False
        return reply.status_code == 200 and bool(reply.json()["choices"][0]["message"]["content"] == wanted)

    wait_until(answered, 240)
