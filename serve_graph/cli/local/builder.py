"""The process that builds a graph: it fits a first version, composes the application and deploys it, and then ends.

What that loads (MLflow, scikit-learn, pandas, vLLM: half a gigabyte to two) is of no use afterwards, and `up` runs for
as long as the graph does: it holds none of it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from router_models.errors import RouterModelsError
from router_models.types import Progress
from serve_graph.cli.output import progress_of, show_warnings
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError

APP = "serve-graph"
SAY_AGAIN_S = 20.0
HEARD_EVERY_S = 0.2
END_WITHIN_S = 10.0
TOLD = (ServeGraphError, RouterModelsError, OSError, ModuleNotFoundError)
"""Errors that are raised again in the process that asked; any other is a fault of ours, and printed with its trace."""


class Builder:
    """Another process, from the first thing that it is asked for to `close`; a context that closes it.

    Errors that it meets are raised here as if they had been met here.
    """

    def __init__(self, config: GraphConfig) -> None:
        self.config = config
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._waits_for = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def first_version(self, progress: Progress, budget_s: float | None = None) -> str | None:
        """`ensure_first_version`. What fitting took of memory is free afterwards."""
        reason, fitted = self._ask("first version", progress, None, budget_s)
        if fitted:
            self.close()
        return None if reason is None else str(reason)

    def load_ahead(self, environment: Mapping[str, str]) -> None:
        """Begin to import what deploying needs, under these environment variables, and return at once."""
        self._begin("load ahead", dict(environment))

    def deploy(
        self,
        address: str,
        version: Path | None = None,
        progress: Progress = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        """Deploy the graph on the cluster at this address, and wait until all of it runs.

        Raises what `build_app` raises, and ServeGraphError where a deployment does not start, or `stop` is set.
        """
        self._ask("deploy", progress, stop, address, version)

    def own_report(self) -> dict[str, Any]:
        """What a graph of this configuration tells administrators, worked out from its registry."""
        report: dict[str, Any] = self._ask("own report", lambda _: None, None)
        return report

    def close(self) -> None:
        """End the process, whatever it does."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        self._waits_for = 0
        if process is None or connection is None:
            return
        connection.close()  # it ends by itself where it has nothing to do
        process.join(0.5)
        if process.is_alive():
            process.terminate()
            process.join(END_WITHIN_S)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()

    def _begin(self, task: str, *given: Any) -> None:
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=work, args=(self.config, theirs), name="builder", daemon=True)
            self._process.start()
            theirs.close()
        with suppress(BrokenPipeError):  # it has died: noticed as its reply is waited for
            self._connection.send((task, given))
        self._waits_for += 1

    def _ask(self, task: str, progress: Progress, stop: threading.Event | None, *given: Any) -> Any:
        """Have it do a task after those that were begun; returns this one's result."""
        self._begin(task, *given)
        result: Any = None
        while self._waits_for:
            kind, said = self._next(stop)
            if kind == "progress":
                progress(said)
                continue
            self._waits_for -= 1
            if kind == "failed":
                self.close()
                raise said
            result = said
        return result

    def _next(self, stop: threading.Event | None) -> tuple[str, Any]:
        """What it says next."""
        process, connection = self._process, self._connection
        assert process is not None
        assert connection is not None
        try:
            while not connection.poll(HEARD_EVERY_S):
                if stop is not None and stop.is_set():
                    self.close()
                    raise ServeGraphError("stopped while starting")
            kind, said = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            code = process.exitcode
            self.close()
            raise ServeGraphError(
                f"the process that builds the graph ended with exit code {code} before it was done; it may have been "
                "killed for want of memory"
            ) from None
        return str(kind), said


