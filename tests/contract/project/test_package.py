"""The distribution as somebody else gets it: wheel and sdist, installed outside the checkout (`make package`).

Needs uv and a package registry; takes a minute or two.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from router_models.data.outcomes import prompt_id

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
UV = Path(sys.executable).with_name("uv")
EVALUATE = ("evaluate", "-o", "small.csv", "--weak", "a", "--strong", "b", "--router", "length", "--json")


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command away from the checkout, which is not on the path there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def done(*words: str | Path, cwd: Path) -> str:
    ended = run(*words, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done(UV, "build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)
    return folder


def installed(distribution: Path, extra: str, folder: Path) -> Path:
    """The command line of a fresh environment with the distribution and one extra."""
    done(UV, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    named = f"{distribution}[{extra}]" if extra else str(distribution)
    compiled = ["--compile-bytecode"] if extra else []  # as `make env` does: a start takes half as long
    done(UV, "pip", "install", "--quiet", *compiled, "--python", folder / "env/bin/python", named, cwd=folder)
    return folder / "env" / "bin" / "serve-graph"


@pytest.fixture(scope="module")
def offline(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(next(built.glob("*.whl")), "", tmp_path_factory.mktemp("offline"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Sixty prompts, of which `a` answers the short ones and `b` all but one."""
    rows = ["prompt_id,prompt,a,b"]
    for i in range(60):
        prompt = f"What is {i} {'and something more ' * (i % 7)}times {i * i}?"
        rows.append(f"{prompt_id(prompt)},{prompt},{int(i % 7 < 3)},{int(i != 5)}")
    (tmp_path / "small.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_wheel_holds_what_is_no_python_too(built: Path) -> None:
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    assert {
        "router_models/py.typed",
        "serve_graph/py.typed",
        "serve_graph/config/templates/hosted.yaml",
        "router_models/data/starter/outcomes.parquet",
        "router_models/data/embeddings/all_minilm_l6_v2/tokenizer.json",
    } <= names
    assert {name.split("/")[0] for name in names} == {
        "router_models",
        "serve_graph",
        f"serve_graph-{VERSION}.dist-info",
    }


def test_without_an_extra_there_is_no_ray_no_openai_and_no_pytorch(offline: Path) -> None:
    code = "import importlib.util as u; print([m for m in ('ray', 'openai', 'torch', 'vllm') if u.find_spec(m)])"
    assert done(offline.with_name("python"), "-c", code, cwd=offline.parent).strip() == "[]"


def test_without_an_extra_the_offline_half_works(offline: Path, table: Path) -> None:
    assert done(offline, "--version", cwd=table) == f"serve-graph {VERSION}\n"
    figures = json.loads(done(offline, *EVALUATE, cwd=table))
    assert figures
    plan = ("plan", "-o", "small.csv", "--weak", "a", "--strong", "b", "--volume", "1000", "--chars-per-token", "4")
    prices = ("--price-weak", "0.1,0.2", "--price-strong", "1,2", "--tokens-weak", "9,9", "--tokens-strong", "9,9")
    assert "# Plan" in done(offline, *plan, *prices, cwd=table)


def test_without_an_extra_up_says_what_it_needs(offline: Path, tmp_path: Path) -> None:
    done(offline, "init", "echo", cwd=tmp_path)
    refused = run(offline, "up", "--config", "configs/echo.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "serve-graph: `serve-graph up` needs Ray Serve: pip install 'serve-graph[serve]'\n"


def test_the_sdist_installs_as_well(built: Path, tmp_path: Path) -> None:
    command = installed(next(built.glob("*.tar.gz")), "", tmp_path)
    assert done(command, "--version", cwd=tmp_path) == f"serve-graph {VERSION}\n"
    done(command, "init", "hosted", cwd=tmp_path)


def test_with_what_serves_the_shipped_echo_configuration_comes_up_and_answers(built: Path, tmp_path: Path) -> None:
    command = installed(next(built.glob("*.whl")), "serve", tmp_path)
    done(command, "init", "echo", cwd=tmp_path)
    with up(command, tmp_path) as url:
        asked = {"model": "auto", "messages": [{"role": "user", "content": "Anybody there?"}]}
        reply = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60)
        assert reply.status_code == 200
        assert reply.headers["x-serve-graph-tier"] == "cheap"
        assert httpx.get(f"{url}/openapi.json", timeout=60).json()["info"]["version"] == VERSION


@contextmanager
def up(command: Path, folder: Path) -> Iterator[str]:
    """The echo graph of `folder`, for as long as the block runs; it must end by itself when told to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "up.log"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("w") as out:
        words = [str(command), "up", "--config", "configs/echo.yaml", "--port", str(port)]
        graph = subprocess.Popen(words, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 400
        while "serve-graph is up" not in log.read_text():
            assert graph.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.5)
        yield url
    finally:
        graph.send_signal(signal.SIGINT)
        assert graph.wait(timeout=120) == 0, log.read_text()
