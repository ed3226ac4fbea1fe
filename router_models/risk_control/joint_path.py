"""Stage B's tests: how far along a path of configurations CERT allows one to go, in the whole or inside one slice.

`tuning.pareto_path` proposes, from TUNE alone, configurations by descending predicted risk; the anchored sequence of
`sequence` runs over them instead of over thresholds. Where abstention is allowed each test is of "risk ≥ ε or
P(abstain) ≥ a" (the larger of two p-values); a largest drop in quality against always-frontier joins the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_models.errors import DataError, NotCertifiedError, by_number
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.labels import labels_needed, p_value
from router_models.risk_control.ladder.tuning import Configuration, Escalation, always_top, pareto_path, predict
from router_models.risk_control.one_threshold.risk_and_drop import drop_p_value, likely_provable
from router_models.risk_control.sequence import ANCHORS, fixed_sequence, predicted_p_values, smoothed_risk
from router_models.types import BoolArray, FloatArray, IntArray

SOFT_LABELS_WORTH = 20
"""How many labelled answers the soft prediction of a configuration's risk counts for beside TUNE's labels."""

SURELY = 0.1
"""The share of the level under which a predicted p-value counts as one that will all but surely be small enough."""


_RISK, _SILENT, _DROP = "risk", "abstention", "drop"


class InfeasibleError(NotCertifiedError):
    """TUNE predicts that no number of labels would do."""


@dataclass(frozen=True, slots=True)
class PathBudget:
    """What must hold together at `level`: the risk ≤ `epsilon`, P(abstain) ≤ `abstain_share`, `max_drop`.

    An `abstain_share` of 0 allows no abstention, and so nothing is to be shown of it; None: no largest drop is asked.
    The risk is P(wrong | answered), with `harm` P(wrong and the last tier right | a tier below the last answered).
    `escalation`: where rejected answers go.
    """

    epsilon: float
    level: float
    abstain_share: float = 0.0
    max_drop: float | None = None
    harm: bool = False
    escalation: Escalation = "top"


@dataclass(frozen=True, slots=True)
class JointPath:
    """Stage B's tests, riskiest configuration first: CERT counts and p-values, the anchor, which were rejected.

    `answered` counts the answers that the risk is of, `wrong` those of them that count against it. The configurations
    carry what TUNE predicts of them where the path was followed: in the whole, or in one slice.
    """

    configurations: tuple[Configuration, ...]
    answered: IntArray
    wrong: IntArray
    abstained: IntArray
    p_values: FloatArray
    anchor: int
    rejected: BoolArray


def propose(tune: CascadeEvidence, n_cert: int, budget: PathBudget) -> tuple[Configuration, ...]:
    """Stage A: the path of configurations, none likely to abstain too often to be certified on `n_cert` prompts."""
    cap = _predicted_cap(budget.abstain_share, n_cert, budget.level)
    return pareto_path(tune, abstain_share=cap, harm=budget.harm, escalation=budget.escalation)


def run_path(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    *,
    epsilon: float,
    level: float,
    abstain_share: float = 0.0,
    max_drop: float | None = None,
    harm: bool = False,
    escalation: Escalation = "top",
) -> JointPath:
    """Stage A on TUNE, then the anchored sequence on CERT at `level`; NotCertifiedError where TUNE says never."""
    budget = PathBudget(epsilon, level, abstain_share, max_drop, harm, escalation)
    return follow(propose(tune, len(cert), budget), tune, cert, budget)


def follow(
    proposed: Sequence[Configuration],
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    budget: PathBudget,
    slice_name: str | None = None,
) -> JointPath:
    """The anchored sequence over a path that was fixed without CERT: anchor from `tune`, tests on `cert`.

    Both may be one slice of the data that the path was proposed for. In the whole the anchor is where TUNE predicts
    the smallest p-value; in a slice the safest configuration that it predicts to be certified all but surely, because
    one configuration has to serve all slices, and the sequences of easy and hard ones must overlap. Raises
    NotCertifiedError, before a CERT label is read, where TUNE says that nothing can be certified.
    """
    assert cert.right is not None
    where = "" if slice_name is None else f" in slice {slice_name!r}"
    configurations = tuple(predict(tune, c.thresholds, harm=budget.harm) for c in proposed)
    expected = expected_p_values(configurations, tune, len(cert), budget, where)
    sure = np.flatnonzero(expected <= SURELY * budget.level)
    anchor = int(sure[-1]) if slice_name is not None and len(sure) else _anchor(expected, budget.level)
    counted = _counted(cert, configurations, budget)
    answered, wrong, abstained = counted
    p = np.max(list(_p_values(cert, configurations, budget, counted).values()), axis=0)
    rejected = fixed_sequence(p, anchor, budget.level)
    return JointPath(configurations, answered, wrong, abstained, p, anchor, rejected)


def _anchor(expected: FloatArray, level: float) -> int:
    """Where to start: the best of `ANCHORS` places along the path, of all where none of those is likely to do.

    The best of a finer path's places is a luckier one, and no better (`sequence.ANCHORS`).
    """
    starts = np.unique(np.linspace(0, len(expected) - 1, ANCHORS).round().astype(np.int64))
    best = int(starts[np.argmin(expected[starts])])
    return best if expected[best] <= level else int(np.argmin(expected))


def nothing_rejected(
    path: JointPath, tune: CascadeEvidence, cert: CascadeEvidence, budget: PathBudget, slice_name: str | None = None
) -> NotCertifiedError:
    """Why a path on which nothing was rejected certifies nothing, with the labels missing.

    Told of the statement with the largest p-value at the anchor. No number is known for a largest drop.
    """
    c, where = path.configurations[path.anchor], "" if slice_name is None else f" in slice {slice_name!r}"
    counted = _counted(cert, (c,), budget)
    tested = {what: float(p[0]) for what, p in _p_values(cert, (c,), budget, counted).items()}
    failed = max(tested, key=lambda what: tested[what])
    n, k, total = int(path.answered[path.anchor]), int(path.wrong[path.anchor]), len(cert)
    silent = int(path.abstained[path.anchor])
    missing = None
    if failed == _RISK:
        least = min(_smoothed(k, n), predicted_risk(tune, c, harm=budget.harm))
        missing = _missing(budget.epsilon, least, budget.level, total, share=c.counted)
        told, asked = f"answered {n} of {total} CERT prompts, {k} of them wrong", f"ε = {budget.epsilon:g}"
        if budget.harm:
            told = f"kept {n} of {total} CERT prompts below {tune.tiers[-1]}, {k} of them wrong where it is right"
    elif failed == _SILENT:
        least = min(_smoothed(silent, total), c.abstain)
        missing = _missing(budget.abstain_share, least, budget.level, total)
        told, asked = f"abstained on {silent} of {total} CERT prompts", f"a share of {budget.abstain_share:g}"
    else:
        points = 100 * float(change(cert, c.thresholds).mean())
        told = f"changes the share right by {points:.1f} points on {total} CERT prompts"
        asked = f"a drop of {budget.max_drop:g}"
    if failed == _DROP:
        more = "allow a larger drop, or label more"
    elif missing is None:
        more = "no number of labels is predicted to do: better verifiers would, other tiers, or a larger ε"
    else:
        more = f"about {missing} more {by_number(missing, 'label is', 'labels are')} needed"
    return NotCertifiedError(
        f"no configuration certified{where}: the most promising {told} "
        f"(p = {tested[failed]:.3g} > {budget.level:.3g} for {asked}); {more}",
        missing,
    )


def counts(data: CascadeEvidence, thresholds: Thresholds, *, harm: bool = False) -> tuple[int, int, int]:
    """How many answers the risk is of, how many of those count against it, and how many prompts are abstained on.

    Answers of every tier and the wrong ones; with `harm` those of the tiers below the last, and the harmful ones.
    """
    assert data.right is not None
    replayed = replay_policy(data, thresholds)
    silent = int(replayed.abstained.sum())
    if harm:
        return int(replayed.accepted.sum()), int(replayed.harmed(data.right).sum()), silent
    return len(data) - silent, int(replayed.wrong(data.right).sum()), silent


def change(data: CascadeEvidence, thresholds: Thresholds) -> FloatArray:
    """Right less right under always-top, (n,) in {-1, 0, 1}; what is abstained on counts as not right."""
    assert data.right is not None
    replayed = replay_policy(data, thresholds)
    right = ~replayed.abstained & ~replayed.wrong(data.right)
    return np.asarray(right.astype(np.float64) - data.right[:, -1], dtype=np.float64)


def _counted(cert: CascadeEvidence, configurations: Sequence[Configuration], budget: PathBudget) -> IntArray:
    """`counts` at every configuration, (3, configurations)."""
    return np.array([counts(cert, c.thresholds, harm=budget.harm) for c in configurations]).T


def _p_values(
    cert: CascadeEvidence, configurations: Sequence[Configuration], budget: PathBudget, counted: IntArray
) -> dict[str, FloatArray]:
    """Of each statement that is to be shown, the p-value of its contrary at each configuration, as counted."""
    answered, wrong, silent = counted
    tested = {_RISK: p_value(wrong, answered, budget.epsilon)}
    if budget.abstain_share > 0:
        tested[_SILENT] = p_value(silent, np.full(len(answered), len(cert)), budget.abstain_share)
    if budget.max_drop is not None:
        moved = (change(cert, c.thresholds) for c in configurations)
        tested[_DROP] = np.array([drop_p_value(m, budget.max_drop) for m in moved])
    return tested


def _missing(bound: float, true_share: float, level: float, n_cert: int, share: float = 1.0) -> int | None:
    """CERT prompts missing to show `bound` of the `share` of them that counts; None where no number would do."""
    needed = labels_needed(bound, true_share, level)
    return None if needed is None else max(int(np.ceil(needed / max(share, 1e-9))) - n_cert, 1)


def _smoothed(errors: int, n: int) -> float:
    return float(smoothed_risk(np.array([n]), np.array([errors]))[0])


def predicted_risk(tune: CascadeEvidence, configuration: Configuration, *, harm: bool = False) -> float:
    """Soft labels' risk, corrected by TUNE's own labels where there are any."""
    if tune.right is None:
        return configuration.risk
    answered, wrong, _ = counts(tune, configuration.thresholds, harm=harm)
    return (wrong + SOFT_LABELS_WORTH * configuration.risk) / (answered + SOFT_LABELS_WORTH)


def expected_p_values(
    configurations: Sequence[Configuration], tune: CascadeEvidence, n_cert: int, budget: PathBudget, where: str
) -> FloatArray:
    """The p-values that TUNE predicts on `n_cert` prompts; NotCertifiedError where it predicts none that would do."""
    risk = np.array([predicted_risk(tune, c, harm=budget.harm) for c in configurations])
    silent, counted = (np.array([getattr(c, name) for c in configurations]) for name in ("abstain", "counted"))
    if budget.harm and risk[counted > 0].min(initial=1.0) >= budget.epsilon:
        raise InfeasibleError(
            f"infeasible{where}: of what the safest thresholds found on TUNE keep below {tune.tiers[-1]}, "
            f"{risk[counted > 0].min(initial=1.0):.1%} is wrong where it is right, and ε = {budget.epsilon:g}. More "
            "labels would not help: better verifiers would, other tiers, or a larger ε."
        )
    if risk.min() >= budget.epsilon:
        top = predicted_risk(tune, predict(tune, always_top(len(tune.tiers))))
        raise InfeasibleError(
            f"infeasible{where}: the safest thresholds found on TUNE still err on {risk.min():.1%} of what they "
            f"answer (always {tune.tiers[-1]}: {top:.1%}), and ε = {budget.epsilon:g}. More labels would not help: "
            f"allow more abstention (now {budget.abstain_share:.0%}), use a better top tier, or a larger ε."
        )
    expected = predicted_p_values(counted * n_cert, risk, budget.epsilon)
    if budget.abstain_share > 0:
        all_ = np.full(len(silent), float(n_cert))
        expected = np.maximum(expected, predicted_p_values(all_, silent, budget.abstain_share))
    if budget.max_drop is not None:
        if tune.right is None:
            raise DataError("to promise a largest drop TUNE must carry labels")
        changes = np.stack([change(tune, c.thresholds) for c in configurations])
        provable = likely_provable(changes, budget.max_drop, n_cert)
        if not provable.any():
            raise NotCertifiedError(
                f"no configuration is likely to be proved{where} to lower the share right by less than "
                f"{budget.max_drop:g} on {n_cert} CERT prompts: allow a larger drop, or label more"
            )
        expected = np.where(provable, expected, np.inf)
    return expected


def _predicted_cap(abstain_share: float, n: int, level: float) -> float:
    """The share of abstentions to aim at, so that P(abstain) ≤ a will very likely be certified on n prompts."""
    if abstain_share == 0:
        return 0.0
    shares = np.linspace(0, abstain_share, 101)
    likely = predicted_p_values(np.full(101, float(n)), shares, abstain_share) <= SURELY * level
    return float(shares[likely].max()) if likely.any() else 0.0
