"""The `serve_graph_ensemble_*` metrics of one ingress replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class EnsembleMetrics(Collector):
    """What became of the requests that were drawn for both tiers, and what they cost."""

    draws: Counter[str] = field(default_factory=Counter)
    picks: Counter[tuple[str, str]] = field(default_factory=Counter)
    ties: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    cost_usd: Decimal = field(default_factory=Decimal)

    def collect(self) -> Iterator[Metric]:
        """Yield the totals as metric families."""
        yield counter_family(
            "serve_graph_ensemble_draws",
            "Requests drawn for both tiers, by what came of it: picked, or why not, so that the policy answered.",
            ("result",),
            {(result,): n for result, n in self.draws.items()},
        )
        yield counter_family(
            "serve_graph_ensemble_picks",
            "Answers picked, by the tier whose answer it is and by whom: judge:TIER/MODEL, reward:NAME, a rule.",
            ("tier", "by"),
            self.picks,
        )
        yield counter_family(
            "serve_graph_ensemble_ties",
            "Picks among them in which neither answer was found better, so that it is the cheaper tier's.",
            (),
            {(): self.ties},
        )
        yield counter_family(
            "serve_graph_ensemble_left_out",
            "Requests that chance drew and that are not put to both tiers, by what of them is not.",
            ("reason",),
            {(reason,): n for reason, n in self.left_out.items()},
        )
        yield counter_family(
            "serve_graph_ensemble_cost_usd",
            "Money spent on drawn requests, in US dollars, both answers and the picking: part of requests' cost.",
            (),
            {(): self.cost_usd},
        )
