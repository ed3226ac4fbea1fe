"""Certify while labels stream in: an e-process that may be looked at after every label.

E_t = mean_k Π (p_k/ε)^x ((1-p_k)/(1-ε))^(1-x) over labels x (1 = wrong), for several hoped-for risks p_k < ε. If the
risk is ε or more, P(E_t ≥ 1/δ at any time) ≤ δ (Ville), so one may stop at the first E ≥ 1/δ without planning n.

Several thresholds are tested in a fixed sequence from strict to lenient: the rows above the next threshold hold those
above the one before, so that labels are used again, and a threshold is tested only when the stricter ones are proved.
Each test reads the rows above its threshold in their random order, without a gap. A false proof needs the strictest
false one among them to be proved, which happens with probability δ at most, whenever one stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from router_models.errors import DataError, NotCertifiedError, by_number
from router_models.risk_control.certificates.risks import check_budget
from router_models.risk_control.labels import NEARLY, RISKS
from router_models.risk_control.sequence import ANCHORS, Labelled, counts_at, quantile_grid, smoothed_risk
from router_models.types import FloatArray

HOPED = (0.02, 0.1, 0.25, 0.5, 0.75)
"""The risks bet on, as shares of ε."""
STEPS = 4
"""The most thresholds that are tested one after the other."""
MOST_STREAMED = 20_000
PRIOR_LABELS = 10
"""As many labels TUNE's risk is worth when it is foretold how many more are needed."""
_SPARE = 2.0
"""How many times the labels that it needs the first threshold should have: nothing is certified where it fails."""
_PATHS, _CHUNK = 40, 256


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
        paths = np.array(self.log_wealth) + np.cumsum(_steps(x, self.epsilon), axis=0)
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

    def labels_to_go(self, delta: float, risk: float) -> int | None:
        """About how many more labels prove it, at the growth that the best bet has at this risk; None: none would."""
        if self.certified(delta):
            return 0
        growth = (1 - risk) * _steps(np.zeros(1), self.epsilon)[0] + risk * _steps(np.ones(1), self.epsilon)[0]
        wanted = math.log(len(HOPED) / delta) - np.array(self.log_wealth)
        needed = [float(w / g) for w, g in zip(wanted, growth, strict=True) if g > 0]
        return max(math.ceil(min(needed)), 1) if needed else None


@dataclass(frozen=True, slots=True)
class StreamStep:
    """The test of one threshold: its labels without a gap, up to the proof or so far."""

    threshold: float
    state: StreamCertifier
    proved: bool


@dataclass(frozen=True, slots=True)
class NestedStream:
    """The tests of a sequence of thresholds, as far as labels go.

    Parameters
    ----------
    steps : tuple of StreamStep
        Those begun, from strict to lenient; only the last may be unproved.
    next_row : int, optional
        The row whose label the test under way needs next; None: all is proved, or no row is left.
    """

    steps: tuple[StreamStep, ...]
    next_row: int | None

    @property
    def proved(self) -> StreamStep | None:
        """The most lenient threshold that is proved; None: none yet."""
        return next((step for step in reversed(self.steps) if step.proved), None)

    def foretold(self, level: float, tune_risk: Sequence[float]) -> int | None:
        """About how many more labels the test under way needs; None: none would do.

        TUNE's risks, one a threshold, are worth `PRIOR_LABELS` labels. Where a threshold is proved and labels find
        less risk there than TUNE does (whose judge may be harsher), they are lowered in proportion.
        """
        at, proved = self.steps[-1].state, self.proved
        prior = tune_risk[len(self.steps) - 1]
        if proved is not None and len(self.steps) > 1:
            found = (proved.state.errors + 0.5) / (proved.state.n + 1)
            prior *= min(1.0, found / tune_risk[len(self.steps) - 2])
        return at.labels_to_go(level, (at.errors + PRIOR_LABELS * prior) / (at.n + PRIOR_LABELS))


def follow_stream(
    thresholds: Sequence[float], scores: FloatArray, marks: FloatArray, *, epsilon: float, level: float
) -> NestedStream:
    """Test thresholds one after the other on the labels there are.

    Parameters
    ----------
    thresholds : sequence of float
        From strict to lenient, fixed before the first label; scores ≥ a threshold are accepted.
    scores : array of float, (n,)
        In a random order that does not depend on labels.
    marks : array of float, (n,)
        1 where the risk happened (wrong, harm), 0 where it did not, NaN where there is no label yet.
    epsilon, level : float
        Risk ≤ ε at confidence 1 - level, of all thresholds together.
    """
    steps: list[StreamStep] = []
    for threshold in thresholds:
        rows = np.flatnonzero(scores >= threshold)
        gaps = np.flatnonzero(np.isnan(marks[rows]))
        known = int(gaps[0]) if len(gaps) else len(rows)
        x = marks[rows[:known]]
        n = proof_after(x, epsilon, level)
        steps.append(StreamStep(threshold, StreamCertifier(epsilon).update(x[:n]), n is not None))
        if n is None:
            return NestedStream(tuple(steps), int(rows[known]) if known < len(rows) else None)
    return NestedStream(tuple(steps), None)


def proof_after(wrong: ArrayLike, epsilon: float, level: float) -> int | None:
    """After how many of these labels, in their order, the risk is proved to be ε at most; None: not with these."""
    x = np.asarray(wrong, dtype=np.float64)
    if x.size == 0:
        return None
    reached = np.flatnonzero(_log_mean(np.cumsum(_steps(x, epsilon), axis=0)) >= -math.log(level))
    return int(reached[0]) + 1 if len(reached) else None


