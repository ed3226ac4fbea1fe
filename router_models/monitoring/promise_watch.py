"""Watch a promise on labels that come in while it is served. Two tests, which control different things.

Both bet on marks x (1 = the risk happened, 0 = it did not) that it has risen, by L_k(x) = x·p_k/ε + (1-x)(1-p_k)/(1-ε)
for several p_k > ε. L_k is linear: while the mean of x is ε at most, whatever happened before, E[L_k] ≤ 1, also of
marks between 0 and 1, such as a judge's word in two orders that disagree.

- *drift*: an e-detector (Shin, Ramdas and Rinaldo 2022, arXiv:2203.03532), C ← max(C, 1)·L, averaged over k. At the
  limit A its average run length is A labels at least: how rarely it is wrong, not how probably.
- *revoked*: an e-process over changes at any label j, Σ_j w_j Π_{i≥j} L(x_i) with w_j = 1/(j(j+1)), averaged over k.
  Where the risk never exceeds ε it reaches 1/α with probability α at most, ever (Ville). Unlike the plain product from
  the first label on, it does not have to win back what many good labels cost.

A mark that is smaller than the truth (what is not known of it counted as 0) makes both later, never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from router_models.errors import DataError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import check_budget
from router_models.types import FloatArray
from router_models.types.label_sources import by_judge

RISES = (1.25, 1.5, 2.0, 3.0, 5.0)
"""The risks bet on, as multiples of ε, as far as they are risks."""
OVERALL, WRONG = "overall", "wrong answers"
AlarmKind = Literal["drift", "revoked"]


@dataclass(frozen=True, slots=True)
class WatchedPromise:
    """What of a certificate is watched.

    Parameters
    ----------
    epsilon : float
        The risk that was promised at most.
    harm : bool
        Whether a wrong answer counts only where the last tier's is right.
    slices : tuple of str
        The slices of which the same is promised each.
    judge : str, optional
        The judge with whom agreement was certified: only its labels say anything of it. None: people's and programs'.
    wrong_at_most : float, optional
        Of harm: a 95 % upper bound of the share of wrong answers that was measured with it. Nothing is promised of
        that, but it shows in labels that say nothing of the last tier. None: not watched.
    """

    epsilon: float
    harm: bool = False
    slices: tuple[str, ...] = ()
    judge: str | None = None
    wrong_at_most: float | None = None

    @classmethod
    def of(cls, certificate: Certificate) -> WatchedPromise:
        """What a certificate promises of the answers that it covers."""
        slices = tuple(sorted(name for name in certificate.slices if certificate.covers(name)))
        source, found = certificate.label_source, certificate.compared
        at_most = None
        if certificate.harm and found is not None and 0 < found.wrong < found.kept:
            at_most = float(betaincinv(found.wrong + 1, found.kept - found.wrong, 0.95))
        judge = source if by_judge(source) else None
        return cls(certificate.promised_risk, certificate.harm, slices, judge, at_most)

    def mark(self, right: bool, last_right: bool | None = None, slice_name: str | None = None) -> LabelMark:
        """What a label shows: the risk happened, or it did not, or that is not known, which counts as not.

        `last_right`: whether the last tier's answer is right, without which a wrong answer is not known to be harm.
        """
        return LabelMark(float(not right and (not self.harm or last_right is True)), float(not right), slice_name)


@dataclass(frozen=True, slots=True)
class LabelMark:
    """What one label shows: how far the promised risk happened, how far the answer is wrong, and the request's slice.

    Both 0 or 1, or between them where a judge's two orders disagree.
    """

    happened: float
    wrong: float
    slice_name: str | None = None


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """When an alarm is raised: `run_length` is A, `alpha` bounds P(a promise that holds is ever revoked).

    Both are of all scopes together. Slices share the labels of the whole, so that at 2A each the sum of all detectors
    grows by two a label at most; α is halved between the whole and the slices, which share theirs equally.
    """

    run_length: float = 10_000.0
    alpha: float = 0.05

    def detector_at(self, slices: int) -> float:
        """The limit of each detector."""
        return self.run_length * (2.0 if slices else 1.0)

    def e_value_at(self, scope: str, slices: int) -> float:
        """The limit of one scope's e-process."""
        parts = 1 if not slices else 2 if scope == OVERALL else 2 * slices
        return parts / self.alpha


@dataclass(frozen=True, slots=True)
class PromiseWatch:
    """The state of both tests on one stream of marks; `update` returns the next state.

    Parameters
    ----------
    epsilon : float
        The promised risk.
    n, errors : int
        Marks so far, and their sum.
    log_detectors, log_wealth : tuple of float
        ln of the detector and of the sum over changes so far, for each p_k.
    peak_detector, peak_e_value : float
        The greatest values so far: an alarm once earned stays earned.
    """

    epsilon: float
    n: int = 0
    errors: float = 0.0
    log_detectors: tuple[float, ...] = ()
    log_wealth: tuple[float, ...] = ()
    peak_detector: float = 0.0
    peak_e_value: float = 1.0

    def __post_init__(self) -> None:
        check_budget(self.epsilon, 0.5)

    def update(self, marks: ArrayLike) -> PromiseWatch:
        """Add marks in their order of arrival; DataError for anything outside 0 (it held) to 1 (the risk happened)."""
        x = np.atleast_1d(np.asarray(marks, dtype=np.float64))
        if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all():
            raise DataError("marks must lie between 0 (it held) and 1 (the risk happened)")
        bets = len(raised_risks(self.epsilon))
        detectors = np.array(self.log_detectors or [-np.inf] * bets)
        wealth = np.array(self.log_wealth or [-np.inf] * bets)
        peak_c, peak_e, n = self.peak_detector, self.peak_e_value, self.n
        for ratio in log_ratios(x, self.epsilon):
            n += 1
            detectors, wealth = next_detectors(detectors, ratio), next_wealth(wealth, ratio, n)
            peak_c = max(peak_c, float(detector_value(detectors)))
            peak_e = max(peak_e, float(e_value(wealth, n)))
        return replace(
            self,
            n=n,
            errors=self.errors + float(x.sum()),
            log_detectors=tuple(map(float, detectors)),
            log_wealth=tuple(map(float, wealth)),
            peak_detector=peak_c,
            peak_e_value=peak_e,
        )


