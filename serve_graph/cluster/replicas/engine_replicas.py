"""The replicas of tiers, as the ingress replica that asks them finds them: which are gone, which have come back."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from serve_graph.cluster.replicas.totals import EngineReplica, Totals
from serve_graph.engines.replica_counters import ReplicaCounters
from serve_graph.engines.telemetry.engine_metrics import is_count

GONE_S = 900.0
"""A replica that nobody has heard of for so long is gone: Serve has replaced it many times over."""
SURE_S = 3600.0
"""For how long what was folded is at hand one by one: siblings that folded others meanwhile are reconciled by it."""


@dataclass(slots=True)
class EngineReplicas:
    """Takes what tiers' replicas tell into the totals, and folds those that have not answered for long.

    `taken` has what was folded here lately. A replica counts as silent from the first time that it does not answer, so
    that none is folded while nobody asks.
    """

    totals: Totals
    taken: dict[EngineReplica, dict[str, float]] = field(default_factory=dict)
    _taken_at: dict[EngineReplica, float] = field(default_factory=dict)
    _silent: dict[EngineReplica, tuple[float, dict[str, float]]] = field(default_factory=dict)
    _before: dict[EngineReplica, dict[str, float]] = field(default_factory=dict)

    def note(self, tier: str, told: ReplicaCounters) -> EngineReplica:
        """Take a replica's counters; returns as whom it is counted.

        One that was folded counts anew from now on, under another name: what it counted before is in the sum.
        """
        gone, name, counters = set(self.totals.folded_engines.names), told.replica, told.counters
        while name in gone:
            name += "+"
        if name != told.replica:
            before = self._before.setdefault((tier, name), counters)
            counters = {key: v - before.get(key, 0.0) if is_count(key) else v for key, v in counters.items()}
        self.totals.note_engine((tier, name), counters)
        return tier, name

    def fold_gone(self, living: Set[EngineReplica], now: float) -> None:
        """Put into one sum what replicas counted that have been silent, here and at every sibling, for `GONE_S`."""
        silent = {}
        for replica, counters in self.totals.engines.items():
            if replica not in living:
                since, known = self._silent.get(replica, (now, counters))
                silent[replica] = (since, known) if known == counters else (now, dict(counters))
        self._silent = {replica: (since, dict(known)) for replica, (since, known) in silent.items()}
        taken = self.totals.fold_engines([r for r, (since, _) in silent.items() if now - since >= GONE_S])
        self.taken |= taken
        self._taken_at |= dict.fromkeys(taken, now)
        for replica in [replica for replica, at in self._taken_at.items() if now - at >= SURE_S]:
            del self.taken[replica], self._taken_at[replica]
        self._before = {replica: known for replica, known in self._before.items() if replica in self.totals.engines}
