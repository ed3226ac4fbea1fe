"""The first page: what a window of traffic was answered by, cost, saved, and how good it was."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from router_models.types import Action
from serve_graph.api.console.charts import StackedChart, stacked_chart
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.savings import (
    LabelledShare,
    WindowSavings,
    labelled_shares,
    latency_percentiles,
    window_savings,
)
from serve_graph.api.console.traffic import (
    TrafficCount,
    Window,
    labels_within,
    over_time,
    sampled,
    tiers_in_order,
    traffic,
)

TRIED = (str(Action.ACCEPTED), str(Action.ESCALATED))


@dataclass(frozen=True, slots=True)
class RequestTable:
    """Requests by outcome and tier: `cells[outcome][tier]`, with the tiers and outcomes in order."""

    tiers: tuple[str, ...]
    cells: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class TrafficShares:
    """A window's requests, and the shares of them that ended one way; None where there is nothing to be a share of.

    `escalated`: of the requests whose cheap answer was judged, those that went on to the last tier. `abstained` and
    `failed` (status 500 and above): of all. `versions`: requests by the version that decided.
    """

    requests: int
    escalated: float | None
    tried: int
    abstained: float | None
    failed: float | None
    failures: int
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """Everything that the first page shows."""

    window: Window
    counted_at: str
    shares: TrafficShares
    table: RequestTable
    chart: StackedChart
    saved: WindowSavings | None
    labels: Sequence[LabelledShare]
    latency_s: Mapping[int, float]
    last: str
    state: Mapping[str, Any]
    served: Mapping[str, Any]
    refused: Mapping[int, int]


async def overview(parts: ConsoleParts, window: Window) -> OverviewPage:
    """Read and count what the page shows; raises StoreUnavailableError."""
    now = parts.now()
    since = window.since(now)
    context = parts.service.context
    counts = await traffic(parts.store, window, now)
    shares = traffic_shares(counts)
    sample = await sampled(parts.store, since, shares.requests)
    labels = await labels_within(parts.store, since, parts.label_share)
    served = parts.served()
    certificate = served.certificate
    ratios = {} if certificate is None else {served.name: certificate.token_ratios}
    spent = sum((one.usd for one in counts), Decimal(0))
    last = context.policy.top
    saved = await asyncio.to_thread(window_savings, sample, shares.requests, spent, last, context.prices, ratios)
    tiers = tiers_in_order(counts, context.policy.tiers)
    return OverviewPage(
        window,
        f"{now:%Y-%m-%d %H:%M:%S} UTC",
        shares,
        request_table(counts, tiers),
        stacked_chart(over_time(counts, window, now), tiers),
        saved,
        labelled_shares(labels),
        latency_percentiles(sample),
        last,
        await parts.readiness(),
        {"name": served.name, "headline": served.headline, "promise": served.promise, "certificate": certificate},
        parts.service.metrics.refused,
    )


def traffic_shares(counts: Sequence[TrafficCount]) -> TrafficShares:
    """Return a window's requests and their shares."""
    requests = sum(one.n for one in counts)
    outcomes: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    for one in counts:
        versions[one.version] += one.n
        if one.status == 200:
            outcomes[one.outcome] += one.n
    failures = sum(one.n for one in counts if one.status >= 500)
    tried = sum(outcomes[name] for name in TRIED)
    return TrafficShares(
        requests,
        outcomes[str(Action.ESCALATED)] / tried if tried else None,
        tried,
        outcomes[str(Action.ABSTAINED)] / requests if requests else None,
        failures / requests if requests else None,
        failures,
        dict(versions.most_common()),
    )


def request_table(counts: Sequence[TrafficCount], tiers: Sequence[str]) -> RequestTable:
    """Return requests by outcome and tier; those that failed stand apart, under their status."""
    cells: dict[str, Counter[str]] = {}
    for one in sorted(counts, key=lambda one: (one.status, one.outcome)):
        name = one.outcome if one.status == 200 else f"status {one.status}"
        cells.setdefault(name, Counter())[one.tier] += one.n
    return RequestTable(tuple(tiers), cells)
