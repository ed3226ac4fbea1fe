"""Certify while labels stream in: an e-process that may be looked at after every label.

E_t = mean_k Π (p_k/ε)^x ((1-p_k)/(1-ε))^(1-x) over labels x (1 = wrong), for several hoped-for risks p_k < ε. If the
risk is ε or more, P(E_t ≥ 1/δ at any time) ≤ δ (Ville), so one may stop at the first E ≥ 1/δ without planning n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.risk_control.certificate import check_budget
from router_models.types import FloatArray

HOPED = (0.02, 0.1, 0.25, 0.5, 0.75)
"""The risks bet on, as shares of ε."""


@dataclass(frozen=True, slots=True)
class StreamCertifier:
    """The state of one stream of labelled accepted answers; `update` returns the next state.

    `log_wealth` holds ln Π for each p_k; `peak` is the greatest ln E so far: a certificate once earned stays earned.
    The thresholds and everything else must be fixed before the first label, and labels must come in a random order: a
    stored sample is shuffled first (`data.groups.evidence_rows`).
    """

    epsilon: float
    log_wealth: tuple[float, ...] = (0.0,) * len(HOPED)
    n: int = 0
    errors: int = 0
    peak: float = 0.0

    def __post_init__(self) -> None:
        check_budget(self.epsilon, 0.5)

    def update(self, wrong: ArrayLike) -> StreamCertifier:
        """Add labels in their order of arrival, 1 = wrong; DataError for anything but 0 and 1."""
        x = np.atleast_1d(np.asarray(wrong, dtype=np.float64))
        if x.ndim != 1 or not ((x == 0) | (x == 1)).all():
            raise DataError("labels must be 0 (right) or 1 (wrong)")
        if x.size == 0:
            return self
        p = self.epsilon * np.array(HOPED)
        steps = x[:, None] * np.log(p / self.epsilon) + (1 - x[:, None]) * np.log((1 - p) / (1 - self.epsilon))
        paths = np.array(self.log_wealth) + np.cumsum(steps, axis=0)
        peak = max(self.peak, float(_log_mean(paths).max()))
        return replace(
            self,
            log_wealth=tuple(float(v) for v in paths[-1]),
            n=self.n + len(x),
            errors=self.errors + int(x.sum()),
            peak=peak,
        )

    @property
    def e_value(self) -> float:
        """E_t now: how many times the stake the bets against "risk ≥ ε" have earned."""
        return math.exp(float(_log_mean(np.array(self.log_wealth)[None])[0]))

    def certified(self, delta: float) -> bool:
        """Whether risk ≤ ε has been shown at confidence 1 - δ at some time up to now."""
        check_budget(self.epsilon, delta)
        return self.peak >= -math.log(delta)


def _log_mean(log_values: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp.reduce(log_values, axis=-1) - math.log(log_values.shape[-1]), dtype=np.float64)
