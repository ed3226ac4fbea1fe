"""Who is compared: how each is started over the same upstream, and how it is asked."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import yaml

from benchmarks.gateways.upstream import MODEL
from benchmarks.graphs import ROOT, SERVE_GRAPH, Started, started
from benchmarks.overhead import ANIMALS, TIERS, prepared, question
from serve_graph.cli.local.launch import free_port

INSTALLED = ROOT / ".venv-gateways"
ADMISSION = {"max_in_flight": 300, "max_queued": 300}
"""Of 256 callers none is refused: no other gateway has a limit."""
CLAUSES = (
    "name first what most people see", "then what they see at dusk", "in snow and under a lamp",
    "say how sure you are of each of these", "in the order in which they were asked for", "leave nothing out of it",
    "and write all on one line",
)  # fmt: skip
"""What makes a question long; in another order in each, so that no parts of it are those of one that came before."""
AT_LENGTH, PACED = " [echo:words=50]", " [echo:pace=0.02]"
"""What makes the echoed answer of a short question fifty chunks, and an engine of 50 tokens a second of the echo."""


@dataclass(frozen=True)
class Contender:
    """A gateway that runs, and how its endpoint is asked. One program may be asked in several ways."""

    name: str
    runs: Started
    model: str
    version: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tier: str | None = None
    """Who is to answer nearly all; None: whoever does."""


def asked(i: int, *, at_length: bool = False, paced: bool = False, long: bool = False) -> str:
    """The i-th question, short unless `long`; answered in a few words unless `at_length`, at once unless `paced`."""
    clauses = Random(i).sample(CLAUSES, len(CLAUSES))
    words = f" Answer in plain words: {', '.join(clauses)}." if long else ""
    return question(i) + words + AT_LENGTH * at_length + PACED * paced


def trained(i: int) -> str:
    """The version learns from all kinds, of every animal: what it has not seen goes to the last tier as novel.

    Half are short ones, few of whose letters are the same in all.
    """
    others: tuple[dict[str, bool], ...] = ({"at_length": True}, {"long": True}, {"at_length": True, "paced": True})
    turn, is_other = divmod(i // len(ANIMALS), 2)
    return asked(i, **others[turn % len(others)]) if is_other else asked(i)


def ours(stack: ExitStack, folder: Path, upstream: Started) -> list[Contender]:
    """One graph: its cheap tier an echo engine in the graph, its last one the upstream over HTTP."""
    hosted = {"name": "frontier", "engine": "openai", "model": MODEL, "base_url": f"{upstream.url}/v1"}
    hosted |= {"placement": "ingress", "admission": ADMISSION}
    last = hosted | {"api_key_file": str(folder / "key"), "price": TIERS[1]["price"]}
    (folder / "key").write_text("none\n")
    path, url = prepared(folder, (TIERS[0] | {"admission": ADMISSION}, last), trained, ("ingress",), 2400)["ingress"]
    graph = stack.enter_context(
        started([SERVE_GRAPH, "up", "--config", str(path)], url, folder / "ours.log", within_s=400)
    )
    version = importlib.metadata.version("serve-graph")
    return [
        Contender(name, graph, model, version, tier=tier)
        for name, model, tier in (
            ("ours, routed", "auto", "cheap"),
            ("ours, forced", "cheap", "cheap"),
            ("ours, hosted", "frontier", "frontier"),
        )
    ]


def ray_llm(stack: ExitStack, folder: Path, _: Started) -> list[Contender]:
    """Ray Serve's own OpenAI endpoint over the echo engine."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.gateways.ray_llm", "--port", str(port)]
    runs = started(words, f"http://127.0.0.1:{port}", folder / "ray_llm.log", within_s=400, ready="/v1/models")
    return [Contender("ray.serve.llm", stack.enter_context(runs), MODEL, importlib.metadata.version("ray"))]