def place_stream(
    tune: Labelled, scores: FloatArray, *, epsilon: float, level: float, doubted: bool = False
) -> tuple[float, ...]:
    """The thresholds to test on labels that are still to be given, from strict to lenient.

    Parameters
    ----------
    tune : Labelled
        TUNE's answers that may be accepted, with labels of whatever source: they only place thresholds.
    scores : array of float, (n,)
        Of the answers that can be labelled, in CERT.
    epsilon, level : float
        The budget.
    doubted : bool
        Whether TUNE's labels are a judge's, which may be harsher than people's: where they say that nothing is likely
        to be proved, the strictest threshold with answers enough is tested all the same, and those at which the judge
        finds less than twice the risk.

    Returns
    -------
    tuple of float
        The first needs the fewest labels by TUNE's figures, of those that have twice as many or, where none has, the
        most to spare; the others, `STEPS` at most in all, accept more and are likely to be proved with the answers
        there are.

    Raises
    ------
    NotCertifiedError
        Where TUNE says that nothing is likely to be proved.
    """
    if len(tune) == 0 or len(scores) == 0:
        raise NotCertifiedError("no TUNE labels, or no answers to label: nothing can be promised there")
    grid = quantile_grid(tune.scores, ANCHORS)
    accepted, wrong = counts_at(grid, tune)
    risk = smoothed_risk(accepted, wrong)
    there = np.array([(scores >= t).sum() for t in grid])
    begin = StreamCertifier(epsilon)
    needed = np.array(
        [np.inf if (n := begin.labels_to_go(level, float(r))) is None or r >= NEARLY * epsilon else n for r in risk]
    )
    likely = np.flatnonzero((accepted > 0) & (needed <= there))
    if doubted and not len(likely):
        flawless = begin.labels_to_go(level, 0.0) or 0
        needed = np.where(there >= _SPARE * flawless, flawless, np.inf)
        likely = np.flatnonzero((accepted > 0) & np.isfinite(needed) & (risk < 2 * epsilon))
    if not len(likely):
        near = needed - there if np.isfinite(needed).any() else risk
        j = int(np.argmin(np.where(accepted > 0, near, np.inf)))
        raise NotCertifiedError(
            f"no threshold is likely to be proved by streamed labels: at the best, {grid[j]:.4g}, {wrong[j]} of "
            f"{accepted[j]} TUNE {by_number(accepted[j], 'answer counts', 'answers count')} against ε = "
            f"{epsilon:g}, and {there[j]} {by_number(there[j], 'is', 'are')} there to be labelled",
            None if not np.isfinite(needed[j]) else max(int(needed[j] - there[j]), 1),
        )
    spare = there[likely] / needed[likely]
    enough = likely[spare >= min(_SPARE, float(spare.max()))]
    first = enough[::-1][np.argmin(needed[enough][::-1])]  # the strictest of equals
    lenient = likely[likely <= first][::-1]
    chosen = np.unique(np.linspace(0, len(lenient) - 1, STEPS).round().astype(int))
    return tuple(float(grid[j]) for j in lenient[chosen])


def labels_streamed(epsilon: float, errors: int, n: int, level: float, seed: int = 0) -> tuple[int, int] | None:
    """Labels among accepted answers until a stream proves risk ≤ ε: in half of the cases, and in nine of ten.

    Parameters
    ----------
    epsilon, level : float
        The budget.
    errors, n : int
        Wrong answers among n accepted ones, at a threshold that was not chosen on them; what they leave open of the
        risk is averaged over, as in `labels.labels_assured`.
    seed : int
        Of the simulation.

    Returns
    -------
    tuple of int or None
        None where it is likelier than not that no number would do, or where one in ten needs over 20,000.
    """
    check_budget(epsilon, level)
    open_risks = betaincinv(errors + 0.5, n - errors + 0.5, (np.arange(RISKS) + 0.5) / RISKS)
    within = open_risks[open_risks < NEARLY * epsilon]
    if 2 * len(within) < RISKS:
        return None
    took = _simulated(np.repeat(within, _PATHS), epsilon, level, np.random.default_rng(seed))
    finished = np.sort(took)
    half, most = finished[len(took) // 2], finished[math.ceil(0.9 * len(took)) - 1]
    return None if not np.isfinite(most) else (int(half), int(most))


def _simulated(risks: FloatArray, epsilon: float, level: float, rng: np.random.Generator) -> FloatArray:
    """After how many labels each of the risks is proved, until nine in ten are; inf for the others."""
    took = np.full(len(risks), np.inf)
    wealth = np.zeros((len(risks), len(HOPED)))
    right, wrong = (_steps(np.array([x]), epsilon)[0] for x in (0.0, 1.0))
    for begun in range(0, MOST_STREAMED, _CHUNK):
        active = np.flatnonzero(~np.isfinite(took))
        if len(active) <= 0.1 * len(risks) - 1:
            break
        errors = np.cumsum(rng.random((len(active), _CHUNK)) < risks[active, None], axis=1)
        counts = np.arange(1, _CHUNK + 1) - errors
        paths = wealth[active, None] + errors[..., None] * wrong + counts[..., None] * right
        reached = _log_mean(paths) >= -math.log(level)
        done = reached.any(axis=1)
        took[active[done]] = begun + reached[done].argmax(axis=1) + 1
        wealth[active] = paths[:, -1]
    return took


def _steps(x: FloatArray, epsilon: float) -> FloatArray:
    """What every bet earns on each label, as logarithms, (n, bets)."""
    p = epsilon * np.array(HOPED)
    earned = x[:, None] * np.log(p / epsilon) + (1 - x[:, None]) * np.log((1 - p) / (1 - epsilon))
    return np.asarray(earned, dtype=np.float64)


def _log_mean(log_values: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp.reduce(log_values, axis=-1) - math.log(log_values.shape[-1]), dtype=np.float64)
