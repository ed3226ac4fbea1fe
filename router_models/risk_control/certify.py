"""One certification path: labelled evidence, a guarantee and its terms → certified operating points, or why not.

Which risk is promised is data. `accepted`: the routing threshold stands, and the acceptance threshold of the first of
two tiers is found by the anchored sequence of `thresholds`, or of `risk_and_drop` where a largest drop is promised
with it. `answered`: all thresholds of a ladder are found together (`joint`). Evidence that was cut into slices keeps
either promise in each certified slice by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from router_models.errors import DataError
from router_models.risk_control.certificate import ABSTAIN_RISK, ACCEPTED_RISK
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.joint import CertifiedPolicy, certify_joint, check_joint
from router_models.risk_control.labels import p_value
from router_models.risk_control.promise import Promise
from router_models.risk_control.risk_and_drop import Paired, certify_both, place_anchor
from router_models.risk_control.sequence import Labelled, upper_bound
from router_models.risk_control.terms import CertificateTerms
from router_models.risk_control.thresholds import WHOLE, certify_threshold, check_threshold
from router_models.types import OperatingPoint

Promised = Literal["accepted", "answered"]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised beside ε and δ.

    Parameters
    ----------
    risk : {"accepted", "answered"}
        `accepted` bounds P(wrong | cheap accepted) of two tiers, `answered` P(wrong | answered) of any ladder.
    abstain_share : float
        The largest share of requests left unanswered, in [0, 1); 0: nothing is promised of it (`accepted`), or
        nothing is left unanswered (`answered`).
    max_drop : float, optional
        By how much fewer answers than always asking the last tier's may be right, in (0, 1); None: not promised.
    """

    risk: Promised
    abstain_share: float = 0.0
    max_drop: float | None = None


def certify_policy(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    guarantee: Guarantee,
    terms: CertificateTerms,
    placed: Mapping[str, OperatingPoint],
) -> CertifiedPolicy:
    """Certify operating points for a guarantee; CERT is read here and nowhere else.

    Parameters
    ----------
    tune, cert : CascadeEvidence
        Evidence of the same tiers that shares no prompt, both cut into slices or neither.
    guarantee : Guarantee
        What is promised beside ε and δ.
    terms : CertificateTerms
        ε, δ and what else the certificate states.
    placed : mapping of str to OperatingPoint
        The points as TUNE placed them; read for `accepted` alone, whose routing threshold is fixed beforehand.

    Raises
    ------
    NotCertifiedError
        With the reason and, where it helps, the number of labels missing.
    DataError
        For evidence that cannot be used.
    """
    if guarantee.risk == "answered":
        return certify_joint(tune, cert, terms, abstain_share=guarantee.abstain_share, max_drop=guarantee.max_drop)
    cheap, top = _pair(cert)
    first, last = placed[cheap], placed[top]
    abstention = _abstention(cert, last.abstain_below, guarantee.abstain_share, terms.level)
    if guarantee.max_drop is None:
        certificate = certify_threshold(routed(tune, first.route_at), routed(cert, first.route_at), terms)
    else:
        # Whether or not abstaining is proved, what it would cost is counted: that errs on the safe side.
        known, fresh = (_paired(part, first.route_at, last.abstain_below) for part in (tune, cert))
        both = certify_both(known, fresh, epsilon=terms.epsilon, max_drop=guarantee.max_drop, level=terms.level)
        certificate = terms.issue(
            ACCEPTED_RISK,
            n=len(fresh.labelled()),
            accepted_n=both.accepted,
            errors=both.errors,
            threshold=both.threshold,
            also=(both.promise,),
        )
    certificate = replace(certificate, also=(*certificate.also, *((abstention,) if abstention else ())))
    accept_at = certificate.threshold if certificate.threshold is not None else certificate.threshold_for(None)
    points = {
        cheap: replace(first, accept_at=accept_at),
        top: OperatingPoint(np.inf, -np.inf, last.abstain_below if abstention else None),
    }
    return CertifiedPolicy(points, certificate)


def check_on_tune(
    tune: CascadeEvidence,
    cert: CascadeEvidence,
    guarantee: Guarantee,
    terms: CertificateTerms,
    placed: Mapping[str, OperatingPoint],
) -> None:
    """Raise NotCertifiedError where TUNE and the number of CERT prompts already say that `certify_policy` will.

    Reads no CERT label, so that such a refusal is no look at them. Parameters are those of `certify_policy`.
    """
    if guarantee.risk == "answered":
        check_joint(tune, cert, terms, abstain_share=guarantee.abstain_share, max_drop=guarantee.max_drop)
        return
    cheap, top = _pair(cert)
    first, last = placed[cheap], placed[top]
    to_cheap = cert.take(cert.p_route[:, 0] >= first.route_at)
    if guarantee.max_drop is None:
        check_threshold(routed(tune, first.route_at), to_cheap.slices or (WHOLE,) * len(to_cheap), terms)
        return
    known, limit = _paired(tune, first.route_at, last.abstain_below), guarantee.max_drop
    place_anchor(known, len(cert), len(to_cheap), epsilon=terms.epsilon, max_drop=limit)


def routed(seen: CascadeEvidence, route_at: float) -> Labelled:
    """The answers of the first tier to the prompts that are routed to it; DataError where there are none."""
    rows = seen.p_route[:, 0] >= route_at
    if not rows.any():
        raise DataError("the routing threshold sends nothing to the cheap tier")
    chosen = seen.take(rows)
    return Labelled.of(chosen.p_ok[:, 0], 1.0 - chosen.grades[:, 0], chosen.slices)


def _pair(seen: CascadeEvidence) -> tuple[str, str]:
    if len(seen.tiers) != 2:
        raise DataError(f"`accepted` is a promise about two tiers, got {seen.tiers}: promise `answered`")
    return seen.tiers[0], seen.tiers[1]


def _paired(seen: CascadeEvidence, route_at: float, abstain_below: float | None) -> Paired:
    scores = np.where(seen.p_route[:, 0] >= route_at, seen.p_ok[:, 0], -np.inf)
    silent = seen.p_ok[:, -1] < (-np.inf if abstain_below is None else abstain_below)
    return Paired(scores, seen.grades[:, 0], seen.grades[:, -1], silent)


def _abstention(cert: CascadeEvidence, below: float | None, share: float, level: float) -> Promise | None:
    """P(abstain) ≤ a at the last tier, by the same binomial test; None where it cannot be shown."""
    if below is None or share == 0:
        return None
    n, k = len(cert), int((cert.p_ok[:, -1] < below).sum())
    if p_value(k, n, share) > level:
        return None
    return Promise(ABSTAIN_RISK, share, level, n, k, upper_bound(k, n, level), below)
