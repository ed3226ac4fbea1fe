"""What one test of a candidate shows, and what follows where it reaches its limit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from router_models.types import FloatArray

CanaryEffect = Literal["promote", "roll_back", "block"]


@dataclass(frozen=True, slots=True)
class CanaryFinding:
    """One test, whether or not it has reached its limit.

    Parameters
    ----------
    name : str
        `quality`, `harm`, `cost` or `relative_cost` (within the margin); `quality_worse`, `harm_worse`, `cost_worse`,
        `relative_cost_worse`, `errors_worse`, `latency_worse` (beyond it); `sample_ratio`; `cost_overrun`; `ties`.
    scope : str
        `overall`, or a slice's name.
    value, limit : float
        The greatest value of the test so far, and the limit at which it says what its name says.
    reached : bool
        Whether the limit was reached, ever; of `ties` whether the share is above it now, and quality is not proved
        without them.
    n : int
        Observations that it is of.
    effect : str
        What reaching the limit does: `promote` (with all others of this effect), `roll_back`, or `block` promotion.
    estimate : float, optional
        The mean difference that was seen, positive where the candidate is better, with what is not known counted as
        the test counts it; of costs against the ceiling, in USD or as a share of the last tier's; of the sample
        ratio, the candidate's share less what was assigned. None before the first observation.
    """

    name: str
    scope: str
    value: float
    limit: float
    reached: bool
    n: int
    effect: CanaryEffect
    estimate: float | None = None

    @classmethod
    def of_wealth(
        cls,
        name: str,
        scope: str,
        log_wealth: FloatArray,
        alpha: float,
        effect: CanaryEffect,
        difference: FloatArray | None = None,
    ) -> CanaryFinding:
        """The finding of a wealth process, ln of it after each observation: its greatest value against 1/α."""
        peak, goal = float(log_wealth.max(initial=0.0)), -math.log(alpha)
        mean = None if difference is None or not len(difference) else float(np.mean(difference))
        value = math.exp(min(peak, 700.0))
        return cls(name, scope, value, 1 / alpha, peak >= goal, len(log_wealth), effect, mean)

    def to_json(self) -> dict[str, Any]:
        """As JSON: finite numbers, strings and booleans only."""
        return asdict(self)
