"""The checks of `serve-graph doctor`, which start nothing: one finding per requirement of start-up."""

from __future__ import annotations

import asyncio
import http.client
import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from router_models.data.embeddings.encoder import Encoder
from router_models.errors import RouterModelsError
from serve_graph.cli.client.api_key import KEY_ADVICE, key_headers
from serve_graph.cli.client.readiness import tells_everything
from serve_graph.cli.extras import sentence, vllm_extra
from serve_graph.cli.local.haproxy import usable_haproxy
from serve_graph.cli.local.launch import check_port
from serve_graph.cli.local.memory import available_gib, memory_needed
from serve_graph.cluster.replicas.nodes import check_nodes
from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import TracingConfig
from serve_graph.config.tiers.kinds import HostedTierConfig, VllmTierConfig
from serve_graph.engines.telemetry.tracing import check_tracing
from serve_graph.engines.weights.model_folder import check_model_folder
from serve_graph.engines.weights.resolve import PACKAGED, check_folder, unpinned
from serve_graph.errors import ServeGraphError
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.policy.bindings import vllm_version
from serve_graph.policy.serving_version import serving_version

REACHED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, whether it passed, and the figure or the remedy."""

    check: str
    ok: bool
    detail: str


def examine(config: GraphConfig) -> list[Finding]:
    """Run every check; none raises."""
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        "ray": _ray,
        "memory": lambda: _memory(config),
        "port": lambda: _port(config),
        "haproxy": lambda: "runs" if usable_haproxy() else "does not run here; the plain proxy will be used",
        "nodes": lambda: _nodes(config),
        **({"known tasks": lambda: _graders(config)} if config.graders.tasks else {}),
        "encoder": lambda: f"sha256 {Encoder().digest[:12]}",
        **{f"tier {tier.name}": _tier_check(tier, config) for tier in config.every_tier},
        "accounts": lambda: _accounts(config),
        "contexts": lambda: _contexts(config),
        "capabilities": lambda: "; ".join(f"{t.name}: {', '.join(sorted(t.capabilities))}" for t in config.tiers),
        "router version": lambda: _version(config),
        **({"decision store": lambda: _store(config)} if config.records.url else {}),
        **({"tracing": partial(_collector, config.tracing)} if config.tracing is not None else {}),
    }
    return [_finding(name, check) for name, check in checks.items()]


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except (ServeGraphError, RouterModelsError, OSError) as error:
        return Finding(name, False, str(error))


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise ServeGraphError(f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]}")
    return sys.version.split()[0]


def _ray() -> str:
    if importlib.util.find_spec("ray") is None:
        raise ServeGraphError(sentence("serving", "ray"))
    return importlib.metadata.version("ray")


def _memory(config: GraphConfig) -> str:
    need, gib = memory_needed(config), available_gib()
    free = shutil.disk_usage(".").free / 2**30
    if gib < need.gib:
        raise ServeGraphError(f"{gib:.3g} GiB of memory; this configuration needs {need.text()}")
    return f"{gib:.0f} GiB, {need.text()} needed, {os.cpu_count()} cores, {free:.0f} GiB of disk free"


def _port(config: GraphConfig) -> str:
    check_port(config.http.host, config.http.port)
    return f"{config.http.host}:{config.http.port} is free"


def _graders(config: GraphConfig) -> str:
    graders = TaskGraders.read(config.graders.tasks)
    return f"{0 if graders is None else len(graders.tasks)}, whose answers programs grade"


def _nodes(config: GraphConfig) -> str:
    check_nodes(config)
    return "one" if config.nodes == "one" else "several, and no key names what one node alone has"


def _tier_check(tier: VllmTierConfig | HostedTierConfig | object, config: GraphConfig) -> Callable[[], str]:
    def check() -> str:
        if isinstance(tier, HostedTierConfig):
            for api in tier.apis:
                api.read_key()
            return ", ".join(f"{api.model} at {api.base_url or f'api.{api.api}.com'}" for api in tier.apis)
        if not isinstance(tier, VllmTierConfig):
            return "echo: no model"
        if vllm_version() == "none":
            raise ServeGraphError(sentence(f"tier {tier.name!r}", "vllm", vllm_extra(tier.accelerator)))
        name = tier.weights.package
        if tier.weights.folder is not None:
            digest = check_model_folder(tier.weights.folder, config.state_folder)
            return f"vLLM {vllm_version()}, {tier.weights.folder}, weights verified ({digest[:12]})"
        if name is None:
            advice = unpinned(tier.weights)
            return f"vLLM {vllm_version()}, {advice or f'{tier.weights.hub}@{tier.weights.revision}'}"
        if name not in PACKAGED:
            raise ServeGraphError(f"unknown packaged model {name!r}; available: {', '.join(sorted(PACKAGED))}")
        folder = config.state_folder.resolve() / "weights" / name
        state = (
            f"weights verified ({check_folder(name, folder)[:12]})" if folder.exists() else "weights not converted yet"
        )
        return f"vLLM {vllm_version()}, {name}, {state}"

    return check


def _accounts(config: GraphConfig) -> str:
    """What a graph that runs at the configured port has seen of its hosted tiers' keys, accounts and models."""
    if not any(isinstance(tier, HostedTierConfig) for tier in config.tiers):
        return "no hosted tier"
    connection = http.client.HTTPConnection(config.http.host, config.http.port, timeout=5.0)
    try:
        connection.request("GET", "/readyz", headers=key_headers())
        state = json.loads(connection.getresponse().read())
        if "ready" in state and not tells_everything(state):
            return f"a running graph tells what it has seen to admin keys only: {KEY_ADVICE}"
        faults = dict(state.get("tier_faults", {}))
    except (OSError, http.client.HTTPException, ValueError, AttributeError, TypeError):
        return "no graph is running that could tell whether the APIs take the keys and models"
    finally:
        connection.close()
    if faults:
        raise ServeGraphError("; ".join(f"tier {tier}: {fault}" for tier, fault in faults.items()))
    return "no API refuses its tier's key, account or model in the running graph"


