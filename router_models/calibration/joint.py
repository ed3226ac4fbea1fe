"""Stage B: certify a whole ladder of thresholds on the system's own risk, P(wrong | answered).

`tuning.pareto_path` proposes, from TUNE alone, a path of configurations by predicted risk; CERT decides how far along
it one may go: the anchored sequence of `sequence` over configurations instead of thresholds. Where abstention is
allowed each test is of "risk ≥ ε or P(abstain) ≥ a" (the larger of two p-values), so both promises hold together at δ;
a largest drop in quality against always-frontier joins them the same way, by the paired betting test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from router_models.calibration.certificate import (
    ABSTAIN_RISK,
    ANSWERED_RISK,
    Certificate,
    LabelSource,
    Promise,
    check_budget,
)
from router_models.calibration.labels import labels_needed, p_value
from router_models.calibration.ladder import Ladder, Thresholds, play
from router_models.calibration.paired import not_worse
from router_models.calibration.risk_and_drop import drop_p_value, likely_provable
from router_models.calibration.sequence import (
    fixed_sequence,
    predicted_p_values,
    smoothed_risk,
    spent_delta,
    upper_bound,
)
from router_models.calibration.tuning import Configuration, always_top, pareto_path, predict
from router_models.errors import DataError, NotCertifiedError
from router_models.types import BoolArray, FloatArray, IntArray, OperatingPoint

SOFT_LABELS_WORTH = 20
"""How many labelled answers the soft prediction of a configuration's risk counts for beside TUNE's labels."""


@dataclass(frozen=True, slots=True)
class JointPath:
    """Stage B's tests, riskiest configuration first: CERT counts and p-values, the anchor, which were rejected."""

    configurations: tuple[Configuration, ...]
    answered: IntArray
    wrong: IntArray
    abstained: IntArray
    p_values: FloatArray
    anchor: int
    rejected: BoolArray


@dataclass(frozen=True, slots=True)
class JointPolicy:
    """The cheapest certified configuration: `points` for `policy.Policy`, its proof, and the path it was found on."""

    points: Mapping[str, OperatingPoint]
    chosen: Configuration
    certificate: Certificate
    path: JointPath


def certify_joint(
    tune: Ladder,
    cert: Ladder,
    *,
    epsilon: float,
    delta: float,
    binds: Mapping[str, str],
    label_source: LabelSource | str,
    made_at: datetime,
    expires_at: datetime,
    abstain_share: float = 0.0,
    max_drop: float | None = None,
    round: int = 0,
) -> JointPolicy:
    """Find the cheapest thresholds of a ladder with P(wrong | answered) ≤ ε and P(abstain) ≤ a, at confidence 1 - δ.

    With `max_drop` also: the share right (an abstention is not right) falls below always-top's by less than that.
    `tune` may be unlabelled where no largest drop is asked for; `cert` must carry labels for every tier, is read once,
    and must share no prompt with it. Raises NotCertifiedError with the reason and the labels missing; DataError for
    unusable input.
    """
    check_budget(epsilon, delta)
    if tune.tiers != cert.tiers:
        raise DataError(f"TUNE is about {tune.tiers}, CERT about {cert.tiers}")
    if cert.right is None:
        raise DataError("CERT carries no labels")
    if not 0 <= abstain_share < 1:
        raise DataError(f"abstain_share must lie in [0, 1), got {abstain_share!r}")
    level = spent_delta(delta, round)
    if max_drop is not None:
        check_budget(max_drop, delta)
    path = run_path(tune, cert, epsilon=epsilon, level=level, abstain_share=abstain_share, max_drop=max_drop)
    if not path.rejected.any():
        raise _nothing_certified(path, tune, len(cert), epsilon, level)
    costs = np.array([c.cost_usd for c in path.configurations])
    j = int(np.argmin(np.where(path.rejected, costs, np.inf)))
    chosen = path.configurations[j]
    n, k, silent = int(path.answered[j]), int(path.wrong[j]), int(path.abstained[j])
    abstention = Promise(
        ABSTAIN_RISK, abstain_share, level, len(cert), silent, upper_bound(silent, len(cert), level), -np.inf
    )
    certificate = Certificate(
        what=ANSWERED_RISK,
        epsilon=epsilon,
        delta=delta,
        level=level,
        n=len(cert),
        accepted_n=n,
        errors=k,
        upper=upper_bound(k, n, level),
        threshold=None,
        label_source=LabelSource(label_source),
        made_at=made_at,
        expires_at=expires_at,
        binds=dict(binds),
        round=round,
        also=(*((abstention,) if abstain_share > 0 else ()), *_drop_promise(cert, chosen, max_drop, level)),
        settings=chosen.thresholds.named(tune.tiers),
    )
    return JointPolicy(chosen.thresholds.points(tune.tiers), chosen, certificate, path)


