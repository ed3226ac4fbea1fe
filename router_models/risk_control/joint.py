"""Certify a whole ladder of thresholds on the system's own risk, in the whole or slice by slice.

The risk is P(wrong | answered), or the harm that answering below the last tier does: P(wrong and last tier right | a
tier below the last answered).

One configuration serves everywhere. With slices each of the G follows the same path on its own rows at δ/G, every
promised risk counted inside it; together the slices prove, with confidence 1 - δ, all that was rejected in any of
them, and so also whatever is chosen among it afterwards. A slice in which the deployed configuration was not rejected
has no promise: the top tier answers there (`evidence.replay_policy` with `covered`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ANSWERED_RISK, HARM_RISK, check_budget
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence, Thresholds
from router_models.risk_control.joint_path import (
    InfeasibleError,
    JointPath,
    PathBudget,
    change,
    counts,
    expected_p_values,
    follow,
    nothing_rejected,
    propose,
)
from router_models.risk_control.ladder.tuning import Configuration, Escalation, predict
from router_models.risk_control.paired import not_worse
from router_models.risk_control.sequence import upper_bound
from router_models.risk_control.thresholds import WHOLE
from router_models.types import OperatingPoint

Families = Mapping[str, tuple[CascadeEvidence, CascadeEvidence]]


@dataclass(frozen=True, slots=True)
class CertifiedPolicy:
    """Certified operating points with their proof, and how they were found.

    Parameters
    ----------
    points : mapping of str to OperatingPoint
        The thresholds of every tier, for `policy.Policy`.
    certificate : Certificate
        The proof; what depends on the finished version is still to be bound.
    chosen : Configuration, optional
        The configuration that saves most, where all thresholds were certified together; None: one was.
    paths : mapping of str to JointPath
        The tests of every slice that could be tested, `WHOLE` alone without slices; empty where one threshold was
        certified.
    refused : mapping of str to str
        Why each of the other slices, and of those in which the chosen configuration was not rejected, has no promise.
    """

    points: Mapping[str, OperatingPoint]
    certificate: Certificate
    chosen: Configuration | None = None
    paths: Mapping[str, JointPath] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def chain(self) -> bool:
        """Whether the thresholds are a chain's."""
        return self.chosen is not None and self.chosen.thresholds.chain


