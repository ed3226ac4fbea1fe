"""Certified pre-route: P(harm | routed cheap) ≤ ε of all answers to prompts that the router sends to the cheap tier.

Decided before generation, by the router's score alone: no verifier, no second call, and streams that begin at once.
The tests are those of one acceptance threshold (`thresholds`, or `risk_and_drop` with a largest drop) with the
router's score in place of the verifier's. Answers that break the shape their request declares are sent on by rule when
serving, as they are here: they belong to no threshold's answers.
"""

from __future__ import annotations

import numpy as np

from router_models.errors import DataError
from router_models.risk_control.certificates.risks import PRE_ROUTED_HARM, PRE_ROUTED_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.joint import CertifiedPolicy
from router_models.risk_control.one_threshold.risk_and_drop import Paired, certify_both, place_anchor
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import WHOLE, certify_threshold, check_threshold
from router_models.types import OperatingPoint


def certify_pre_route(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    terms: CertificateTerms,
    *,
    harm: bool = True,
    max_drop: float | None = None,
) -> CertifiedPolicy:
    """Find the lowest routing threshold at which all that is routed to the first of two tiers keeps the promise.

    Parameters
    ----------
    tune, cert : CascadeEvidence
        Evidence of the same two tiers that shares no prompt, both cut into slices or neither.
    terms : CertificateTerms
        ε, δ and what else the certificate states.
    harm : bool
        Whether the wrong answers that count are those where the last tier's is right; else every wrong one.
    max_drop : float, optional
        By how much fewer answers than always asking the last tier's may be right, in (0, 1); None: not promised.

    Returns
    -------
    CertifiedPolicy
        One point: tried from the threshold on, and accepted whatever the answer is.

    Raises
    ------
    NotCertifiedError
        With the reason and, where it helps, the number of labels missing.
    DataError
        For more than two tiers.
    """
    cheap, what = _check_pair(cert), PRE_ROUTED_HARM if harm else PRE_ROUTED_RISK
    if max_drop is None:
        certificate = certify_threshold(_scored(tune, harm=harm), _scored(cert, harm=harm), terms, what=what)
    else:
        pairs, fresh = _paired(tune, harm=harm), _paired(cert, harm=harm)
        both = certify_both(pairs, fresh, epsilon=terms.epsilon, max_drop=max_drop, level=terms.level)
        certificate = terms.issue(
            what,
            n=len(fresh.labelled()),
            accepted_n=both.accepted,
            errors=both.errors,
            threshold=both.threshold,
            also=(both.promise,),
        )
    assert certificate.threshold is not None, "slices are certified at one threshold in common"
    return CertifiedPolicy({cheap: OperatingPoint(certificate.threshold, -np.inf)}, certificate)


def check_pre_route(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    terms: CertificateTerms,
    *,
    harm: bool = True,
    max_drop: float | None = None,
) -> None:
    """Raise NotCertifiedError where TUNE and the number of CERT prompts already say that `certify_pre_route` will.

    Reads no CERT label. Parameters are those of `certify_pre_route`.
    """
    _check_pair(cert)
    if max_drop is not None:
        place_anchor(_paired(tune, harm=harm), len(cert), len(cert), epsilon=terms.epsilon, max_drop=max_drop)
        return
    what = PRE_ROUTED_HARM if harm else PRE_ROUTED_RISK
    check_threshold(_scored(tune, harm=harm), cert.slices or (WHOLE,) * len(cert), terms, what=what)


def _scored(seen: CascadeEvidence, *, harm: bool) -> Labelled:
    """The router's score of every prompt, and whether the first tier's answer counts against the promise."""
    kept = seen if seen.faulty is None else seen.take(~seen.faulty[:, 0])
    marked = kept.harm[:, 0] if harm else 1.0 - kept.grades[:, 0]
    return Labelled.of(kept.p_route[:, 0], marked, kept.slices)


def _paired(seen: CascadeEvidence, *, harm: bool) -> Paired:
    scores = seen.p_route[:, 0]
    kept = scores if seen.faulty is None else np.where(seen.faulty[:, 0], -np.inf, scores)
    return Paired(kept, seen.grades[:, 0], seen.grades[:, -1], harm=harm)


def _check_pair(seen: CascadeEvidence) -> str:
    if len(seen.tiers) != 2:
        raise DataError(f"pre-routing is certified for two tiers, got {seen.tiers}: certify the pattern `layered`")
    return seen.tiers[0]