@dataclass(frozen=True, slots=True)
class WatchFinding:
    """A limit that was reached: of which scope, on how many labels, and by how much.

    Parameters
    ----------
    scope : str
        `overall`, or a slice's name.
    kind : str
        `drift` or `revoked`.
    n, errors : int
        Labels that count, and those against the promise.
    value, limit : float
        The greatest value of the test, and the limit it has reached.
    bound : float
        The risk that the marks were held against.
    """

    scope: str
    kind: AlarmKind
    n: int
    errors: float
    value: float
    limit: float
    bound: float


def watch_promise(promise: WatchedPromise, marks: Iterable[LabelMark]) -> dict[str, PromiseWatch]:
    """Follow every scope of a promise.

    Parameters
    ----------
    promise : WatchedPromise
        What is promised.
    marks : iterable of LabelMark
        What each label shows, in the order in which labels came.

    Returns
    -------
    dict of str to PromiseWatch
        The state of each scope, `overall` first; `wrong answers` last, where these are watched.
    """
    streams: dict[str, list[float]] = {OVERALL: [], **{name: [] for name in promise.slices}}
    wrong: list[float] = []
    for mark in marks:
        streams[OVERALL].append(mark.happened)
        wrong.append(mark.wrong)
        if mark.slice_name in promise.slices:
            streams[str(mark.slice_name)].append(mark.happened)
    watched = {scope: PromiseWatch(promise.epsilon).update(x) for scope, x in streams.items()}
    if promise.wrong_at_most is not None:
        watched[WRONG] = PromiseWatch(promise.wrong_at_most).update(wrong)
    return watched


def findings_of(watched: Mapping[str, PromiseWatch], limits: WatchLimits) -> list[WatchFinding]:
    """Every limit that was reached, revocations first."""
    found = [
        WatchFinding(scope, kind, state.n, state.errors, value, limit, state.epsilon)
        for scope, state in watched.items()
        for kind, value, limit in tests_of(scope, state, watched, limits)
        if value >= limit
    ]
    return sorted(found, key=lambda finding: finding.kind != "revoked")


def tests_of(
    scope: str, state: PromiseWatch, watched: Mapping[str, PromiseWatch], limits: WatchLimits
) -> list[tuple[AlarmKind, float, float]]:
    """Every test of a scope: its kind, its greatest value and its limit. Of wrong answers nothing can be revoked."""
    if scope == WRONG:
        return [("drift", state.peak_detector, limits.detector_at(0))]
    slices = len(watched.keys() - {OVERALL, WRONG})
    return [
        ("revoked", state.peak_e_value, limits.e_value_at(scope, slices)),
        ("drift", state.peak_detector, limits.detector_at(slices)),
    ]


def raised_risks(epsilon: float) -> FloatArray:
    """The risks p_k that are bet on, (k,): multiples of ε, below 1."""
    most = 1 - (1 - epsilon) / 2
    return np.unique(np.minimum(epsilon * np.array(RISES), most))


def log_ratios(marks: ArrayLike, epsilon: float) -> FloatArray:
    """ln L_k(x) for marks of any shape, (…, k)."""
    p, x = raised_risks(epsilon), np.asarray(marks, dtype=np.float64)[..., None]
    return np.asarray(np.log(x * (p / epsilon) + (1 - x) * ((1 - p) / (1 - epsilon))), dtype=np.float64)


def next_detectors(log_detectors: FloatArray, log_ratio: FloatArray) -> FloatArray:
    """One step of the e-detectors, (…, k); -inf before the first."""
    return np.asarray(np.maximum(log_detectors, 0.0) + log_ratio, dtype=np.float64)


def next_wealth(log_wealth: FloatArray, log_ratio: FloatArray, n: int) -> FloatArray:
    """One step of the sums over changes, (…, k), at the nth label; -inf before the first."""
    return np.asarray(np.logaddexp(log_wealth, -math.log(n * (n + 1))) + log_ratio, dtype=np.float64)


def detector_value(log_detectors: FloatArray) -> FloatArray:
    """The averaged e-detector, (…)."""
    return np.asarray(np.exp(np.minimum(log_detectors, 700)).mean(axis=-1), dtype=np.float64)


def e_value(log_wealth: FloatArray, n: int) -> FloatArray:
    """The averaged e-process after n labels, (…): what is staked on later changes is still there, 1/(n+1)."""
    return np.asarray(np.exp(np.minimum(log_wealth, 700)).mean(axis=-1) + 1 / (n + 1), dtype=np.float64)
