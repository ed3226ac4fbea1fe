"""Totals of calls off the path of requests: what they were for, their tokens and their money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router_models.types import Call
from serve_graph.records.metrics import counter_family


@dataclass(eq=False)
class CallMetrics(Collector):
    """Calls of tiers that are no request's."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_usd: dict[str, Decimal] = field(default_factory=dict)

    def add_call(self, line: Call) -> None:
        """Count one call."""
        self.calls[(line.tier, line.what)] += 1
        self.tokens[(line.tier, "prompt")] += line.usage.prompt_tokens
        self.tokens[(line.tier, "completion")] += line.usage.completion_tokens
        self.cost_usd[line.tier] = self.cost_usd.get(line.tier, Decimal(0)) + line.cost_usd

    def families(self, prefix: str, doing: str, answers: str) -> Iterator[Metric]:
        """Yield the totals of calls; `doing` says what they are made for, `answers` whose answers are asked for."""
        yield counter_family(
            f"{prefix}_calls",
            f"Calls for {doing}, by tier and purpose: judging, or answer ({answers}).",
            ("tier", "what"),
            self.calls,
        )
        yield counter_family(f"{prefix}_tokens", "Tokens of those calls, by kind.", ("tier", "kind"), self.tokens)
        yield counter_family(
            f"{prefix}_cost_usd",
            f"Money spent on {doing}, in US dollars, by tier: no request's cost, and no key's.",
            ("tier",),
            {(tier,): usd for tier, usd in self.cost_usd.items()},
        )
