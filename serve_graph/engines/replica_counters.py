"""What one replica of a tier has counted, with a name of its own: several replicas can be told apart and added up."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaCounters:
    """The counters of one replica, which begin at 0 with it."""

    replica: str
    counters: dict[str, float]


class CountedReplica:
    """A tier's deployment whose replicas name themselves; each has `counters`."""

    async def counters(self) -> dict[str, float]:
        """Return the engine's counters by name."""
        raise NotImplementedError

    async def counted(self, _: object = None) -> ReplicaCounters:
        """Return the counters with the replica's name, which no other has, nor one that comes later."""
        name: str = self.__dict__.setdefault("_replica_name", uuid.uuid4().hex)
        return ReplicaCounters(name, await self.counters())
