"""The inputs and results of a replay: tiers with their slots and prices, and the figures of one simulation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.types import FloatArray, Usage


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """Hold prices over time. A call is billed at the price in force when it starts.

    Parameters
    ----------
    changes : tuple of (float, Price)
        The second from which a price holds, and the price; the first at 0, ascending.
    """

    changes: tuple[tuple[float, Price], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.changes]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise DataError(f"prices must begin at second 0 and change at ascending times, found {starts}")

    def at(self, time_s: float) -> Price:
        """Return the price in force at a moment, in seconds."""
        return self.changes[bisect_right([start for start, _ in self.changes], time_s) - 1][1]


@dataclass(frozen=True, slots=True)
class ReplayTier:
    """Hold a tier as it is replayed, for n prompts.

    Parameters
    ----------
    grades : array of float, (n,)
        The grade of its answer.
    usage : tuple of Usage
        Tokens of the call.
    service_s : array of float, (n,)
        Seconds the call takes in a slot.
    slots : int
        Calls it carries at the same time.
    prices : PriceSchedule
        What calls cost.
    queue_limit : int, optional
        Where a call finds the queue this long, its request is refused; None = no limit.
    price_factor : Decimal
        Multiplies every price (`tier_costs.TierCosts.batch_multiplier`).
    """

    grades: FloatArray
    usage: tuple[Usage, ...]
    service_s: FloatArray
    slots: int
    prices: PriceSchedule
    queue_limit: int | None = None
    price_factor: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise DataError(f"a tier needs at least one slot, found {self.slots}")
        if not (np.isfinite(self.service_s).all() and (self.service_s >= 0).all()):
            raise DataError("service times must be finite and ≥ 0 for every prompt: record or assume them")
        if not len(self.grades) == len(self.usage) == len(self.service_s):
            raise DataError("grades, usage and service times of a tier must be equally long")


@dataclass(frozen=True, slots=True)
class Overhead:
    """Hold seconds of latency and dollars, per routing decision and per verdict."""

    router_s: float = 0.0
    verifier_s: float = 0.0
    router_usd: Decimal = Decimal(0)
    verifier_usd: Decimal = Decimal(0)


NO_OVERHEAD = Overhead()


@dataclass(frozen=True, slots=True)
class TierLoad:
    """Hold one tier's load.

    Parameters
    ----------
    calls, answered : int
        Calls made, and requests whose answer was the tier's.
    cost_usd : Decimal
        US dollars.
    utilisation : float
        The mean share of slots in use, in [0, 1].
    queue_mean : float
        The queue's mean length over time.
    queue_max : int
        Its greatest length.
    wait_p95_s : float
        The 95th percentile of the calls' waiting times, in seconds.
    """

    calls: int
    answered: int
    cost_usd: Decimal
    utilisation: float
    queue_mean: float
    queue_max: int
    wait_p95_s: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """Hold the figures of one replay.

    Parameters
    ----------
    requests, answered, abstained, refused : int
        Requests by outcome.
    duration_s : float
        Seconds until the last event.
    cost_usd : Decimal
        US dollars, overhead included.
    right : float
        The mean grade of the answers returned.
    latencies_s : array of float
        Seconds of every request that was answered or abstained from.
    tiers : mapping of str to TierLoad
        By tier.
    actions : mapping of str to int
        Requests by `Action`, and `refused`.
    trace : tuple of mapping
        Every event, where the trace was kept.
    """

    requests: int
    answered: int
    abstained: int
    refused: int
    duration_s: float
    cost_usd: Decimal
    right: float
    latencies_s: FloatArray
    tiers: Mapping[str, TierLoad]
    actions: Mapping[str, int]
    trace: tuple[Mapping[str, Any], ...]

    def latency_s(self, share: float) -> float:
        """Return the latency that a share of the requests does not exceed; NaN where none was served."""
        return float(np.quantile(self.latencies_s, share)) if len(self.latencies_s) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values (without the trace), rounded to six decimals."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "abstained": self.abstained,
            "refused": self.refused,
            "duration_s": round(self.duration_s, 6),
            "cost_usd": f"{self.cost_usd:f}",
            "usd_per_1000_requests": round(float(self.cost_usd) / self.requests * 1000, 8),
            "right": _rounded(self.right),
            "latency_s": {f"p{q}": _rounded(self.latency_s(q / 100)) for q in (50, 95, 99)},
            "actions": dict(sorted(self.actions.items())),
            "tiers": {
                name: {
                    "calls": load.calls,
                    "answered": load.answered,
                    "answered_share": _rounded(load.answered / max(self.answered, 1)),
                    "cost_usd": f"{load.cost_usd:f}",
                    "utilisation": _rounded(load.utilisation),
                    "queue_mean": _rounded(load.queue_mean),
                    "queue_max": load.queue_max,
                    "wait_p95_s": _rounded(load.wait_p95_s),
                }
                for name, load in self.tiers.items()
            },
        }


def _rounded(value: float) -> float | None:
    """Round to six decimals; None where the value is not finite, which JSON cannot represent."""
    return round(value, 6) if np.isfinite(value) else None
