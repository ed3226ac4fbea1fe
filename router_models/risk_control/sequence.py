"""The anchored sequence: which thresholds keep an error budget, by Learn-then-Test.

Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) tests "the risk at this threshold is at least ε" along a
fixed sequence and keeps those rejected. Starting at the strictest threshold wastes the budget on tests that few
accepted answers decide; starting where TUNE predicts the smallest p-value, and walking to more lenient thresholds,
keeps the guarantee (the order is fixed before CERT labels are read) and accepts several times more.

All functions are pure. `scores` accept at ≥; `wrong` is true where the answer was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv

from router_models.errors import DataError
from router_models.risk_control.labels import p_value
from router_models.types import BoolArray, FloatArray, IntArray

GRID_SIZE = 300
"""Thresholds of a sequence: its level does not depend on their number, fine steps end nearer the last that holds."""

ANCHORS = 20
"""Quantiles of TUNE's scores among which a start is chosen: the best of more of them is luckier, and no better."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """n answers with their scores and labels.

    Parameters
    ----------
    scores : array of float, (n,)
        Higher is more likely to be right.
    wrong : array of bool, (n,)
        Whether the answer is wrong.
    slices : tuple of str, optional
        The name of each answer's slice, where slices are certified by themselves.
    """

    scores: FloatArray
    wrong: BoolArray
    slices: tuple[str, ...] | None = None

    @classmethod
    def of(cls, scores: ArrayLike, wrong: ArrayLike, slices: Sequence[str] | None = None) -> Labelled:
        """Validate and wrap.

        Parameters
        ----------
        scores : array-like of shape (n,)
            What thresholds are compared with; no NaN.
        wrong : array-like of shape (n,)
            1 where the answer is wrong, 0 where it is right.
        slices : sequence of str, optional
            Of every row its slice.

        Returns
        -------
        Labelled
            The same rows.

        Raises
        ------
        DataError
            For unequal lengths, NaN, or labels that are not 0 or 1.
        """
        s, w = np.asarray(scores, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
        if s.ndim != 1 or s.shape != w.shape:
            raise DataError(f"scores and labels must be (n,) and equally long, got {s.shape} and {w.shape}")
        if np.isnan(s).any():
            raise DataError(f"{int(np.isnan(s).sum())} of {len(s)} scores are NaN: drop them or never accept them")
        if not ((w == 0) | (w == 1)).all():
            raise DataError("labels must be 0 (right) or 1 (wrong): say which grades count as acceptable first")
        if slices is not None and len(slices) != len(s):
            raise DataError(f"{len(s)} scores but {len(slices)} slice names")
        return cls(s, w.astype(np.bool_), None if slices is None else tuple(slices))

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, name: str) -> Labelled:
        """Return the rows of one slice.

        Parameters
        ----------
        name : str
            The slice.

        Returns
        -------
        Labelled
            They alone, in their order.
        """
        if self.slices is None:
            raise DataError("these answers carry no slice names")
        rows = np.array([s == name for s in self.slices], dtype=np.bool_)
        return Labelled(self.scores[rows], self.wrong[rows])


@dataclass(frozen=True, slots=True)
class Path:
    """One family's tests along ascending thresholds: CERT counts, p-values, where it started, which were rejected.

    `tuned` and `tuned_wrong` are TUNE's counts at the same thresholds.
    """

    thresholds: FloatArray
    accepted: IntArray
    errors: IntArray
    p_values: FloatArray
    anchor: int
    rejected: BoolArray
    tuned: IntArray
    tuned_wrong: IntArray


def quantile_grid(scores: ArrayLike, size: int = GRID_SIZE) -> FloatArray:
    """At most `size` distinct thresholds, ascending, at the 0, 1/size, … quantiles of `scores` (ties collapse).

    Take the scores from TUNE, or from unlabelled traffic: a grid must not depend on CERT.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.size == 0 or np.isnan(s).any():
        raise DataError("a threshold grid needs scores without NaN")
    ordered = np.sort(s)
    return np.unique(ordered[np.arange(size) * len(ordered) // size])


def anchors(thresholds: FloatArray, scores: FloatArray) -> IntArray:
    """Which ascending thresholds a sequence may start at: the first from each of `ANCHORS` quantiles of `scores` on.

    All of them where every threshold lies below those quantiles.
    """
    found = np.unique(np.searchsorted(thresholds, quantile_grid(scores, ANCHORS)))
    found = found[found < len(thresholds)]
    return found.astype(np.int64) if len(found) else np.arange(len(thresholds))


def counts_at(thresholds: FloatArray, data: Labelled) -> tuple[IntArray, IntArray]:
    """How many are accepted at each ascending threshold (score ≥ threshold), and how many of those are wrong."""
    m = len(thresholds)
    passed = np.searchsorted(thresholds, data.scores, side="right")
    accepted = np.bincount(passed, minlength=m + 1)[::-1].cumsum()[::-1][1:]
    wrong = np.bincount(passed[data.wrong], minlength=m + 1)[::-1].cumsum()[::-1][1:]
    return accepted.astype(np.int64), wrong.astype(np.int64)


def smoothed_risk(accepted: IntArray, wrong: IntArray) -> FloatArray:
    """(wrong + ½) / (accepted + 1): a strict threshold with few answers and none wrong is not believed to be free."""
    return np.asarray((wrong + 0.5) / (accepted + 1.0), dtype=np.float64)


def predicted_p_values(accepted: FloatArray, risk: FloatArray, epsilon: float) -> FloatArray:
    """The p-value to expect from `accepted` answers (fractional) of that `risk`.

    P(Binomial(n, ε) ≤ k) continued to fractional n and k by the regularised incomplete beta function.
    """
    n = np.maximum(accepted, 1e-9)
    k = n * np.clip(risk, 0.0, 1 - 1e-9)
    return np.asarray(betainc(n - k, k + 1, 1 - epsilon), dtype=np.float64)


def fixed_sequence(p_values: FloatArray, anchor: IntArray | int, level: float) -> BoolArray:
    """Which hypotheses fall when tested from `anchor` downwards in index, each at `level`, until the first failure.

    `p_values` is (..., m) with the most lenient threshold first; `anchor` broadcasts over the leading axes. Controls
    the family-wise error at `level` for any anchor chosen without these p-values (fixed-sequence testing).
    """
    below = np.arange(p_values.shape[-1]) <= np.asarray(anchor)[..., None]
    holds = (p_values <= level) | ~below
    return np.asarray(np.logical_and.accumulate(holds[..., ::-1], axis=-1)[..., ::-1] & below, dtype=np.bool_)


def anchored_path(tune: Labelled, cert: Labelled, thresholds: FloatArray, *, epsilon: float, level: float) -> Path:
    """Run one family's sequence at `level`: anchor from TUNE, tests on CERT. `thresholds` must not depend on CERT."""
    tuned, tuned_wrong = counts_at(thresholds, tune)
    risk = smoothed_risk(tuned, tuned_wrong)
    expected = (tuned * (len(cert) / len(tune))).astype(np.float64)
    starts = anchors(thresholds, tune.scores)
    anchor = int(starts[np.argmin(predicted_p_values(expected, risk, epsilon)[starts])])
    accepted, errors = counts_at(thresholds, cert)
    p = p_value(errors, accepted, epsilon)
    return Path(thresholds, accepted, errors, p, anchor, fixed_sequence(p, anchor, level), tuned, tuned_wrong)


def spent_delta(delta: float, look_index: int) -> float:
    """The level of the i-th certificate under one lifetime budget: δ_i = 6δ/(π² i²), which sum to δ; all of δ for 0.

    Every look at CERT labels counts, one that certified nothing included.
    """
    if look_index < 0:
        raise DataError(f"look_index must be 0 (a single certificate) or 1, 2, …, got {look_index}")
    return delta if look_index == 0 else 6 * delta / (np.pi * look_index) ** 2


def upper_bound(errors: int, n: int, level: float) -> float:
    """One-sided Clopper-Pearson: the largest risk that `errors` of n do not refute at `level`. 1 where n = 0."""
    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - level))


def feasible_share(base_error: float, epsilon: float) -> float:
    """The largest share any score could accept at risk ≤ ε: min(1, (1 - μ) / (1 - ε)); what the oracle reaches."""
    return min(1.0, (1 - base_error) / (1 - epsilon))