def constant(stack: ExitStack, folder: Path, _: Started) -> list[Contender]:
    """Ray Serve with an ingress that replies the same to all: what is in every figure of an endpoint on it."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.gateways.ray_llm", "--port", str(port), "--constant"]
    runs = started(words, f"http://127.0.0.1:{port}", folder / "constant.log", within_s=400, ready="/v1/models")
    name = "Ray Serve, a constant reply"
    return [Contender(name, stack.enter_context(runs), MODEL, importlib.metadata.version("ray"))]


def litellm(stack: ExitStack, folder: Path, upstream: Started) -> list[Contender]:
    """LiteLLM's proxy as it comes, and as its page on production has it: a worker a core, and no logs but errors.

    A worker that does not answer within five seconds, which it takes to start here, is killed and started again
    without end, unless it is given more: one of two did so all along, and took a core.
    """
    program, path = INSTALLED / "litellm" / "bin" / "litellm", folder / "litellm.yaml"
    version = installed_version(program.parent / "python", "litellm")
    params = {"model": f"openai/{MODEL}", "api_base": f"{upstream.url}/v1", "api_key": "none"}
    settings = {"litellm_settings": {"set_verbose": False, "request_timeout": 600}}
    path.write_text(yaml.safe_dump({"model_list": [{"model_name": MODEL, "litellm_params": params}]} | settings))
    found = []
    plain: list[str] = []
    no_key = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # as the others have none here
    for name, more, environment in (
        ("LiteLLM proxy", plain, no_key),
        (
            "LiteLLM proxy, production settings",
            ["--num_workers", str(os.cpu_count() or 1), "--timeout_worker_healthcheck", "120"],
            no_key | {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"},
        ),
    ):
        port = free_port()
        words = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), *more]
        log = folder / f"{'production' if more else 'plain'}-litellm.log"
        runs = started(words, f"http://127.0.0.1:{port}", log, within_s=300, ready="/health/liveliness", **environment)
        found.append(Contender(name, stack.enter_context(runs), MODEL, version))
    return found


def portkey(stack: ExitStack, folder: Path, upstream: Started) -> list[Contender]:
    """Portkey's gateway; where to call is a header of each request.

    Its streams fail where Node.js keeps the headers of a fetched response immutable, which it appends to (1.15.2).
    """
    package = INSTALLED / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    version = json.loads((package / "package.json").read_text())["version"]
    port = free_port()
    program = INSTALLED / "portkey" / "node_modules" / ".bin" / "gateway"
    words = [str(program), "--headless", f"--port={port}"]
    runs = started(words, f"http://127.0.0.1:{port}", folder / "portkey.log", ready="/", NODE_ENV="production")
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream.url}/v1"}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return [Contender("Portkey gateway", stack.enter_context(runs), MODEL, f"{version} (Node.js {node})", headers)]


def vllm_router(stack: ExitStack, folder: Path, upstream: Started) -> list[Contender]:
    """vllm-router over one worker, in turn: what any policy of it comes to with one."""
    program = INSTALLED / "vllm-router" / "bin" / "vllm-router"
    port, metrics = free_port(), free_port()
    words = [
        str(program), "--host", "127.0.0.1", "--port", str(port), "--worker-urls", upstream.url,
        "--policy", "round_robin", "--prometheus-port", str(metrics), "--log-level", "error",
    ]  # fmt: skip
    runs = started(words, f"http://127.0.0.1:{port}", folder / "vllm-router.log", ready="/health")
    version = installed_version(program.parent / "python", "vllm-router")
    return [Contender("vllm-router", stack.enter_context(runs), MODEL, version)]


GATEWAYS: Mapping[str, Callable[[ExitStack, Path, Started], list[Contender]]] = {
    "ours": ours,
    "ray": ray_llm,
    "litellm": litellm,
    "portkey": portkey,
    "vllm-router": vllm_router,
    "constant": constant,
}
USUAL = tuple(name for name in GATEWAYS if name != "constant")
"""Who is compared where nothing is said: a third Ray cluster would be beside all others' figures."""
PROGRAMS: Mapping[str, str] = {
    "litellm": "litellm/bin/litellm",
    "portkey": "portkey/node_modules/.bin/gateway",
    "vllm-router": "vllm-router/bin/vllm-router",
}
"""What `make bench-gateways` installs of each, below INSTALLED."""


def missing(chosen: list[str]) -> list[str]:
    """The gateways that are not installed here."""
    return [name for name in chosen if name in PROGRAMS and not (INSTALLED / PROGRAMS[name]).exists()]


def installed_version(python: Path, package: str) -> str:
    """The version of a package in another environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def upstream_of(stack: ExitStack, folder: Path) -> Contender:
    """The upstream itself, asked without a gateway."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.gateways.upstream", "--port", str(port)]
    runs = stack.enter_context(started(words, f"http://127.0.0.1:{port}", folder / "upstream.log", ready="/health"))
    return Contender("upstream, asked directly", runs, MODEL, "")


def versions_said(found: Sequence[Contender]) -> str:
    """Who was compared, in which version."""
    said = {each.name.partition(",")[0]: each.version for each in found if each.version}
    return ", ".join(f"{name} {version}" for name, version in said.items())