def certify_joint(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    terms: CertificateTerms,
    *,
    abstain_share: float = 0.0,
    max_drop: float | None = None,
    harm: bool = False,
    escalation: Escalation = "top",
) -> CertifiedPolicy:
    """Find the thresholds that save most with the risk ≤ ε and P(abstain) ≤ a, at confidence 1 - δ.

    With slice names on both sides all of it holds in every certified slice by itself.

    Parameters
    ----------
    tune : CascadeEvidence
        May be unlabelled where no largest drop is asked for.
    cert : CascadeEvidence
        Must carry labels for every tier; is read once, and must share no prompt with `tune`.
    terms : CertificateTerms
        ε, δ and what else the certificate states.
    abstain_share : float
        a; 0 forbids abstention.
    max_drop : float, optional
        The share right (an abstention is not right) also falls below always-top's by less than this; None: not
        promised.
    harm : bool
        Whether the risk is that of answers below the last tier which are wrong where the last tier's is right.
    escalation : {"top", "next"}
        Where rejected answers go.

    Raises
    ------
    NotCertifiedError
        With the reason and the labels missing.
    DataError
        For unusable input.
    """
    if tune.tiers != cert.tiers:
        raise DataError(f"TUNE is about {tune.tiers}, CERT about {cert.tiers}")
    if cert.right is None:
        raise DataError("CERT carries no labels")
    if not 0 <= abstain_share < 1:
        raise DataError(f"abstain_share must lie in [0, 1), got {abstain_share!r}")
    if max_drop is not None:
        check_budget(max_drop, terms.delta)
    families = _families(tune, cert)
    level = terms.level / len(families)
    budget = PathBudget(terms.epsilon, level, abstain_share, max_drop, harm, escalation)
    proposed = propose(tune, len(cert) // len(families), budget)
    paths, refusals = _follow_all(proposed, families, budget)
    if not any(path.rejected.any() for path in paths.values()):
        raise _none_certified(refusals)
    j = _saves_most(paths, families)
    chosen = proposed[j]
    held = {name for name, path in paths.items() if path.rejected[j]}
    promises = {name: _promise(families[name][1], chosen.thresholds, budget, name in held) for name in families}
    rows = np.array([True] * len(cert) if cert.slices is None else [s in held for s in cert.slices], dtype=np.bool_)
    whole = _promise(cert.take(rows), chosen.thresholds, replace(budget, level=terms.level), held=True)
    certificate = terms.issue(
        HARM_RISK if harm else ANSWERED_RISK,
        n=len(cert),
        accepted_n=whole.trials,
        errors=whole.errors,
        threshold=None,
        slices={} if cert.slices is None else promises,
        also=whole.also,
        settings=chosen.thresholds.named(tune.tiers),
    )
    refused = {
        name: refusals[name].reason if name in refusals else _left_out(paths[name], j, name)
        for name in families
        if name not in held
    }
    return CertifiedPolicy(chosen.thresholds.points(tune.tiers), certificate, chosen, paths, refused)


def check_joint(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    terms: CertificateTerms,
    *,
    abstain_share: float = 0.0,
    max_drop: float | None = None,
    harm: bool = False,
    escalation: Escalation = "top",
) -> None:
    """Raise NotCertifiedError where TUNE and the number of CERT prompts already say that `certify_joint` will.

    Reads no CERT label.
    """
    families = _families(tune, cert)
    level = terms.level / len(families)
    budget = PathBudget(terms.epsilon, level, abstain_share, max_drop, harm, escalation)
    proposed = propose(tune, len(cert) // len(families), budget)
    refusals: dict[str, NotCertifiedError] = {}
    for name, (known, fresh) in families.items():
        if len(known) == 0 or len(fresh) == 0:
            refusals[name] = _lacking(known, name)
            continue
        where = "" if name == WHOLE else f" in slice {name!r}"
        try:
            expected_p_values(
                tuple(predict(known, c.thresholds, harm=harm) for c in proposed), known, len(fresh), budget, where
            )
        except NotCertifiedError as error:
            refusals[name] = error
    if len(refusals) == len(families):
        raise _none_certified(refusals)


def _lacking(tune: CascadeEvidence, name: str) -> NotCertifiedError:
    lacking = "TUNE" if len(tune) == 0 else "CERT"
    return NotCertifiedError(f"no {lacking} prompts in slice {name!r}: collect prompts of it")


def _families(tune: CascadeEvidence, cert: CascadeEvidence) -> Families:
    """TUNE and CERT rows of every slice that either has; neither labels nor estimates decide how many there are."""
    if (tune.slices is None) != (cert.slices is None):
        raise DataError("slice names must be given for both TUNE and CERT or for neither")
    if tune.slices is None or cert.slices is None:
        return {WHOLE: (tune, cert)}
    return {name: (tune.only(name), cert.only(name)) for name in sorted({*tune.slices, *cert.slices})}


def _follow_all(
    proposed: tuple[Configuration, ...], families: Families, budget: PathBudget
) -> tuple[dict[str, JointPath], dict[str, NotCertifiedError]]:
    """Every family's tests, and why nothing was rejected in the others."""
    paths: dict[str, JointPath] = {}
    refusals: dict[str, NotCertifiedError] = {}
    for name, (tune, cert) in families.items():
        slice_name = None if name == WHOLE else name
        if len(tune) == 0 or len(cert) == 0:
            refusals[name] = _lacking(tune, name)
            continue
        try:
            paths[name] = follow(proposed, tune, cert, budget, slice_name)
        except NotCertifiedError as error:
            refusals[name] = error
            continue
        if not paths[name].rejected.any():
            refusals[name] = nothing_rejected(paths[name], tune, cert, budget, slice_name)
    return paths, refusals


def _saves_most(paths: Mapping[str, JointPath], families: Families) -> int:
    """The configuration that TUNE predicts to save most beside always-top, in the slices in which it was rejected.

    Between equals the one of more slices, then the riskiest. At least one must have been rejected somewhere.
    """
    saved: list[float] = []
    slices: list[int] = []
    for j in range(len(next(iter(paths.values())).rejected)):
        held = [name for name, path in paths.items() if path.rejected[j]]
        tunes = {name: families[name][0] for name in held}
        saves = {name: tunes[name].cost_usd[:, -1].mean() - paths[name].configurations[j].cost_usd for name in held}
        saved.append(sum(len(tunes[name]) * saves[name] for name in held) if held else -np.inf)
        slices.append(len(held))
    return max(range(len(saved)), key=lambda j: (slices[j] > 0, saved[j], slices[j], -j))


def _promise(cert: CascadeEvidence, thresholds: Thresholds, budget: PathBudget, held: bool) -> Promise:
    """What CERT rows show of the deployed thresholds, where they are certified; else that nothing is promised."""
    what = HARM_RISK if budget.harm else ANSWERED_RISK
    if not held:
        return Promise(what, budget.epsilon, budget.level, 0, 0, 1.0)
    level, (n, k, silent), also = budget.level, counts(cert, thresholds, harm=budget.harm), []
    if budget.abstain_share > 0:
        bound = upper_bound(silent, len(cert), level)
        also.append(Promise(ABSTAIN_RISK, budget.abstain_share, level, len(cert), silent, bound, -np.inf))
    if budget.max_drop is not None:
        moved = change(cert, thresholds)
        shown = not_worse(moved.clip(0, 1), (-moved).clip(0, 1), margin=budget.max_drop, delta=level)
        also.append(replace(shown.promise(), threshold=-np.inf))  # for the whole it follows from the slices
    return Promise(what, budget.epsilon, level, n, k, upper_bound(k, n, level), -np.inf, tuple(also))


def _left_out(path: JointPath, j: int, name: str) -> str:
    """Why a slice has no promise of the configuration that was chosen, though of another it would have."""
    n, k, p = int(path.answered[j]), int(path.wrong[j]), path.p_values[j]
    return (
        f"other thresholds were certified in slice {name!r}; those that save most on the whole were not: "
        f"{k} of {n} answers wrong (p = {p:.3g})"
    )


def _none_certified(refusals: Mapping[str, NotCertifiedError]) -> NotCertifiedError:
    """The refusal of the whole: with slices, which of them came nearest, and the labels missing there."""
    if set(refusals) == {WHOLE}:
        return refusals[WHOLE]
    near = {name: error.labels_missing for name, error in refusals.items() if error.labels_missing is not None}
    if not near:
        told = "; ".join(error.reason for error in refusals.values())
        hopeless = all(isinstance(error, InfeasibleError) for error in refusals.values())
        helps = ", and no labels would help" if hopeless else ""
        return NotCertifiedError(f"none of {len(refusals)} slices certified{helps}: {told}")
    name = min(near, key=lambda n: near[n])
    return NotCertifiedError(
        f"none of {len(refusals)} slices certified; nearest came {name!r}: {refusals[name].reason}", near[name]
    )
