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
        return cls(tuple(round(float(q), 6) for q in np.quantile(given, np.linspace(0, 1, QUANTILE_STEPS + 1))))

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

    def share_below(self, scores: ArrayLike, share: float) -> float:
        """Return which part of other scores, (n,), lies below the threshold of a share."""
        return float((np.asarray(scores, dtype=np.float64) < self.threshold(share)).mean())

    def share_of(self, threshold: float) -> float:
        """Return the share whose threshold this is, nearest to it where none is."""
        if not self.quantiles:
            raise DataError("the quantiles of the version's scores are not known: certify it again")
        return float(np.interp(threshold, self.quantiles, np.linspace(0, 1, len(self.quantiles))))
