"""Controllers of graphs that follow a registry with two versions, and what they tell the replicas; no cluster."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_models.errors import ArtifactError
from router_models.versions.registry import RegisteredVersion, set_alias
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.registry import echo_graph, registered_version

if TYPE_CHECKING:
    from serve_graph.cluster.controller_deployment import ControllerDeployment

NOW = datetime.now(UTC)


class Told:
    """All replicas of a deployment: what they were told, in order.

    They fail to load what is in `fails`, and none of them answers where the deployment is in `away`.
    """

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name, self.cluster = name, cluster

    async def all(self, method: str, argument: Any, within_s: float) -> list[Any]:
        if method == "epoch":
            return [self.cluster.epoch]
        if method == "comparing":
            return list(self.cluster.tallies)
        if self.name in self.cluster.away:
            return []
        if method == "prepare" and (self.name, argument.name) in self.cluster.fails:
            return [ArtifactError("its files are damaged")]
        self.cluster.told.append((self.name, method, argument.name))
        if method == "take":
            self.cluster.taken = argument
            self.cluster.epoch = max(self.cluster.epoch, argument.epoch)
        return [True, True]


def database_of(uri: str) -> Path:
    """The file of a registry in SQLite."""
    return Path(uri.removeprefix("sqlite:///"))


def two_versions(
    folder: Path, new_registry: Callable[[Path], str], new_store: Callable[[Path], str]
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Register two approved versions, the first of them `stable`; tests copy the registry and an empty store."""
    config = echo_graph(folder)
    new_registry(database_of(config.registry_uri))
    new_store(config.state_folder / "decisions.db")
    first = registered_version(config, folder / "1", NOW, alias="stable")
    second = registered_version(config, folder / "2", NOW, 0.6)
    for version in (first, second):
        version.folder(config.state_folder / "versions")
    return first, second


class Cluster:
    """A registry with two versions and the controllers of graphs that follow it."""

    def __init__(self, folder: Path, made: tuple[RegisteredVersion, RegisteredVersion]) -> None:
        """Copy the registry of `two_versions`, and what was downloaded from it, to a graph in `folder`."""
        self.config = echo_graph(folder, follow_s=0.05)
        shutil.copytree(database_of(made[0].uri).parent, folder / "state")
        self.first, self.second = (replace(version, uri=self.config.registry_uri) for version in made)
        self.told: list[tuple[str, str, str]] = []
        self.fails: set[tuple[str, str]] = set()
        self.away: set[str] = set()
        self.tallies: list[dict[str, Any]] = []
        self.epoch = 0
        self.taken: ServedVersion | None = None
        self.controllers: list[ControllerDeployment] = []

    def controller(self, start: str = "start-1", *, alone: bool = False) -> ControllerDeployment:
        """Start a controller, which looks when the test does, or `alone`."""
        from serve_graph.cluster.controller_deployment import ControllerDeployment

        begun = ServedVersion.of(serving_version(self.config), self.config)
        replicas = {name: Told(name, self) for name in ("router", "verifier", "ingress")}
        made = ControllerDeployment(self.config, begun, start, replicas)
        self.controllers.append(made)
        if not alone:
            made.following.cancel()
        return made

    def promote(self, number: str) -> None:
        set_alias(self.config.registry_uri, self.first.model, "stable", number)

    async def kill(self, controller: ControllerDeployment) -> None:
        controller.following.cancel()
        with suppress(asyncio.CancelledError):
            await controller.following
        await controller.store.close()
