"""A rollout and the controller that drives it, over fakes and a registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from router_models.errors import RegistryError
from router_models.monitoring.canary import PairedRequest
from router_models.versions.registry import find_version
from serve_graph.policy.rollout.audited import begun_entry, change_entry
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent, next_state
from serve_graph.policy.served_version import ServedVersion
from serve_graph.records.audit import AuditFilter
from serve_graph.records.audit_log import AuditLog
from tests.unit.serve_graph.cluster.controllers import Cluster

if TYPE_CHECKING:
    from serve_graph.cluster.controller_deployment import ControllerDeployment

NOW = datetime.now(UTC)
ALIKE = PairedRequest(True, None, None, None, None, 0.001, 0.001)
WORSE = PairedRequest(False, 1.0, 0.0, False, True, 0.001, 0.001)


class Trial:
    """A rollout of a cluster's second version beside its first; `pairs` is what both have decided so far."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pairs: list[PairedRequest] = []
        self.later_s = 0.0
        self.controller: ControllerDeployment = self.start()

    def start(self) -> ControllerDeployment:
        """A controller, or the one that Ray starts after it was killed."""
        self.controller = self.cluster.controller()
        self.controller.rollouts.pairs = self._read
        self.controller.rollouts.now = lambda: NOW + timedelta(seconds=self.later_s)
        return self.controller

    async def _read(self, _: str, __: str) -> list[PairedRequest]:
        return self.pairs

    def came(self, pairs: list[PairedRequest]) -> list[PairedRequest]:
        """Pairs whose requests came now."""
        at = (NOW + timedelta(seconds=self.later_s)).isoformat(timespec="milliseconds")
        return [replace(pair, came_at=at) for pair in pairs]

    async def begin(self, *steps: float, **options: Any) -> Rollout:
        await self.controller.look()
        first, second = self.cluster.first, self.cluster.second
        at = NOW.isoformat(timespec="milliseconds")
        options = {"pause_s": 60.0, "reason": "a try"} | options
        made = Rollout.begin(first.model, first.name, second.name, at=at, by="os:ann@here", steps=steps, **options)
        assert await self.table.begin(made, begun_entry(made))
        await self.controller.look()
        return made

    async def person(self, what: Happened, **fields: Any) -> None:
        """What a command does."""
        now = await self.now()
        event = RolloutEvent(what, NOW.isoformat(timespec="milliseconds"), "os:ann@here", "because", **fields)
        after = next_state(now, event)
        assert await self.table.change(now, after, change_entry(now, after, event))

    async def pass_time(self, seconds: float) -> None:
        self.later_s += seconds
        await self.controller.look()

    @property
    def table(self) -> RolloutTable:
        return RolloutTable(self.controller.store)

    async def now(self) -> Rollout:
        [found] = await self.table.latest(self.cluster.first.model)
        return found

    async def at(self) -> tuple[str, float]:
        found = await self.now()
        return str(found.state), found.weight

    @property
    def taken(self) -> tuple[str, float | None]:
        """What ingress replicas answer with, and the candidate's share."""
        taken = self.cluster.taken
        served: ServedVersion = self.controller.served if taken is None else taken
        return served.name, None if served.rollout is None else served.rollout.weight

    async def actions(self) -> list[str]:
        found = await AuditLog(self.controller.store).entries(AuditFilter(action="versions"))
        return [entry.action.removeprefix("versions.") for entry in sorted(found, key=lambda e: e.created_at)]


def named(cluster: Cluster) -> str:
    """What the alias `stable` names."""
    found = find_version(cluster.config.registry_uri, cluster.first.model, "stable")
    assert found is not None
    return found.name


async def unreachable(_: Any) -> Any:
    raise RegistryError("gone")
