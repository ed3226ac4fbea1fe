"""One threshold under an error budget: from TUNE and CERT labels to a Certificate, or to the reason why not.

The test itself is in `sequence`. Decided here: feasibility before a CERT label is read, slices, which of the certified
thresholds to deploy, and what to say when there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError, NotCertifiedError, by_number
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, HARM
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.labels import labels_guess, labels_needed
from router_models.risk_control.sequence import (
    Labelled,
    Path,
    anchored_path,
    anchors,
    counts_at,
    feasible_share,
    quantile_grid,
    smoothed_risk,
    upper_bound,
)
from router_models.types import FloatArray

WHOLE = ""
"""The name of the only family where no slices are given."""


def certify_threshold(
    tune: Labelled,
    cert: Labelled,
    terms: CertificateTerms,
    *,
    what: str = ACCEPTED_RISK,
    grid: ArrayLike | None = None,
    utility: ArrayLike | None = None,
    common_threshold: bool = True,
) -> Certificate:
    """Find the threshold of greatest utility whose risk P(wrong | score ≥ threshold) ≤ ε holds with confidence 1 - δ.

    With slice names on both sides each of the G slices is tested at δ/G and every certified slice keeps the promise by
    itself; a slice without proof gets the threshold +inf.

    Parameters
    ----------
    tune, cert : Labelled
        They must share no prompt. Thresholds are chosen on TUNE; CERT is read here and nowhere else.
    terms : CertificateTerms
        ε, δ and what else the certificate states.
    what : str
        The risk's name in the certificate.
    grid : array-like of float, optional
        Thresholds to try, ascending and distinct; default: quantiles of TUNE's scores.
    utility : array-like of float, optional
        One number per threshold of `grid`; default: the share accepted on TUNE.
    common_threshold : bool
        Whether one threshold serves all certified slices, or each has its own.

    Returns
    -------
    Certificate
        With the threshold, the counts and the bound.

    Raises
    ------
    NotCertifiedError
        With the reason and, where it helps, the number of further CERT labels.
    DataError
        For unusable input.
    """
    if len(tune) == 0 or len(cert) == 0:
        raise DataError(f"certification needs TUNE and CERT labels, got {len(tune)} and {len(cert)}")
    thresholds = quantile_grid(tune.scores) if grid is None else np.asarray(grid, dtype=np.float64)
    worth = _utility(utility, thresholds, tune)
    families = _families(tune, cert)
    each = terms.level / len(families)

    paths: dict[str, Path] = {}
    reasons: dict[str, NotCertifiedError] = {}
    for name, (part_tune, part_cert) in families.items():
        try:
            paths[name] = _certified_path(part_tune, part_cert, thresholds, terms.epsilon, each, name, what)
        except NotCertifiedError as error:
            reasons[name] = error
    if not paths:
        raise _together(list(reasons.values()))

    chosen = _choose(paths, worth, common=common_threshold)
    promises = {name: _promise(what, terms.epsilon, each, paths.get(name), chosen.get(name)) for name in families}
    deployed = {p.threshold for p in promises.values() if p.certified}
    return terms.issue(
        what,
        n=len(cert),
        accepted_n=sum(p.trials for p in promises.values()),
        errors=sum(p.errors for p in promises.values()),
        threshold=deployed.pop() if common_threshold else None,
        slices={} if cert.slices is None else promises,
    )


def check_threshold(
    tune: Labelled, cert_slices: Sequence[str], terms: CertificateTerms, *, what: str = ACCEPTED_RISK
) -> None:
    """Raise NotCertifiedError where TUNE and the number of CERT answers already say that `certify_threshold` will.

    Reads no CERT label: `cert_slices` holds the slice of every CERT answer, `WHOLE` where there are no slices.
    """
    if len(tune) == 0 or len(cert_slices) == 0:
        raise DataError(f"certification needs TUNE and CERT labels, got {len(tune)} and {len(cert_slices)}")
    thresholds = quantile_grid(tune.scores)
    names = sorted({*(tune.slices or (WHOLE,)), *cert_slices})
    reasons = []
    for name in names:
        part = tune if name == WHOLE else tune.only(name)
        where = f" in slice {name!r}" if name != WHOLE else ""
        n_cert, level = sum(other == name for other in cert_slices), terms.level / len(names)
        try:
            check_feasible(part, n_cert, thresholds, epsilon=terms.epsilon, level=level, where=where, what=what)
        except NotCertifiedError as error:
            reasons.append(error)
    if len(reasons) == len(names):
        raise _together(reasons)


def _together(reasons: Sequence[NotCertifiedError]) -> NotCertifiedError:
    missing = [error.labels_missing for error in reasons if error.labels_missing is not None]
    return NotCertifiedError("; ".join(error.reason for error in reasons), min(missing) if missing else None)


def _certified_path(
    tune: Labelled, cert: Labelled, thresholds: FloatArray, epsilon: float, level: float, name: str, what: str
) -> Path:
    """One family's sequence with at least one threshold certified; else NotCertifiedError."""
    where = f" in slice {name!r}" if name != WHOLE else ""
    check_feasible(tune, len(cert), thresholds, epsilon=epsilon, level=level, where=where, what=what)
    path = anchored_path(tune, cert, thresholds, epsilon=epsilon, level=level)
    if path.rejected.any():
        return path
    j = path.anchor
    # The plan for the next look may use both samples: only the test had to be fixed before CERT was read.
    starts = anchors(thresholds, tune.scores)
    risk = smoothed_risk(path.tuned + path.accepted, path.tuned_wrong + path.errors)[starts]
    missing = labels_missing(risk, path.tuned[starts] / len(tune), len(cert), epsilon=epsilon, level=level)
    more = "" if missing is None else f"about {missing} more {by_number(missing, 'label is', 'labels are')} needed"
    if missing is None:
        more = "no number of labels is predicted to do: a better verifier would, another pair of tiers, or a larger ε"
    raise NotCertifiedError(
        f"no threshold certified{where}: at {path.thresholds[j]:.4g}, the most promising, {path.errors[j]} of "
        f"{path.accepted[j]} accepted CERT answers are {marked(what)} (p = {path.p_values[j]:.3g} > {level:.3g} "
        f"for ε = {epsilon:g}); {more}",
        missing,
    )


