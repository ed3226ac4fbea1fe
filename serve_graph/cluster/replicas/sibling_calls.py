"""What an ingress replica is asked and told by its siblings."""

from __future__ import annotations

from serve_graph.cluster.replicas.graph_metrics import GraphMetrics
from serve_graph.cluster.replicas.news import ReplicaNews, SiblingNews
from serve_graph.cluster.replicas.totals import Totals


class SiblingCalls:
    """The methods that every ingress replica is called by from another, with one argument each."""

    graph_metrics: GraphMetrics
    news: SiblingNews

    async def told(self, _: None = None) -> tuple[str, Totals]:
        """What this replica has counted, for the page of a sibling."""
        return self.graph_metrics.told()

    async def note(self, totals: Totals) -> bool:
        """Take what a sibling knows of all."""
        return self.graph_metrics.note(totals)

    async def hear(self, news: ReplicaNews) -> bool:
        """Take what a sibling has seen in the last second."""
        return self.news.hear(news)