def run_path(
    tune: Ladder,
    cert: Ladder,
    *,
    epsilon: float,
    level: float,
    abstain_share: float = 0.0,
    max_drop: float | None = None,
) -> JointPath:
    """Stage A on TUNE, then the anchored sequence on CERT at `level`; NotCertifiedError where TUNE says never."""
    assert cert.right is not None
    cap = _predicted_cap(abstain_share, len(cert), level)
    configurations = pareto_path(tune, abstain_share=cap)
    risk = np.array([_predicted_risk(tune, c) for c in configurations])
    silent = np.array([c.abstain for c in configurations])
    if risk.min() >= epsilon:
        top = _predicted_risk(tune, predict(tune, always_top(len(tune.tiers))))
        raise NotCertifiedError(
            f"infeasible: the safest thresholds found on TUNE still err on {risk.min():.1%} of what they answer "
            f"(always {tune.tiers[-1]}: {top:.1%}), and ε = {epsilon:g}. More labels would not help: allow more "
            f"abstention (now {abstain_share:.0%}), use a better top tier, or a larger ε."
        )
    expected = predicted_p_values((1 - silent) * len(cert), risk, epsilon)
    if abstain_share > 0:
        expected = np.maximum(
            expected, predicted_p_values(np.full(len(silent), float(len(cert))), silent, abstain_share)
        )
    if max_drop is not None:
        if tune.right is None:
            raise DataError("to promise a largest drop TUNE must carry labels")
        provable = likely_provable(np.stack([_change(tune, c) for c in configurations]), max_drop, len(cert))
        if not provable.any():
            raise NotCertifiedError(
                f"no configuration is likely to be proved to lower the share right by less than {max_drop:g} on "
                f"{len(cert)} CERT prompts: allow a larger drop, or label more"
            )
        expected = np.where(provable, expected, np.inf)
    anchor = int(np.argmin(expected))
    answered, wrong = np.array([_counts(cert, c.thresholds) for c in configurations]).T
    abstained = len(cert) - answered
    p = p_value(wrong, answered, epsilon)
    if abstain_share > 0:
        p = np.maximum(p, p_value(abstained, np.full(len(p), len(cert)), abstain_share))
    if max_drop is not None:
        p = np.maximum(p, [drop_p_value(_change(cert, c), max_drop) for c in configurations])
    rejected = fixed_sequence(p, anchor, level)
    return JointPath(configurations, answered, wrong, abstained, p, anchor, rejected)


def _counts(data: Ladder, thresholds: Thresholds) -> tuple[int, int]:
    """How many are answered, and how many of those wrong."""
    assert data.right is not None
    played = play(data, thresholds)
    return int((~played.abstained).sum()), int(played.wrong(data.right).sum())


def _change(data: Ladder, configuration: Configuration) -> FloatArray:
    """Right less right under always-top, (n,) in {-1, 0, 1}; what is abstained on counts as not right."""
    assert data.right is not None
    played = play(data, configuration.thresholds)
    right = ~played.abstained & ~played.wrong(data.right)
    return np.asarray(right.astype(np.float64) - data.right[:, -1], dtype=np.float64)


def _drop_promise(cert: Ladder, chosen: Configuration, max_drop: float | None, level: float) -> tuple[Promise, ...]:
    if max_drop is None:
        return ()
    change = _change(cert, chosen)
    return (not_worse(change.clip(0, 1), (-change).clip(0, 1), margin=max_drop, delta=level).promise(),)


def _predicted_risk(tune: Ladder, configuration: Configuration) -> float:
    """Soft labels' risk, corrected by TUNE's own labels where there are any."""
    if tune.right is None:
        return configuration.risk
    answered, wrong = _counts(tune, configuration.thresholds)
    return (wrong + SOFT_LABELS_WORTH * configuration.risk) / (answered + SOFT_LABELS_WORTH)


def _predicted_cap(abstain_share: float, n: int, level: float) -> float:
    """The share of abstentions to aim at, so that P(abstain) ≤ a will very likely be certified on n prompts."""
    if abstain_share == 0:
        return 0.0
    shares = np.linspace(0, abstain_share, 101)
    likely = predicted_p_values(np.full(101, float(n)), shares, abstain_share) <= level / 10
    return float(shares[likely].max()) if likely.any() else 0.0


def _nothing_certified(path: JointPath, tune: Ladder, n_cert: int, epsilon: float, level: float) -> NotCertifiedError:
    j = path.anchor
    n, k = int(path.answered[j]), int(path.wrong[j])
    c = path.configurations[j]
    risk = float(smoothed_risk(np.array([n]), np.array([k]))[0])
    needed = labels_needed(epsilon, min(risk, _predicted_risk(tune, c)), level)
    missing = None if needed is None else max(int(np.ceil(needed / max(1 - c.abstain, 1e-9))) - n_cert, 1)
    more = "no number of labels is predicted to do" if missing is None else f"about {missing} more labels are needed"
    return NotCertifiedError(
        f"no configuration certified: the most promising answered {n} of {n_cert} CERT prompts, {k} of them wrong "
        f"(p = {path.p_values[j]:.3g} > {level:.3g} for ε = {epsilon:g}); {more}",
        missing,
    )
