"""The version that a command names, and the graph's configuration beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_graph.cli.output import say
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.versions.registry import RegisteredVersion
    from router_models.versions.router_version import RouterVersion
    from serve_graph.config.graph import GraphConfig

Number = Annotated[str, typer.Argument(help="A version number or alias.")]


def found_version(version: str, config: Path) -> tuple[RegisteredVersion, GraphConfig]:
    """Return the registered version that a number or alias names; raises ServeGraphError where there is none."""
    from router_models.versions.names import check_name
    from router_models.versions.registry import find_version
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    check_name("version", version)
    found = find_version(graph.registry_uri, graph.policy.model_name, version)
    if found is None:
        raise ServeGraphError(f"no version {version!r} of {graph.policy.model_name}; see `serve-graph versions list`")
    return found, graph


def loaded_version(found: RegisteredVersion, graph: GraphConfig) -> RouterVersion:
    """Return a registered version, its files downloaded and verified."""
    from router_models.versions.router_version import RouterVersion

    return RouterVersion.load(found.folder(graph.state_folder.resolve() / "versions"), found.name)


def is_served(found: RegisteredVersion, graph: GraphConfig) -> bool:
    """Return whether the configuration serves this very version, so that approving it puts traffic on it."""
    from router_models.versions.registry import find_version

    if graph.policy.version in ("none", "builtin"):
        return False
    served = find_version(graph.registry_uri, found.model, graph.policy.version)
    return served is not None and served.number == found.number


def withdrawn(graph: GraphConfig, name: str) -> str | None:
    """Return why a version that a graph serves may not be served any more, by its review; None otherwise.

    One question to the registry; None as well where the registry does not hold the version or cannot be reached.
    """
    from router_models.errors import RegistryError
    from router_models.versions.registry import poll_review

    model, _, number = name.rpartition("/")
    try:
        seen = poll_review(graph.registry_uri, model, number) if model and number.isdigit() else None
    except RegistryError:
        return None
    if seen is None or seen[1].approved:
        return None
    return f"{seen[1].line()} in the registry by now; the graph drops it, or serves it until it is started again"


def check_version_pays(found: RegisteredVersion, graph: GraphConfig) -> None:
    """Raise LossError where a registered version would lose money; say from when on it would, by listed prices."""
    from datetime import UTC, datetime

    from serve_graph.policy.pays import check_pays, later_losses

    version = loaded_version(found, graph)
    now = datetime.now(UTC)
    check_pays(version, graph, now)
    for moment, loss in later_losses(version, graph, now):
        say(f"from {moment:%Y-%m-%d %H:%M} on, by prices that are listed already, {loss}")
