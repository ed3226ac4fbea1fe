"""Score novel prompts by their length: beside every learned router, fitted with it.

A learned router can order prompts unlike its training data worse than prompt length does, which is not trained. Its
estimate for a prompt at distance d from the training data (`estimators.novelty`) is therefore

    (1 - w(d)) · router(prompt) + w(d) · length(prompt),

where w rises smoothly from 0 at `START` to 1 at `END`, and length(prompt) = σ(level - slope · log(1 + characters)) is
how often the cheap answer was good enough on a training prompt as long as this one. Both are probabilities: a version
blends after the router's calibrator. The order of novel prompts is prompt length's: where longer training prompts were
easier, the slope keeps its size and not its sign.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.text_cache import each_text_once
from router_models.estimators.novelty import LEAST, NoveltyDetector, evenly_spaced
from router_models.estimators.routers.base import RouterModel, array_of, fitted
from router_models.estimators.routers.length_share import estimate_by_length, log_lengths, log_odds
from router_models.types import FloatArray, Prompts

START, END = 1.25, 2.25
"""Distances up to which a router's estimate counts alone, and from which on prompt length does."""
SHIFT_ROWS = 500
LEAST_SLOPE = 0.05
"""Longer is never easier: the order of novel prompts is prompt length's, even where the training data deny it."""
NEVER_NOVEL = frozenset({"constant", "random", "oracle", "length"})
"""Families that learn nothing of prompts: no prompt is novel to them."""


class LengthFallback:
    """Blend a router's estimates with prompt length's, by the prompts' distance from the training data.

    Attributes
    ----------
    novelty_ : NoveltyDetector
        Measures the distance.
    line_ : array of float, (2,)
        Level and slope of the log-odds over log(1 + characters); the slope is at least `LEAST_SLOPE`, and as steep as
        the training prompts' in whichever direction.
    """

    family = "length-fallback"

    def __init__(self) -> None:
        self.novelty_: NoveltyDetector | None = None
        self.line_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray, *, embedded: bool) -> Self:
        """Learn how the targets fall with prompt length, and where the training prompts lie.

        Parameters
        ----------
        X : Prompts
            At least `novelty.LEAST` prompts.
        y : array of float, (n,)
            The router's targets, in [0, 1].
        embedded : bool
            Whether prompts come with embeddings.

        Returns
        -------
        LengthFallback
            The fallback itself.

        Raises
        ------
        DataError
            For too few prompts.
        """
        self.novelty_ = NoveltyDetector().fit(X, embedded=embedded)
        length, mean = log_lengths(X.texts), float(np.mean(y))
        # The slope of least squares over the derivative of σ at the mean: that of the log-odds.
        steepness = float(length.var()) * mean * (1 - mean)
        fall = float(np.mean((length.mean() - length) * y))
        slope = max(abs(fall) / steepness if steepness > 0 else 0.0, LEAST_SLOPE)
        self.line_ = np.array([log_odds(mean) + slope * length.mean(), slope])
        return self

    def blended(self, X: Prompts, p: FloatArray, shift: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """Blend the router's estimates of prompts.

        Parameters
        ----------
        X : Prompts
            n prompts.
        p : array of float, (n,)
            The router's estimates, in [0, 1].
        shift : float
            By how much their log-odds lie above the targets', where they are not calibrated.

        Returns
        -------
        tuple of array of float, (n,)
            The blended estimates, in [0, 1], and the prompts' distances.
        """
        distance = self.distance(X)
        level, slope = fitted(self.line_, self.family)
        by_length = estimate_by_length(level + shift, slope, log_lengths(X.texts))
        w = weight_of_length(distance)
        return np.asarray((1 - w) * p + w * by_length, dtype=np.float64), distance

    def distance(self, X: Prompts) -> FloatArray:
        """Return the distance of n prompts from the training data, (n,)."""
        return fitted(self.novelty_, self.family).distance(X)

    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds a fallback that blends equally."""
        novelty = fitted(self.novelty_, self.family).state()
        arrays: dict[str, NDArray[Any]] = {f"novelty.{name}": array for name, array in novelty.arrays.items()}
        line = fitted(self.line_, self.family)
        return State({**arrays, "line": line}, {"novelty": dict(novelty.meta)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; ArtifactError where something is missing."""
        fallback = cls()
        arrays = {n.removeprefix("novelty."): a for n, a in state.arrays.items() if n.startswith("novelty.")}
        fallback.novelty_ = NoveltyDetector.from_state(State(arrays, state.meta.get("novelty", {})))
        fallback.line_ = array_of(state, "line").astype(np.float64)
        return fallback


class RouterWithFallback:
    """Fit a router and its fallback together; score prompts that neither was fitted on, without a calibrator.

    Parameters
    ----------
    router : RouterModel
        Not fitted yet.

    Attributes
    ----------
    fallback_ : LengthFallback or None
        None for the families in `NEVER_NOVEL`, and where too few prompts show what is novel.
    """

    def __init__(self, router: RouterModel) -> None:
        self.router = router
        self.fallback_: LengthFallback | None = None
        self._shift = 0.0

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        """Learn from n graded prompts.

        Parameters
        ----------
        X : Prompts
            The prompts.
        y : array of shape (n,)
            Their grades, or gains, as the router's own `fit` takes them.

        Returns
        -------
        RouterWithFallback
            This router.

        Raises
        ------
        DataError
            Where the router's own `fit` does.
        """
        with each_text_once():
            self.router.fit(X, y)
        return self.around(X, y)

    def around(self, X: Prompts, y: FloatArray) -> Self:
        """Learn the fallback alone, of a router that is fitted, from n graded prompts."""
        with each_text_once():
            if self.router.family not in NEVER_NOVEL and len(X) >= LEAST:
                self.fallback_ = LengthFallback().fit(X, y, embedded=self.router.needs_embeddings)
                scores = self.router.predict(X.take(evenly_spaced(len(X), SHIFT_ROWS)))
                self._shift = float(np.mean(log_odds(scores)) - log_odds(float(np.mean(y))))
        return self

    def predict(self, X: Prompts) -> FloatArray:
        """Return the scores of n prompts, novel ones by their length at the level of the router's own.

        Parameters
        ----------
        X : Prompts
            The prompts.

        Returns
        -------
        array of shape (n,)
            Larger means that the cheap tier's answer is more likely right.
        """
        with each_text_once():
            return self.blended(X, self.router.predict(X))[0]

    def blended(self, X: Prompts, scores: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Return what `predict` does, given the router's own scores, and the distances; None without a fallback."""
        if self.fallback_ is None:
            return scores, None
        return self.fallback_.blended(X, scores, self._shift)


def weight_of_length(distance: FloatArray) -> FloatArray:
    """Return the share of prompt length in a score, by distance: 0 to `START`, 1 from `END`, smooth between."""
    x = np.clip((distance - START) / (END - START), 0.0, 1.0)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float64)
