"""`up`, `demo`, `status`, `doctor`: start and inspect a graph."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.extras import SERVING, need_vllm, needs
from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    AllowLossOption,
    ConfigOption,
    JsonOption,
    progress_of,
    progress_to_stderr,
    say,
    say_json,
)

if TYPE_CHECKING:
    from serve_graph.cli.local.builder import Builder
    from serve_graph.config.graph import GraphConfig

PortOption = Annotated[int | None, typer.Option(help="Port to listen on instead of http.port.", min=1, max=65535)]


@needs("up", *SERVING)
def up(
    config: ConfigOption = DEFAULT_CONFIG,
    port: PortOption = None,
    budget_s: Annotated[
        float | None,
        typer.Option(help="Seconds to compare all router families for a first version; else the two quickest.", min=0),
    ] = None,
    allow_loss: AllowLossOption = False,
) -> None:
    """Start the graph and keep it running: weights, first router version, engines, endpoint. Ctrl-C stops it.

    A version whose tries cost more than they save is not served, unless --allow-loss or policy.allow_loss: the last
    tier answers, and the banner and /readyz say why (docs/guides/cost.md).

    Example: serve-graph up --config configs/local.yaml
    """
    from serve_graph.cli.local.builder import Builder
    from serve_graph.cli.local.launch import running_graph
    from serve_graph.config.graph import load_config

    graph = with_port(load_config(config), port)
    if allow_loss:
        graph = graph.model_copy(update={"policy": graph.policy.model_copy(update={"allow_loss": True})})
    progress = progress_of(graph.logging)
    builder = Builder(graph)
    reason = prepare(graph, progress, builder, budget_s)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with running_graph(graph, progress=progress, stop=stop, builder=builder) as url:
        if graph.logging.format == "text":
            say(banner(graph, url, reason))
        else:
            progress(f"serve-graph is up: {url}/v1{'' if reason is None else f'; {reason}'}")
        stop.wait()
        progress("stopping")
    progress("stopped")


@needs("demo", *SERVING)
def demo(
    config: ConfigOption = DEFAULT_CONFIG,
    questions: Annotated[int, typer.Option(help="Number of held-out questions.", min=1, max=400)] = 40,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Questions in progress at a time.")] = 4,
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the graph, ask held-out questions, print their cost and accuracy, and stop.

    Example: serve-graph demo --questions 40 --concurrency 4
    """
    from serve_graph.cli.client.demo import render_demo, run_demo
    from serve_graph.cli.local.builder import Builder
    from serve_graph.cli.local.launch import running_graph
    from serve_graph.config.graph import load_config

    graph = with_port(load_config(config), port)
    progress, builder = progress_to_stderr(), Builder(graph)
    reason = prepare(graph, progress, builder)
    with running_graph(graph, progress=progress, builder=builder) as url:
        progress(f"asking {questions} questions, {concurrency} at a time, then the same ones to every tier")
        result = run_demo(url, graph, questions, concurrency, progress)
    if as_json:
        return say_json(result)
    if reason:
        say(f"always-frontier: {reason}\n")
    return say(render_demo(result))


@needs("status", "httpx")
def status(
    config: ConfigOption = DEFAULT_CONFIG,
    port: PortOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        float | None,
        typer.Option("--watch", help="Look every so many seconds, and say what changes; Ctrl-C ends.", min=0.1),
    ] = None,
) -> None:
    """Show the state of a running graph. Exit 1 if it is not ready or none answers.

    Example: serve-graph status --watch 5
    """
    from serve_graph.cli.local.status import read_status, watch_status
    from serve_graph.config.graph import load_config

    graph = with_port(load_config(config), port)
    if watch is not None:
        return watch_status(graph, watch, as_json=as_json)
    found = read_status(graph)
    if as_json:
        say_json(found.state)
    else:
        for line in found.lines:
            say(line)
    if not found.state["ready"]:
        raise typer.Exit(1)
    return None


def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check this machine and the configuration without starting anything. Exit 1 if a check fails.

    Example: serve-graph doctor
    """
    from serve_graph.cli.local.doctor import examine
    from serve_graph.config.graph import load_config

    findings = examine(load_config(config))
    if as_json:
        say_json([{"check": f.check, "ok": f.ok, "detail": f.detail} for f in findings])
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.check}: {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def with_port(config: GraphConfig, port: int | None) -> GraphConfig:
    """Return the configuration with another port, if one is given."""
    if port is None:
        return config
    return config.model_copy(update={"http": config.http.model_copy(update={"port": port})})


def prepare(config: GraphConfig, progress: Any, builder: Builder, budget_s: float | None = None) -> str | None:
    """Prepare weights and, meanwhile, a first version, before anything starts; returns why there is none, if so.

    Both are done by other processes, the version by `builder`.

    `budget_s`: seconds in which router families are compared for a first version; None: the two quickest are.
    """
    from serve_graph.cli.local.launch import check_port
    from serve_graph.cluster.replicas.nodes import check_nodes
    from serve_graph.config.tiers.kinds import VllmTierConfig
    from serve_graph.engines.weights.beside import weights_beside
    from serve_graph.engines.weights.resolve import remove_leftovers

    check_nodes(config)
    need_vllm(config)
    check_port(config.http.host, config.http.port)
    remove_leftovers(config.state_folder)
    engines = (tier for tier in config.every_tier if isinstance(tier, VllmTierConfig))
    with weights_beside([tier.weights for tier in engines], config.state_folder, progress):
        return builder.first_version(progress, budget_s)


def banner(config: GraphConfig, url: str, reason: str | None) -> str:
    """Return the start-up message: the URL, an example request, the tiers and the promise."""
    from serve_graph.cli.client.readiness import read_readiness, tells_everything
    from serve_graph.cli.local.builder import Builder

    state = read_readiness(url, timeout_s=30.0)
    if not tells_everything(state):  # whoever starts it may know
        with Builder(config) as builder:
            state = builder.own_report()
    promise = (
        state["promise"]
        if state["version"] != "none"
        else f"always {config.tiers[-1].name}: {reason or state['promise']}"
    )
    body = '{"model": "auto", "messages": [{"role": "user", "content": "What is the plural of \\"mouse\\"?"}]}'
    tiers = ", ".join(
        f"{t.name} ({t.engine}, ${t.price.input_usd_per_mtok:f}/${t.price.output_usd_per_mtok:f} per Mtok)"
        for t in config.tiers
    )
    if state.get("headline"):
        promise = "\n           ".join(state["headline"])
    prefixes = "".join(f"\n prefix:   {promise}" for promise in state.get("prefixes", {}).values())
    rule = "─" * 78
    return f"""{rule}
 serve-graph is up:  {url}/v1
 try it:   curl -s {url}/v1/chat/completions -H 'content-type: application/json' \\
             -d '{body}'
 tiers:    {tiers}
 router:   {state["version"]}
 promise:  {promise}{prefixes}
 stop:     Ctrl-C
{rule}"""
