"""A verifier model of vLLM as a Ray Serve deployment: one of the graph's, or an application of its own for a pass.

A pass asks the deployment that the graph has, so that an answer's score is the same in either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import serve
from ray.serve import Application

from serve_graph.cluster.proxy_address import serve_runs
from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import VllmVerifierConfig
from serve_graph.engines.scores import Scoring
from serve_graph.engines.vllm.settings import llm_config
from serve_graph.engines.weights.loaded_files import loaded_files
from serve_graph.engines.weights.resolve import resolve_weights
from serve_graph.errors import ServeGraphError

AskVerifier = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


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

    No route leads to it. Where no Serve runs it has one without a proxy, which ends with it: a graph that is started
    later would listen nowhere. Raises ServeGraphError where it does not start.
    """
    name, found_serve = application_of(verifier.name, run), serve_runs()
    serve.start(proxy_location="Disabled")  # of a cluster that serves already nothing is changed
    try:
        try:
            serve.run(bind_vllm_verifier(verifier, config), name=name, route_prefix=None)
        except RuntimeError as error:
            raise ServeGraphError(f"the verifier model {verifier.name} did not start: {error}") from error
        yield name
    finally:
        _end([name], ends_serve=not found_serve)


def application_of(verifier: str, run: str) -> str:
    """The name of a verifier model's application in the passes of one run."""
    return f"pass-{run}-{verifier}"


def forget_applications(run: str) -> None:
    """End what passes of a run that was killed left on this process's cluster: applications outlive who asked them."""
    if serve_runs():
        left = [name for name in serve.status().applications if name.startswith(application_of("", run))]
        if left:
            _end(left, ends_serve=True)


def _end(applications: list[str], *, ends_serve: bool) -> None:
    """Delete applications; and Serve where nothing else is left on it."""
    for name in applications:
        serve.delete(name)
    if ends_serve and not serve.status().applications:
        serve.shutdown()


def asked_in_a_pass(verifier: str, application: str) -> AskVerifier:
    """What asks a verifier model that is ready for a pass, from any process of its cluster."""
    handle = serve.get_deployment_handle(verifier, application)

    async def ask(body: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = await handle.generate.remote(body)
        return reply

    return ask