def marked(what: str) -> str:
    """What is said of the answers that count against a promise."""
    return "wrong where the last tier's is right" if HARM in what else "wrong"


def check_feasible(
    tune: Labelled,
    n_cert: int,
    thresholds: FloatArray,
    *,
    epsilon: float,
    level: float,
    where: str = "",
    what: str = ACCEPTED_RISK,
) -> None:
    """Raise NotCertifiedError before any CERT label is read, where TUNE already says that nothing can be certified.

    With base error μ > ε no score accepts more than (1 - μ)/(1 - ε); where the best threshold on TUNE still errs ε or
    more, labels do not help; where CERT is smaller than the least number that could certify, they do.
    """
    least = labels_needed(epsilon, 0.0, level)
    if len(tune) == 0 or n_cert == 0:
        raise NotCertifiedError(f"no TUNE or no CERT labels{where}: nothing can be promised there", least)
    base = float(tune.wrong.mean())
    ceiling = (
        f"accepting everything is {marked(what)} {base:.1%} of the time{where}, so at ε = {epsilon:g} no score could "
        f"accept more than {feasible_share(base, epsilon):.0%}"
    )
    accepted, wrong = counts_at(thresholds[anchors(thresholds, tune.scores)], tune)
    risk = np.where(accepted > 0, wrong / np.maximum(accepted, 1), 1.0)
    best = int(np.argmin(risk))
    if risk[best] >= epsilon:
        raise NotCertifiedError(
            f"infeasible: {ceiling}, and of the {accepted[best]} of {len(tune)} answers that the best threshold on "
            f"TUNE accepts {risk[best]:.1%} still are. More labels would not help: a verifier, or a router where it "
            f"decides alone, that separates right from wrong better would, or an ε above {risk[best]:.2g}, or another "
            "pair of tiers."
        )
    if least is not None and n_cert < least:
        risk, share = smoothed_risk(accepted, wrong), accepted / len(tune)
        missing = labels_missing(risk, share, n_cert, epsilon=epsilon, level=level)
        raise NotCertifiedError(
            f"too few labels{where}: even without a single error, ε = {epsilon:g} at level {level:.3g} needs {least} "
            f"accepted answers and CERT holds {n_cert} answers to accept from; {ceiling}.",
            least - n_cert if missing is None else missing,  # TUNE is too small to say more: without an error, so many
        )


def labels_missing(risk: FloatArray, share: FloatArray, n_cert: int, *, epsilon: float, level: float) -> int | None:
    """Further CERT labels until the threshold cheapest to certify succeeds nine times in ten, by TUNE's figures.

    None where no threshold's `risk` lies clearly (5 %) below ε.
    """
    guess = labels_guess(epsilon, risk, level) / np.maximum(share, 1e-12)
    guess = np.where((risk < 0.95 * epsilon) & (share > 0), guess, np.inf)
    j = int(np.argmin(guess))
    among_accepted = labels_needed(epsilon, float(risk[j]), level) if np.isfinite(guess[j]) else None
    return None if among_accepted is None else max(int(np.ceil(among_accepted / share[j])) - n_cert, 1)


def _families(tune: Labelled, cert: Labelled) -> dict[str, tuple[Labelled, Labelled]]:
    if (tune.slices is None) != (cert.slices is None):
        raise DataError("slice names must be given for both TUNE and CERT or for neither")
    if tune.slices is None or cert.slices is None:
        return {WHOLE: (tune, cert)}
    return {name: (tune.only(name), cert.only(name)) for name in sorted({*tune.slices, *cert.slices})}


def _utility(utility: ArrayLike | None, thresholds: FloatArray, tune: Labelled) -> FloatArray:
    if thresholds.ndim != 1 or not (np.diff(thresholds) > 0).all():
        raise DataError("the threshold grid must be ascending and distinct")
    if utility is None:
        return counts_at(thresholds, tune)[0].astype(np.float64)
    worth = np.asarray(utility, dtype=np.float64)
    if worth.shape != thresholds.shape or not np.isfinite(worth).all():
        raise DataError(f"utility needs one finite number for each of {len(thresholds)} thresholds, got {worth.shape}")
    return worth


def _choose(paths: Mapping[str, Path], worth: FloatArray, *, common: bool) -> dict[str, int]:
    """The index of the threshold to deploy for each family, among the rejected ones.

    Alone, or each for itself: the greatest utility. In common: the threshold at which the families certified there
    accept most of TUNE together (utility decides between equals); the other families drop out.
    """
    if not common or len(paths) == 1:
        return {name: int(np.argmax(np.where(p.rejected, worth, -np.inf))) for name, p in paths.items()}
    together = sum(p.rejected * p.tuned for p in paths.values())
    j = int(np.lexsort((worth, np.asarray(together)))[-1])
    return {name: j for name, p in paths.items() if p.rejected[j]}


def _promise(what: str, epsilon: float, level: float, path: Path | None, j: int | None) -> Promise:
    if path is None or j is None:
        return Promise(what, epsilon, level, 0, 0, 1.0)
    n, k = int(path.accepted[j]), int(path.errors[j])
    return Promise(what, epsilon, level, n, k, upper_bound(k, n, level), float(path.thresholds[j]))
