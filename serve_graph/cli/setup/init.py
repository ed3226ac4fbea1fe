"""`init`: write a starter configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.output import check_out, say


class Kind(StrEnum):
    """The shipped configurations, by the kind of their tiers."""

    LOCAL = "local"
    HOSTED = "hosted"
    CLUSTER = "cluster"
    ECHO = "echo"


NEXT = {
    Kind.LOCAL: "needs the extras cpu and local-models",
    Kind.HOSTED: "set your models and prices, export OPENAI_API_KEY; needs the extra serve",
    Kind.CLUSTER: (
        "set your models and prices, export SERVE_GRAPH_STORE_URL and SERVE_GRAPH_REGISTRY_URI, create a key with "
        "`serve-graph keys new`; needs the extra gpu"
    ),
    Kind.ECHO: "no model, for a first look and for tests; needs the extra serve",
}


def init(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="local: this machine, real models; hosted: two API models by key; cluster: GPUs; echo: no model."
        ),
    ] = Kind.LOCAL,
    out: Annotated[Path | None, typer.Option(help="The file to write; default: configs/KIND.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a starter configuration and print how to start it.

    Example: serve-graph init hosted --out my.yaml
    """
    from serve_graph.config.templates import template
    from serve_graph.errors import ConfigError

    path = Path(f"configs/{kind}.yaml") if out is None else out
    check_out(path)
    if path.exists() and not force:
        raise ConfigError(f"{path} exists; --force replaces it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template(kind), encoding="utf-8")
    say(f"{path}: {NEXT[kind]}\nnext: serve-graph doctor --config {path} && serve-graph up --config {path}")
