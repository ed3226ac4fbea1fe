"""Start the graph on this machine and stop it: only what was started here is stopped.

Ray Serve reads its HAProxy and throughput settings when it is first imported, so `prepare_environment` must run before
any import of ray; this module imports none at its top.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from router_models.types import Progress
from serve_graph.access.listening import check_listening
from serve_graph.cli.local.builder import Builder, on_a_busy_machine
from serve_graph.cli.local.haproxy import CONFIG_NAME, usable_haproxy, without_splicing
from serve_graph.cli.local.haproxy import OVERRIDE as HAPROXY_OVERRIDE
from serve_graph.cluster.replicas.lean_imports import spare_pandas_in_workers
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.scaling import LOAD_TOLD
from serve_graph.errors import ConfigError, ServeGraphError

READY_WITHIN_S = 40.0
REPLICA_PORTS = 50
REPLICA_PORTS_WITHIN = (20_000, 32_000)


def prepare_environment(config: GraphConfig, scratch: Path) -> bool:
    """Set what Ray Serve reads at import: throughput mode, and HAProxy if its binary runs; returns whether it does.

    HAProxy's files and ports belong to this start alone, so that two graphs on one machine do not collide.
    """
    haproxy = usable_haproxy() if config.http.haproxy else None
    metrics_port, stats_port, fallback_port, grpc_fallback_port = free_ports(4)
    first, last = free_range(REPLICA_PORTS)
    settings = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy else "0",
        **LOAD_TOLD,
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(config.http.replica_message_bytes),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",  # Ray's 30 s are too short on a busy machine
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # so are 5 s until a proxy is killed and restarted
        # Ray would start a worker a core for the process that starts the cluster, where another one deploys the graph.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_worker_niceness": "0",  # Ray's default of 15 would run engines after everything else on the machine
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / CONFIG_NAME),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(scratch / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        # HAProxy's fallback while no ingress replica is healthy, and the ports of those replicas. Ray's default ports
        # are the same for every cluster, so one graph could answer for another.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(grpc_fallback_port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
        # Delay before a removed ingress stops: 30 s by default, for load balancers, which this machine does not have.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
    if haproxy is not None:
        ports = (metrics_port, stats_port)
        settings[HAPROXY_OVERRIDE] = str(without_splicing(haproxy, scratch, ports, config.http.head_timeout_s))
    os.environ.update(settings)
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's default, which who connects to the cluster is not told of
    spare_pandas_in_workers()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # vLLM logs to stdout, which is for results
    return haproxy is not None


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    return free_ports(1)[0]


def free_ports(n: int) -> list[int]:
    """Return `n` different TCP ports that were free a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_range(n: int, within: tuple[int, int] = REPLICA_PORTS_WITHIN) -> tuple[int, int]:
    """Return the first and last of `n` adjacent TCP ports that were free a moment ago, chosen at random.

    By default they lie between the ports of Ray's workers and those that the system uses for outgoing connections.
    Raises ServeGraphError if no such range is left.
    """
    low, high = within
    for first in random.sample(range(low, high - n + 1, n), k=(high - low) // n):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + n):
                stack.enter_context(socket.socket()).bind(("0.0.0.0", port))
            return first, first + n - 1
    raise ServeGraphError(f"no {n} adjacent ports between {low} and {high} are free")


def check_port(host: str, port: int) -> None:
    """Raise ConfigError if the port is already in use, naming the port and the remedy."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} is taken ({error.strerror}); stop what listens there or set http.port (--port)"
            ) from error


@contextmanager
def running_graph(
    config: GraphConfig,
    version: Path | None = None,
    progress: Progress = lambda _: None,
    stop: threading.Event | None = None,
    builder: Builder | None = None,
) -> Iterator[str]:
    """Run a local Ray cluster with the graph for the duration of the block; yields the base URL.

    Another process builds and deploys it (`builder`, or one of its own) and ends before the block begins.

    Raises ConfigError before anything starts, what is wrong with weights or a version before it is deployed, and
    ServeGraphError if a deployment does not start or `stop` is set meanwhile. On exit the cluster that it started is
    shut down, and nothing else.
    """
    check_listening(config)
    check_port(config.http.host, config.http.port)
    scratch = Path(tempfile.mkdtemp(prefix="sg-", dir="/tmp"))
    chosen = os.environ.get(HAPROXY_OVERRIDE)
    haproxy = prepare_environment(config, scratch)
    with ExitStack() as started:  # undone in reverse order, as far as it went
        started.callback(shutil.rmtree, scratch, ignore_errors=True)
        started.callback(_restore_environment, HAPROXY_OVERRIDE, chosen)  # ours is in the temporary folder
        progress(f"starting a local Ray cluster ({'HAProxy' if haproxy else 'plain proxy'}, throughput mode)")
        builder = started.enter_context(Builder(config) if builder is None else builder)
        builder.load_ahead(os.environ)
        started.enter_context(_cluster(config))
        import ray

        builder.deploy(ray.get_runtime_context().gcs_address, version, progress, stop)
        builder.close()
        url = f"http://{config.http.host}:{config.http.port}"
        await_ready(url, stop)
        yield url


@contextmanager
def _cluster(config: GraphConfig) -> Iterator[None]:
    """A Ray cluster of this machine alone; at the end what runs on it is let finish, and it is stopped."""
    import ray  # without Ray Serve, which only who deploys and who stops need

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with on_a_busy_machine():
        ray.init(
            num_cpus=config.logical_cpus or max(os.cpu_count() or 1, 4),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            address="local",
        )
    _restore_signals(handlers)
    try:
        yield
    finally:
        from ray import serve

        for chatty in ("ray.serve", "httpx"):  # replaced by our own progress lines
            logging.getLogger(chatty).setLevel(logging.WARNING)
        try:
            serve.shutdown()
        finally:
            ray.shutdown()


def _restore_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _restore_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    """Restore the signal handlers that `ray.init` replaced: Ray's aborts on SIGTERM and leaves the cluster."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, _exit if handler is signal.SIG_DFL else handler)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)


def await_ready(url: str, stop: threading.Event | None = None, seconds: float = READY_WITHIN_S) -> bool:
    """Wait until the endpoint says that it is ready, for so long; returns whether it does.

    Where it does not, it is up all the same: its safe tier may be an API that is away.
    """
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and not (stop is not None and stop.is_set()):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it answers, and tells us no more
                return True
        except OSError:  # the proxy does not know of the ingress yet
            pass
        time.sleep(0.2)
    return False
