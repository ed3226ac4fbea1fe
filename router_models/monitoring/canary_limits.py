"""What a candidate may cost in quality, harm, money, errors and time, and how rarely a test may be wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

from router_models.errors import DataError


@dataclass(frozen=True, slots=True)
class CanaryLimits:
    """The margins and error probabilities of a comparison, fixed before its first request.

    Parameters
    ----------
    margin : float
        How much lower the share of right answers may be.
    alpha : float
        P(a candidate that is beyond any one of the margins is ever promoted), at most.
    alpha_rollback : float
        P(a candidate within its margin is ever rolled back by a test), at most: of each of quality, harm, cost,
        errors, latency and sample ratio, and of all slices' quality, and all slices' harm, together.
    harm_margin : float, optional
        How much higher the share of harmed answers may be. None: harm is not tested.
    cost_ceiling : float
        The candidate's mean cost of a request, as a multiple of the stable version's, at most. At 1 or less a
        candidate that costs the same is never promoted.
    cost_bound_usd : float, optional
        What no request costs more than, in USD. A candidate's request above it blocks promotion. The tests need
        about `cost_bound_usd` / mean cost times as many requests as where all cost the same. None: each request's
        costs are taken as shares of what the last tier's answer to it costs.
    error_margin, latency_margin : float
        How much higher the share of failed units, and of those not answered within `latency_limit_s`, may be.
    latency_limit_s : float, optional
        Seconds after which a unit counts as slow. None: latency is not tested.
    slices : tuple of str
        The slices tested by themselves, each at `alpha_rollback` divided by their number. Empty: those that are seen,
        the j-th in order of appearance at 6/(π²j²) of it, since their number is not known beforehand.
    """

    margin: float = 0.02
    alpha: float = 0.05
    alpha_rollback: float = 0.05
    harm_margin: float | None = 0.02
    cost_ceiling: float = 1.1
    cost_bound_usd: float | None = None
    error_margin: float = 0.01
    latency_margin: float = 0.02
    latency_limit_s: float | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("margin", "alpha", "alpha_rollback", "harm_margin", "error_margin", "latency_margin"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise DataError(f"{name} must lie between 0 and 1, got {value!r}")
        for name in ("cost_ceiling", "cost_bound_usd", "latency_limit_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise DataError(f"{name} must be a positive number, got {value!r}")
        if len(set(self.slices)) != len(self.slices):
            raise DataError(f"a slice is named twice: {', '.join(self.slices)}")
