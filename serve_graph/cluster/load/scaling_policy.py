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
"""Before a tier's name: the statistic in which an ingress replica says how many calls of it are to come."""


class IngressScaling:
    """The ingress: requests in progress. Also passes on what its replicas expect of the tiers."""

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        from serve_graph.cluster.load.load_board import BOARD

        expected: dict[str, float] = {}
        for name, by_replica in (ctx.raw_metrics or {}).items():
            if name.startswith(EXPECTED):
                expected[name.removeprefix(EXPECTED)] = sum(latest(by_replica))
        BOARD.put(ctx.app_name or "", expected, ctx.current_time or 0.0)
        return replicas_for(ctx, 0.0), {}


class TierScaling:
    """A tier: requests in progress and those to be expected, or its KV caches where these are fuller.

    Parameters
    ----------
    anticipate : bool
        Whether calls that are to be expected count like those in progress.
    target_kv_cache : float or None
        The part of the KV cache that a replica should use on average; None: it is not looked at.
    """

    def __init__(self, anticipate: bool = True, target_kv_cache: float | None = None) -> None:
        self.anticipate = anticipate
        self.target_kv_cache = target_kv_cache

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        from serve_graph.cluster.load.load_board import BOARD

        coming = BOARD.expected(ctx.app_name or "", ctx.deployment_name, ctx.current_time or 0.0)
        needed = replicas_for(ctx, coming if self.anticipate else 0.0)
        used = latest((ctx.raw_metrics or {}).get(KV_CACHE, {}))
        if used and self.target_kv_cache:
            needed = max(needed, sum(used) / self.target_kv_cache)
        return needed, {}


def replicas_for(ctx: AutoscalingContext, coming: float) -> float:
    """Return how many replicas the requests in progress and `coming` more need, at the deployment's own target."""
    if ctx.current_num_replicas == 0 and ctx.total_num_requests + coming <= 0:
        return float(ctx.target_num_replicas)  # asleep, or its first replica is starting
    return float((ctx.total_num_requests + coming) / ctx.config.get_target_ongoing_requests())


def latest(by_replica: Mapping[Any, Any]) -> list[float]:
    """Return the newest value that each replica has said of a statistic."""
    return [float(series[-1].value) for series in by_replica.values() if series]