def work(config: GraphConfig, connection: Connection) -> None:
    """Do what the other process asks for until it closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other's to act on; it ends this process
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    progress_of(config.logging)  # what else is logged here has the configured form, too
    show_warnings()

    def say(message: str) -> None:
        connection.send(("progress", message))

    while True:
        try:
            task, given = connection.recv()
        except (EOFError, ConnectionResetError):  # reset where it ended before it read all that was said
            return
        try:
            result = TASKS[task](config, say, *given)
            reply: tuple[str, Any] = ("done", result)
        except TOLD as error:
            reply = ("failed", _portable(error))
        with suppress(BrokenPipeError, ConnectionResetError):  # nobody waits for it: the next look says so
            connection.send(reply)


def _end_with_parent() -> None:
    """Let nothing go on for a process that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error, or one of the same words where another process could not make it again."""
    try:
        copy(error)  # takes it apart and makes it again, as its way to another process does
    except Exception:  # noqa: BLE001 (whatever its class raises)
        return ServeGraphError(str(error))
    return error


def _first_version(config: GraphConfig, say: Progress, budget_s: float | None) -> tuple[str | None, bool]:
    """Why there is no version, if there is none; and whether this process has loaded what fits versions."""
    from serve_graph.policy.serving_version import ensure_first_version

    reason = ensure_first_version(config, say, budget_s)
    return reason, "router_models.pipeline" in sys.modules


def _load_ahead(config: GraphConfig, _: Progress, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)  # before Ray Serve, which reads it when it is imported
    from serve_graph.cluster.replicas.lean_imports import spare_pandas

    spare_pandas()
    import serve_graph.app

    if any(tier.engine == "vllm" for tier in (*config.tiers, *config.embedders)):
        import serve_graph.engines.vllm.deployment  # noqa: F401 (and vLLM with it)


def _deploy(config: GraphConfig, say: Progress, address: str, version: Path | None) -> None:
    import ray
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    from serve_graph.app import build_app

    for chatty in ("ray.serve", "httpx"):  # replaced by our own progress lines
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with on_a_busy_machine():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's own handler would wait for the cluster
        serve.start(proxy_location="HeadOnly", http_options={"host": config.http.host, "port": config.http.port})
    args = {"config": config} | ({} if version is None else {"version": str(version)})
    application = build_app(args)  # after ray.init: building an LLMServer asks the cluster for its hardware
    serve.run_many([serve.RunTarget(application, name=APP)], wait_for_applications_running=False)
    started = time.monotonic()
    waiting_for: tuple[str, ...] = ()
    say_again = 0.0
    while True:
        status = serve.status().applications[APP]
        if status.status == ApplicationStatus.RUNNING:
            return
        failed = {name: d for name, d in status.deployments.items() if str(d.status.value) == "DEPLOY_FAILED"}
        if failed or status.status == ApplicationStatus.DEPLOY_FAILED:
            reasons = "; ".join(f"{name}: {d.message}" for name, d in failed.items()) or status.message
            raise ServeGraphError(f"the graph did not start: {reasons}")
        pending = tuple(sorted(n for n, d in status.deployments.items() if str(d.status.value) != "HEALTHY"))
        waited = time.monotonic() - started
        if pending != waiting_for or waited >= say_again:
            waiting_for, say_again = pending, waited + SAY_AGAIN_S
            say(f"{waited:4.0f} s: waiting for {', '.join(pending) or 'the ingress'}")
        time.sleep(0.5)


def _own_report(config: GraphConfig, _: Progress) -> dict[str, Any]:
    from serve_graph.cluster.readiness import readiness_report
    from serve_graph.policy.served_version import ServedVersion
    from serve_graph.policy.serving_version import serving_version
    from serve_graph.policy.validity import CertificateStatus

    served = serving_version(config)
    held = CertificateStatus(served.validity, served.name)
    tiers = config.tier_names
    return readiness_report(
        ServedVersion.of(served, config), held, tiers, config.policy.safe_tier, dict.fromkeys(tiers, True)
    )


@contextmanager
def on_a_busy_machine() -> Iterator[None]:
    """Convert what Ray raises when it gives up on a slow machine (a bare Exception, a dead actor) to one sentence."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ServeGraphError(f"Ray did not start: {reason} Try again when the machine is less busy.") from error


TASKS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"first version": _first_version, "load ahead": _load_ahead, "deploy": _deploy, "own report": _own_report}
)
