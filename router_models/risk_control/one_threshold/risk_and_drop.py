"""One threshold that keeps two promises: errors among the kept answers, and the drop against always-frontier.

Learn-then-Test on "the risk exceeds ε or the drop exceeds m": its p-value is the greater of the two (an
intersection-union test), so one anchored sequence proves both at its level. The drop's p-value is 1 / max K, the
betting test of `paired` in a random order of the rows (Ville's inequality).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.labels import p_value
from router_models.risk_control.paired import log_peak, not_worse, shuffled
from router_models.risk_control.sequence import (
    Labelled,
    anchors,
    counts_at,
    fixed_sequence,
    predicted_p_values,
    quantile_grid,
    smoothed_risk,
)
from router_models.types import BoolArray, FloatArray

PROOF_SDS = 2.5
"""Standard errors between a drop in quality and the bound that a betting test proves on as many pairs."""


@dataclass(frozen=True, slots=True)
class Paired:
    """n prompts with the score that decides (-inf = never kept) and both tiers' grades, 0 or 1.

    `silent`: where the frontier's answer would be abstained on, and so lost; None = nowhere. `harm`: an error is a
    cheap answer that is wrong where the frontier's is right, else any wrong one.
    """

    scores: FloatArray
    cheap_right: FloatArray
    frontier_right: FloatArray
    silent: BoolArray | None = None
    harm: bool = False

    def labelled(self) -> Labelled:
        """Scores and errors of the prompts that could be kept."""
        on = self.scores > -np.inf
        wrong = 1 - self.cheap_right[on]
        return Labelled.of(self.scores[on], wrong * self.frontier_right[on] if self.harm else wrong)

    def change(self, threshold: float) -> FloatArray:
        """Right less right under always-frontier, (n,), when scores ≥ threshold are kept."""
        lost = 0.0 if self.silent is None else np.where(self.silent, -self.frontier_right, 0.0)
        return np.asarray(np.where(self.scores >= threshold, self.cheap_right - self.frontier_right, lost))


@dataclass(frozen=True, slots=True)
class Both:
    """The most lenient threshold with both proofs: its CERT counts, and the drop as a line of a certificate."""

    threshold: float
    accepted: int
    errors: int
    promise: Promise


def place_anchor(tune: Paired, n_cert: int, n_kept: int, *, epsilon: float, max_drop: float) -> tuple[FloatArray, int]:
    """The grid and where its sequence starts: the least p-value that TUNE predicts of what CERT can prove.

    Reads of CERT how many prompts it has, and how many of them could be kept. NotCertifiedError where TUNE says never.
    """
    known = tune.labelled()
    if len(known) == 0 or n_kept == 0:
        raise NotCertifiedError("no TUNE or no CERT labels: nothing can be promised")
    grid = quantile_grid(known.scores)
    starts = anchors(grid, known.scores)
    provable = likely_provable(np.stack([tune.change(float(t)) for t in grid[starts]]), max_drop, n_cert)
    if not provable.any():
        raise NotCertifiedError(
            f"no threshold is likely to be proved to lower the share right by less than {max_drop:g}"
        )
    tuned, tuned_wrong = counts_at(grid[starts], known)
    expected = np.asarray(tuned * (n_kept / len(known)), dtype=np.float64)
    predicted = predicted_p_values(expected, smoothed_risk(tuned, tuned_wrong), epsilon)
    return grid, int(starts[np.argmin(np.where(provable, predicted, np.inf))])


def certify_both(tune: Paired, cert: Paired, *, epsilon: float, max_drop: float, level: float) -> Both:
    """The most lenient threshold at which both promises are proved.

    Starts where TUNE predicts the least p-value among thresholds whose drop CERT should be able to prove. Raises
    NotCertifiedError with the reason.
    """
    fresh = cert.labelled()
    grid, anchor = place_anchor(tune, len(cert.scores), len(fresh), epsilon=epsilon, max_drop=max_drop)
    accepted, errors = counts_at(grid, fresh)
    risk = p_value(errors, accepted, epsilon)
    both, drop = np.ones(len(grid)), 1.0
    for j in range(anchor, -1, -1):  # the sequence ends at the first that fails, and a test of the drop is dear
        drop = drop_p_value(cert.change(float(grid[j])), max_drop)
        both[j] = max(risk[j], drop)
        if both[j] > level:
            break
    rejected = np.flatnonzero(fixed_sequence(both, anchor, level))
    if not len(rejected):
        raise NotCertifiedError(
            f"at {grid[anchor]:.4g}, the most promising threshold, {errors[anchor]} of {accepted[anchor]} kept "
            f"answers are wrong (p = {risk[anchor]:.3g}) and the share right changes by "
            f"{100 * float(cert.change(float(grid[anchor])).mean()):.1f} points (p = {drop:.3g}); "
            f"both p must be ≤ {level:.3g}"
        )
    j = int(rejected[0])
    change = cert.change(float(grid[j]))
    shown = not_worse(change.clip(0, 1), (-change).clip(0, 1), margin=max_drop, delta=level)
    return Both(float(grid[j]), int(accepted[j]), int(errors[j]), shown.promise())


def likely_provable(changes: FloatArray, max_drop: float, n_cert: int) -> BoolArray:
    """For which rows of `changes` (m, n), right less right under always-frontier, CERT should prove the drop."""
    slack = PROOF_SDS * changes.std(axis=1) / np.sqrt(max(n_cert, 1))
    return np.asarray(slack - changes.mean(axis=1) <= max_drop, dtype=np.bool_)


def drop_p_value(change: FloatArray, max_drop: float) -> float:
    """P-value of "quality drops by `max_drop` or more"; the order of the rows does not matter."""
    return float(np.exp(-max(log_peak(shuffled(change), max_drop), 0.0)))
