"""A verifier model of vLLM as a Ray Serve deployment: one of the graph's, or an application of its own for a pass.

A pass asks the deployment that the graph has, so that an answer's score is the same in either. Where no Serve runs it
has one without a proxy, marked as a batch run's: what a killed run left ends with the next, and nobody else's does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from serve_graph.cluster.proxy_address import root_path_of_serve, serve_runs
from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import VllmVerifierConfig
from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.engines.scores import Scoring
from serve_graph.engines.vllm.settings import llm_config
from serve_graph.engines.weights.loaded_files import loaded_files
from serve_graph.engines.weights.resolve import resolve_weights
from serve_graph.errors import ConfigError, ServeGraphError

AskVerifier = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
AWAY = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError, BackPressureError)
"""What is raised where no replica takes a call, or the one that took it ended."""
PASSES_ROOT = "/batch-passes/"
"""Before a run's name, the root path of a Serve that it started: its mark, as nothing listens there."""
MARKS, STARTING, ENDING = "serve_graph_batch_passes", "starting-", "ending-"
SEEN_EVERY_S = 0.1
ENDS_WITHIN_S, FORGOTTEN_WITHIN_S = 120.0, 10.0
"""How long another run may take to end Serve, and the cluster to forget a mark that is gone."""


def bind_vllm_verifier(verifier: VllmVerifierConfig, config: GraphConfig) -> Application:
    """Bind the deployment of a verifier model of vLLM."""
    from serve_graph.engines.vllm.verifier import VllmVerifier

    model = resolve_weights(verifier.weights, config.state_folder)
    settings = llm_config(verifier, model, pooling=True, tracing=config.tracing)
    options = VllmVerifier.get_deployment_options(settings)
    deployment = serve.deployment(VllmVerifier).options(**options | {"name": verifier.name})
    files, logs = loaded_files(verifier, model, config.state_folder), partial(log_in_replica, config.logging)
    application: Application = deployment.bind(settings, Scoring.of(verifier), files, logs)
    return application


@contextmanager
def served_for_a_pass(verifier: VllmVerifierConfig, config: GraphConfig, run: str) -> Iterator[str]:
    """Have a verifier model ready on this process's Ray cluster; yields its application's name, which holds `run`'s.

    No route leads to it. Raises ServeGraphError where it does not start.
    """
    name = application_of(verifier.name, run)
    try:
        with serve_for(run):
            try:
                serve.run(bind_vllm_verifier(verifier, config), name=name, route_prefix=None)
            except RuntimeError as error:
                raise ServeGraphError(f"the verifier model {verifier.name} did not start: {error}") from error
        yield name
    finally:
        _end([name])


@contextmanager
def serve_for(run: str) -> Iterator[None]:
    """Have Ray Serve run while a run starts an application on it: no other run ends it meanwhile.

    Raises ServeGraphError where another that is ending Serve does not come to an end with it.
    """
    with _mark(STARTING):
        if not _wait_until(lambda: not _marks(ENDING), ENDS_WITHIN_S):
            raise ServeGraphError(
                f"another batch run has been ending Ray Serve on this cluster for {ENDS_WITHIN_S:g} s: end that "
                "process, or `serve shutdown`, and run this once more"
            )
        begin_serve(run)
        yield


def begin_serve(run: str) -> None:
    """Have Ray Serve run: without a proxy and in the name of a run, where none does.

    It ends with the run: a graph that is started later would listen nowhere.
    """
    if serve_runs():
        return
    try:
        serve.start(proxy_location="Disabled", http_options={"root_path": PASSES_ROOT + run})
    except ValueError:  # another run was a moment sooner
        if not serve_runs():
            raise


def application_of(verifier: str, run: str) -> str:
    """The name of a verifier model's application in the passes of one run."""
    return f"pass-{run}-{verifier}"


def forget_applications(run: str) -> None:
    """End what passes of a run that was killed left on this process's cluster: applications outlive who asked them."""
    if (root := root_path_of_serve()) is None:
        return
    left = [name for name in serve.status().applications if name.startswith(application_of("", run))]
    if left or root == PASSES_ROOT + run:
        _end(left)


def check_serve_of_graphs() -> None:
    """Raise ConfigError where Ray Serve runs here for a batch run alone: a graph on it would listen nowhere."""
    if (root_path_of_serve() or "").startswith(PASSES_ROOT):
        raise ConfigError(
            "Ray Serve was started on this cluster by a batch run in passes, without a proxy: the graph would listen "
            "nowhere. It ends with that run; where the run was killed, run it again, or end it with `serve shutdown`"
        )


def _end(applications: list[str]) -> None:
    """Delete applications; and Serve where a run started it, nothing else is on it, and no run is about to use it.

    A run that starts marks that, and then looks whether another ends Serve; one that ends looks after it has marked
    that: whichever is the later one sees the other.
    """
    if not serve_runs():
        return  # as where it did not start, whose reason is raised
    for name in applications:
        serve.delete(name)
    if not (root_path_of_serve() or "").startswith(PASSES_ROOT):
        return
    with _mark(ENDING):
        if not _marks(STARTING) and serve_runs() and not serve.status().applications:
            serve.shutdown()


class _Mark:
    """An actor of whose name other processes of the cluster read what its owner is about; it ends with its owner."""


@contextmanager
def _mark(kind: str) -> Iterator[None]:
    """Have a mark on the cluster; it is gone for everybody once this is left."""
    name = f"{kind}{uuid.uuid4().hex}"
    made = ray.remote(num_cpus=0)(_Mark).options(name=name, namespace=MARKS).remote()
    ray.get(made.__ray_ready__.remote())
    try:
        yield
    finally:
        ray.kill(made)
        _wait_until(lambda: name not in _marks(kind), FORGOTTEN_WITHIN_S)


def _wait_until(is_so: Callable[[], bool], within_s: float) -> bool:
    """Look again and again; False where it is not so in time."""
    until = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(SEEN_EVERY_S)
    return True


def _marks(kind: str) -> list[str]:
    found = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in found if one["namespace"] == MARKS and one["name"].startswith(kind)]


def asked_in_a_pass(verifier: str, application: str) -> AskVerifier:
    """What asks a verifier model that is ready for a pass, from any process of its cluster.

    A replica that is away, or whose engine failed, is an error that may pass: another takes its place before long.
    """
    handle = serve.get_deployment_handle(verifier, application)

    async def ask(body: dict[str, Any]) -> dict[str, Any]:
        response = handle.generate.remote(body)
        done = False
        try:
            reply: dict[str, Any] = await response
            done = True
        except AWAY as error:
            done = True
            reply = {"error": {"message": f"no replica of {verifier} answered ({type(error).__name__})", "code": 503}}
        finally:
            if not done:  # its time is over: the replica must not go on with it
                response.cancel()
        if (failed := reply.get("error")) and int(failed.get("code") or 500) >= 500:
            reply = {"error": {**failed, "fault": ErrorFault.UNAVAILABLE, "reason": None}}
        return reply

    return ask
