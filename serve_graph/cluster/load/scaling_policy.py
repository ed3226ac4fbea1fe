"""How many replicas each deployment needs, as Ray Serve's autoscaling policies: classes it calls at every tick.

Ray pickles this module by value into the process of its controller and applies bounds, delays and factors to what is
returned. A policy must not raise: that would stop the scaling of every deployment. Where a signal is missing it counts
for nothing, and what is left is Ray Serve's own rule, requests in progress over `target_ongoing_requests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

from serve_graph.engines.vllm.counters import KV_CACHE

EXPECTED = "expected:"
"""Before a tier's name: the statistic in which an ingress replica says how many calls the tier will soon have."""
RECENT_S = 1.0
"""Over so many seconds what an ingress replica says is averaged: a single moment of few requests is chance."""


class IngressScaling:
    """The ingress: requests in progress. Also passes on what its replicas expect of the tiers."""

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        from serve_graph.cluster.load.load_board import BOARD

        expected: dict[str, float] = {}
        for name, by_replica in (ctx.raw_metrics or {}).items():
            if name.startswith(EXPECTED):
                expected[name.removeprefix(EXPECTED)] = sum(recent(by_replica))
        BOARD.put(ctx.app_name or "", expected, ctx.current_time or 0.0)
        return replicas_for(ctx, 0.0), {}


class TierScaling:
    """A tier: requests in progress or, where these are more, those to be expected; or its KV caches where fuller.

    Parameters
    ----------
    anticipate : bool
        Whether it has room for the calls that the ingress expects, instead of those that it had of late alone.
    target_kv_cache : float or None
        The part of the KV cache that a replica should use on average; None: it is not looked at.
    """

    def __init__(self, anticipate: bool = True, target_kv_cache: float | None = None) -> None:
        self.anticipate = anticipate
        self.target_kv_cache = target_kv_cache

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        from serve_graph.cluster.load.load_board import BOARD

        expected = BOARD.expected(ctx.app_name or "", ctx.deployment_name, ctx.current_time or 0.0)
        needed = replicas_for(ctx, expected if self.anticipate else 0.0)
        used = latest((ctx.raw_metrics or {}).get(KV_CACHE, {}))
        if used and self.target_kv_cache:
            needed = max(needed, sum(used) / self.target_kv_cache)
        return needed, {}


def replicas_for(ctx: AutoscalingContext, expected: float) -> float:
    """Return how many replicas the requests of late, or those that are expected, need at the deployment's target."""
    requests = max(ctx.total_num_requests, expected)
    if ctx.current_num_replicas == 0 and requests <= 0:
        return float(ctx.target_num_replicas)  # asleep, or its first replica is starting
    return float(requests / ctx.config.get_target_ongoing_requests())


def latest(by_replica: Mapping[Any, Any]) -> list[float]:
    """Return the newest value that each replica has said of a statistic."""
    return [float(series[-1].value) for series in by_replica.values() if series]


def recent(by_replica: Mapping[Any, Any]) -> list[float]:
    """Return the mean of what each replica has said of a statistic in its last `RECENT_S`."""
    found = []
    for series in by_replica.values():
        values = [float(one.value) for one in series if one.timestamp >= series[-1].timestamp - RECENT_S]
        found += [sum(values) / len(values)] if values else []
    return found
