"""`/metrics` of the whole graph, whichever ingress replica is asked: it asks its siblings, and every tier's replicas.

What a page has shown, every sibling is told before, so that the page of another never shows less, whoever is killed
meanwhile. A replica tells its siblings every few seconds, and when it stops: what it counted stays.
Where there is one replica, nobody is asked. Who has said nothing for `GONE_S` is folded into the sum of those gone, a
tier's replica where it was asked meanwhile; if it was cut off and comes back, it counts anew under another name, as
what it counted before is in that sum.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import Metric

from serve_graph.cluster.replicas.broadcast import ApplicationReplicas, Replicas, in_replica
from serve_graph.cluster.replicas.engine_replicas import GONE_S, SURE_S, EngineReplicas
from serve_graph.cluster.replicas.in_process import InProcessHandle, TierHandle, TierOfIngresses
from serve_graph.cluster.replicas.snapshots import FamilySnapshot, ReplicaSnapshot, counted_since
from serve_graph.cluster.replicas.totals import EngineReplica, Totals, sum_of_engines, sum_of_ingress
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.replica_counters import ReplicaCounters
from serve_graph.engines.telemetry.engine_metrics import engine_families
from serve_graph.records.metrics import render_families

ASK_WITHIN_S = 2.0
TELL_EVERY_S = 5.0


class GraphMetrics:
    """The totals of one ingress replica, and what it knows of the others'.

    Parameters
    ----------
    own : callable
        What this replica shows, but for the tiers' engines.
    handles : mapping of tier to handle
        Asked for the counters of a tier with one replica.
    siblings : Replicas, optional
        The ingress replicas, this one included; None: there is no other.
    tiers : mapping of tier to Replicas
        Of the tiers that may have several replicas, or none: a call by its handle would wake such a tier.
    """

    def __init__(
        self,
        own: Callable[[], Iterable[Metric]],
        handles: Mapping[str, TierHandle],
        siblings: Replicas | None = None,
        tiers: Mapping[str, Replicas] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own = own
        self.clock = clock
        self._heard: dict[str, tuple[int, float]] = {}
        self._taken: dict[str, ReplicaSnapshot] = {}
        self._taken_at: dict[str, float] = {}
        self.handles = handles
        self.siblings = siblings
        self.tiers = tiers or {}
        self.name = uuid.uuid4().hex
        self.totals = Totals()
        self.engines = EngineReplicas(self.totals)
        self._number = 0
        self._before: tuple[FamilySnapshot, ...] = ()

    def told(self) -> tuple[str, Totals]:
        """This replica's name, and everything it knows, its own counters as they are now."""
        families = tuple(map(FamilySnapshot.of, self.own()))
        if self.name in self.totals.folded.names:
            self.name, self._number, self._before = uuid.uuid4().hex, 0, families
        self._number += 1
        self.totals.ingress[self.name] = ReplicaSnapshot(self._number, counted_since(self._before, families))
        return self.name, self.totals

    def note(self, totals: Totals) -> bool:
        """Take what a sibling knows."""
        self._merge(totals)
        return True

    def fold_gone(self) -> None:
        """Put into one sum what replicas counted that nobody has heard of for long, here or at a sibling."""
        now = self.clock()
        heard = {}
        for name, snapshot in self.totals.ingress.items():
            number, at = self._heard.get(name, (snapshot.number, now))
            heard[name] = (snapshot.number, at if snapshot.number == number else now)
        self._heard = heard
        gone = [name for name, (_, at) in heard.items() if now - at >= GONE_S and name != self.name]
        taken = self.totals.fold(gone)
        self._taken |= taken
        self._taken_at |= dict.fromkeys(taken, now)
        for name in [name for name, at in self._taken_at.items() if now - at >= SURE_S]:
            del self._taken[name], self._taken_at[name]

    async def page(self) -> str:
        """The page: each replica counted once, in the text format of Prometheus."""
        living, engines = await asyncio.gather(self._ask_siblings(), self.engine_counters())
        self.told()
        families = sum_of_ingress(self.totals, self.name, living)
        await self._tell()
        return render_families([*families, *engine_families(engines)])

    async def engine_counters(self) -> dict[str, dict[str, float]]:
        """Each tier's own counters, those of all its replicas together; {} for one that does not answer."""
        asked = await asyncio.gather(*map(self._ask_tier, self.handles))
        living = {replica for replicas in asked for replica in replicas}
        self.engines.fold_gone(living, self.clock())
        return {tier: {} for tier in self.handles} | sum_of_engines(self.totals, living)

    async def keep_told(self) -> None:
        """Tell the siblings every few seconds, for ever, and once more when cancelled."""
        if self.siblings is None:
            return
        try:
            while True:
                await asyncio.sleep(TELL_EVERY_S)
                self.fold_gone()
                self.told()
                await self._tell()
        except asyncio.CancelledError:
            self.told()
            await self._tell()
            raise

    async def _ask_siblings(self) -> list[str]:
        if self.siblings is None:
            return []
        replies = await self.siblings.all("told", None, ASK_WITHIN_S)
        known = [reply for reply in replies if isinstance(reply, tuple)]
        for _, totals in known:
            self._merge(totals)
        return [name for name, _ in known]

    async def _ask_tier(self, tier: str) -> list[EngineReplica]:
        if (replicas := self.tiers.get(tier)) is not None:
            told = await replicas.all("counted", None, ASK_WITHIN_S)
        else:
            try:
                told = [await asyncio.wait_for(self.handles[tier].counted.remote(), ASK_WITHIN_S)]
            except Exception:  # noqa: BLE001 (a tier that is down has no counters; the rest still has)
                told = []
        return [self.engines.note(tier, reply) for reply in told if isinstance(reply, ReplicaCounters)]

    def _merge(self, totals: Totals) -> None:
        self.totals.merge(totals, self._taken, self.engines.taken)

    async def _tell(self) -> None:
        if self.siblings is not None:
            await self.siblings.all("note", self.totals, ASK_WITHIN_S)


def siblings_of(config: GraphConfig) -> Replicas | None:
    """The ingress replicas, the one that asks included; None where there is one alone, or no Ray Serve."""
    return ApplicationReplicas("ingress") if config.http.scaling.max_replicas > 1 and in_replica() else None


def graph_metrics(
    config: GraphConfig,
    own: Callable[[], Iterable[Metric]],
    handles: Mapping[str, TierHandle],
    siblings: Replicas | None,
) -> GraphMetrics:
    """The metrics of an ingress replica; an engine that several tiers share counts under the tier that runs it."""
    handles = {name: handle for name, handle in handles.items() if config.tier(name).engine_name == name}
    of_ingresses = {name for name, handle in handles.items() if isinstance(handle, InProcessHandle)}
    scalings = {name: config.tier(name).scaling for name in handles if name not in of_ingresses}
    several = [
        name
        for name, scaling in scalings.items()
        if scaling.min_replicas == 0 or (scaling.max_replicas > 1 and in_replica())
    ]
    tiers: dict[str, Replicas] = {name: ApplicationReplicas(name) for name in several}
    if siblings is not None:
        tiers |= {name: TierOfIngresses(siblings, name) for name in of_ingresses}
    return GraphMetrics(own, handles, siblings, tiers)
