"""`serve-graph manifests`: a configuration as Kubernetes objects."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.output import check_out, say

CLUSTER_CONFIG = Path("configs/cluster.yaml")


class Ready(StrEnum):
    """What a worker's readiness means."""

    SERVING = "serving"
    CERTIFIED = "certified"


def manifests(
    config: Annotated[Path, typer.Option("--config", "-c", help="The graph's YAML configuration.")] = CLUSTER_CONFIG,
    out: Annotated[Path | None, typer.Option(help="The file to write; default: print them.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where --out holds something else.")
    ] = False,
    machine: Annotated[
        list[str] | None,
        typer.Option(help="TIER=NAME: the GPU of a tier's nodes (l4, a100-80gb, …); may be repeated."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="The image of head, workers and migration; it names the Job.")
    ] = None,
    gateway_class: Annotated[
        str | None, typer.Option(help="GatewayClass through which KubeRay moves traffic to a new release in steps.")
    ] = None,
    ready: Annotated[
        Ready, typer.Option(help="When workers take traffic: the safe tier answers, or a certified version is served.")
    ] = Ready.SERVING,
) -> None:
    """Print the Kubernetes objects of a configuration: RayService, ConfigMap, migration, budgets, workbench.

    Example: serve-graph manifests --config configs/cluster.yaml --machine cheap=l4 --out graph.yaml
    """
    from serve_graph.cluster.replicas.nodes import check_nodes
    from serve_graph.config.kubernetes.graph_settings import cluster_graph
    from serve_graph.config.kubernetes.manifests import IMAGE, kubernetes_objects, manifests_text
    from serve_graph.errors import ConfigError

    if check and out is None:
        raise typer.BadParameter("--check needs --out, the file that is compared")
    if not check:
        check_out(out)
    machines = dict(_machine(text) for text in machine or ())
    words = ["serve-graph", "manifests", "--config", str(config)]
    words += [word for text in machine or () for word in ("--machine", text)]
    words += ["--image", image] if image else []
    words += ["--gateway-class", gateway_class] if gateway_class else []
    words += ["--ready", ready.value] if ready is not Ready.SERVING else []
    words += ["--out", str(out)] if out else []
    graph = cluster_graph(config)
    check_nodes(graph.config)
    objects = kubernetes_objects(
        config,
        graph,
        image=image or IMAGE,
        machines=machines,
        gateway_class=gateway_class,
        certified=ready is Ready.CERTIFIED,
    )
    text = manifests_text(objects, shlex.join(words))
    if out is None:
        typer.echo(text, nl=False)
    elif check:
        if not out.is_file() or out.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{out} is not what {config} gives: run `{shlex.join(words)}`")
        say(f"{out}: up to date")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        say(f"{out}: {', '.join(each['kind'] for each in objects)}")


def _machine(text: str) -> tuple[str, str]:
    tier, equals, name = text.partition("=")
    if not (tier and equals and name):
        raise typer.BadParameter(f"--machine takes TIER=NAME, found {text!r}")
    return tier, name
