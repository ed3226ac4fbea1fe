"""What an ingress replica is asked and told by its siblings."""

from __future__ import annotations

from serve_graph.cluster.replicas.graph_metrics import GraphMetrics
from serve_graph.cluster.replicas.in_process import InProcessHandle
from serve_graph.cluster.replicas.news import ReplicaNews, SiblingNews
from serve_graph.cluster.replicas.totals import Totals
from serve_graph.engines.replica_counters import ReplicaCounters


class SiblingCalls:
    """The methods that every ingress replica is called by from another, with one argument each."""

    graph_metrics: GraphMetrics
    news: SiblingNews
    called_here: dict[str, InProcessHandle]

    async def told(self, _: None = None) -> tuple[str, Totals]:
        """What this replica has counted, for the page of a sibling."""
        return self.graph_metrics.told()

    async def note(self, totals: Totals) -> bool:
        """Take what a sibling knows of all."""
        return self.graph_metrics.note(totals)

    async def hear(self, news: ReplicaNews) -> bool:
        """Take what a sibling has seen in the last second."""
        return self.news.hear(news)

    async def tier_counted(self, tier: str) -> ReplicaCounters:
        """The counters of a tier that this replica calls itself."""
        counted: ReplicaCounters = await self.called_here[tier].counted.remote()
        return counted