def _contexts(config: GraphConfig) -> str:
    known = ", ".join(f"{tier.name} {tier.context_limit}" for tier in config.tiers if tier.context_limit is not None)
    unknown = ", ".join(tier.name for tier in config.tiers if tier.context_limit is None)
    if not unknown:
        return f"tokens: {known}"
    warning = f"warning: no context_tokens for {unknown}, so that no prompt is taken to be too long there"
    return f"{warning}; tokens: {known}" if known else warning


def _store(config: GraphConfig) -> str:
    """Whether a configured decision store answers, and how its schema stands to this release; nothing is changed."""
    try:
        return asyncio.run(_schema_of(config.records_url))
    except ModuleNotFoundError as error:
        raise ServeGraphError(sentence("the decision store", "asyncpg")) from error


async def _schema_of(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine

    from serve_graph.records.migrations.migrate import HEAD, revision_of

    named = make_url(url)
    if named.get_backend_name() == "sqlite" and named.database and not (path := Path(named.database)).exists():
        if not path.parent.is_dir():
            raise ServeGraphError(f"records.url: there is no folder {path.parent}")
        return f"there is none; it is made at start, in {path.parent}"
    engine = create_async_engine(url)
    try:
        async with asyncio.timeout(REACHED_WITHIN_S), engine.connect() as connection:
            revision = await connection.run_sync(revision_of)
    except (OSError, SQLAlchemyError) as error:  # a TimeoutError is an OSError
        raise ServeGraphError(f"records.url cannot be reached ({type(error).__name__})") from error
    finally:
        await engine.dispose()
    if revision is not None and revision > HEAD:
        raise ServeGraphError(f"its schema is at revision {revision}, of a newer release; this one knows {HEAD}")
    if revision != HEAD:
        found = revision or "none"
        return f"answers; its schema is at {found}, and is brought to {HEAD} at start, or by `records migrate`"
    return f"answers; its schema is this release's ({HEAD})"


def _collector(config: TracingConfig) -> str:
    """Whether OpenTelemetry is installed and something listens where spans are sent."""
    check_tracing(config)
    url = urlsplit(config.traces_url)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise ServeGraphError(f"tracing.otlp_endpoint: {error}") from None
    try:
        socket.create_connection((url.hostname or "", port), REACHED_WITHIN_S).close()
    except OSError as error:
        raise ServeGraphError(
            f"nothing takes spans at {url.hostname}:{port} ({error.strerror or type(error).__name__}); "
            "requests would be answered, and their spans lost"
        ) from error
    return f"{url.scheme}://{url.hostname}:{port}{url.path}, {config.sample:.0%} of requests"


def _version(config: GraphConfig) -> str:
    served = serving_version(config)
    if served.refused:
        raise ServeGraphError(f"{config.tiers[-1].name} answers everything: {served.reason}")
    overload_points = served.version.policy.overload_points if served.version else {}
    idle = "; policy.overload_fallback is on, but none is certified: a full last tier is a 429"
    return f"{served.name}: {served.reason}{idle if config.policy.overload_fallback and not overload_points else ''}"
