"""Which score a share of requests lies below: a dial between cost and quality, of which nothing is promised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import ArtifactError, DataError

QUANTILE_STEPS = 100
"""Parts that the quantiles of a version's scores divide them into."""


@dataclass(frozen=True, slots=True)
class ScoreShares:
    """Find the threshold below which a share of requests lies, and the share that lies below a threshold.

    RouteLLM's `calibrate_threshold` does this for one share and one data set at a time (Ong et al. 2024).

    Parameters
    ----------
    quantiles : tuple of float
        Of the router's estimates over some prompts, ascending, at equal steps from the least to the greatest; empty:
        not known.
    """

    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, scores: ArrayLike) -> ScoreShares:
        """Make it from the scores themselves, (n,).

        Raises
        ------
        DataError
            For no scores, and for scores that are not finite.
        """
        given = np.asarray(scores, dtype=np.float64).ravel()
        if not given.size or not np.isfinite(given).all():
            raise DataError(f"the quantiles of {given.size} scores: some finite ones are needed")
        return cls(tuple(float(q) for q in np.quantile(given, np.linspace(0, 1, QUANTILE_STEPS + 1))))

    @classmethod
    def of_values(cls, values: Iterable[float]) -> ScoreShares:
        """Make it from quantiles that were stored.

        Raises
        ------
        ArtifactError
            Where they are no ascending finite numbers, two at least or none.
        """
        found = tuple(float(value) for value in values)
        if len(found) == 1 or not np.isfinite(found).all() or any(np.diff(found) < 0):
            raise ArtifactError(f"quantiles of scores are ascending finite numbers, found {found!s:.120}")
        return cls(found)

    def threshold(self, share: float) -> float:
        """Return the score below which a share of the prompts lies; -inf for none of them, inf for all.

        Equal scores are never divided: where the threshold is one of them, all of them lie above it.

        Raises
        ------
        DataError
            Where the quantiles are not known, and for a share outside [0, 1].
        """
        if not self.quantiles:
            raise DataError("the quantiles of the version's scores are not known: certify it again")
        if not 0 <= share <= 1:
            raise DataError(f"a share lies between 0 and 1, found {share}")
        if share in (0, 1):
            return float("inf") if share else float("-inf")
        return float(np.interp(share, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def certified_share(self, share: float) -> float:
        """Return which part of the prompts themselves lies below the threshold of a share, to a quantile's step."""
        if share in (0, 1):
            return float(share)
        found = np.searchsorted(self.quantiles, self.threshold(share), "left")
        return min(share, float(found) / (len(self.quantiles) - 1))

    def share_below(self, scores: ArrayLike, share: float) -> float:
        """Return which part of other scores, (n,), lies below the threshold of a share."""
        return float((np.asarray(scores, dtype=np.float64) < self.threshold(share)).mean())

    def share_of(self, threshold: float) -> float | None:
        """Return the share whose threshold this is; None where it lies outside all the scores that are known.

        Raises
        ------
        DataError
            Where the quantiles are not known.
        """
        if not self.quantiles:
            raise DataError("the quantiles of the version's scores are not known: certify it again")
        if not self.quantiles[0] <= threshold <= self.quantiles[-1]:
            return None
        return float(np.interp(threshold, self.quantiles, np.linspace(0, 1, len(self.quantiles))))
