"""One certification path: labelled evidence, a guarantee and its terms → certified operating points, or why not.

Which risk is promised is data: `harm` counts a cheap answer that is wrong where the last tier's is right, `accepted`
every wrong one, `answered` every wrong answer of any tier. Of two tiers the first two have a routing threshold that
stands, and the acceptance threshold is found by the anchored sequence of `thresholds`, or of `risk_and_drop` where a
largest drop is promised with it. For `answered`, and for `harm` of a longer ladder, all thresholds are found together
(`joint`). Evidence that was cut into slices keeps each promise in each certified slice by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from router_models.errors import DataError
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ACCEPTED_RISK, HARM_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.joint import CertifiedPolicy, certify_joint, check_joint
from router_models.risk_control.labels import p_value
from router_models.risk_control.ladder.tuning import Escalation
from router_models.risk_control.one_threshold.pre_route import certify_pre_route, check_pre_route
from router_models.risk_control.one_threshold.risk_and_drop import Paired, certify_both, place_anchor
from router_models.risk_control.sequence import Labelled, upper_bound
from router_models.risk_control.thresholds import WHOLE, certify_threshold, check_threshold
from router_models.types import OperatingPoint

Promised = Literal["harm", "accepted", "answered"]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised beside ε and δ.

    Parameters
    ----------
    risk : {"harm", "accepted", "answered"}
        `harm` bounds P(cheap wrong and last tier right | cheap accepted) of any ladder, `accepted`
        P(wrong | cheap accepted) of two tiers, `answered` P(wrong | answered) of any ladder.
    abstain_share : float
        The largest share of requests left unanswered, in [0, 1); 0: nothing is promised of it (one threshold), or
        nothing is left unanswered (`together`).
    max_drop : float, optional
        By how much fewer answers than always asking the last tier's may be right, in (0, 1); None: not promised.
    together : bool
        Whether all thresholds are found together, as `answered` always is; else the first of two tiers has one to be
        found.
    pre_route : bool
        Whether the router alone decides, before generation, and the risk is that of all that it sends to the first of
        two tiers: its threshold is the one to be found.
    escalation : {"top", "next"}
        Where rejected answers of a ladder go whose thresholds are found together.
    """

    risk: Promised
    abstain_share: float = 0.0
    max_drop: float | None = None
    together: bool = False
    pre_route: bool = False
    escalation: Escalation = "top"

    @property
    def joint(self) -> bool:
        """Whether all thresholds are certified in one test."""
        return self.together or self.risk == "answered"

    @property
    def harm(self) -> bool:
        """Whether the wrong answers that count are those where the last tier's is right."""
        return self.risk == "harm"


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
        The points as TUNE placed them; read where one threshold is to be found: the routing threshold stands.

    Raises
    ------
    NotCertifiedError
        With the reason and, where it helps, the number of labels missing.
    DataError
        For evidence that cannot be used.
    """
    share, drop, harm = guarantee.abstain_share, guarantee.max_drop, guarantee.harm
    if not harm and cert.ungraded is not None:
        raise DataError(f"answers of {cert.tiers[-1]!r} that nobody graded show nothing but harm: grade or drop them")
    if guarantee.pre_route:
        return certify_pre_route(tune, cert, terms, max_drop=drop, harm=harm)
    if guarantee.joint:
        where = guarantee.escalation
        return certify_joint(tune, cert, terms, abstain_share=share, max_drop=drop, harm=harm, escalation=where)
    cheap, top = _pair(cert)
    first, last = placed[cheap], placed[top]
    abstention = _abstention(cert, last.abstain_below, guarantee.abstain_share, terms.level)
    if guarantee.max_drop is None:
        known, fresh = (routed(part, first.route_at, harm=harm) for part in (tune, cert))
        certificate = certify_threshold(known, fresh, terms, what=HARM_RISK if harm else ACCEPTED_RISK)
    else:
        # Whether or not abstaining is proved, what it would cost is counted: that errs on the safe side.
        pairs, pairs_cert = (_paired(part, first.route_at, last.abstain_below, harm=harm) for part in (tune, cert))
        both = certify_both(pairs, pairs_cert, epsilon=terms.epsilon, max_drop=guarantee.max_drop, level=terms.level)
        certificate = terms.issue(
            HARM_RISK if harm else ACCEPTED_RISK,
            n=len(pairs_cert.labelled()),
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
    share, drop, harm = guarantee.abstain_share, guarantee.max_drop, guarantee.harm
    if guarantee.pre_route:
        check_pre_route(tune, cert, terms, max_drop=drop, harm=harm)
        return
    if guarantee.joint:
        where = guarantee.escalation
        check_joint(tune, cert, terms, abstain_share=share, max_drop=drop, harm=harm, escalation=where)
        return
    cheap, top = _pair(cert)
    first, last = placed[cheap], placed[top]
    to_cheap = cert.take(cert.p_route[:, 0] >= first.route_at)
    if guarantee.max_drop is None:
        known, names = routed(tune, first.route_at, harm=harm), to_cheap.slices or (WHOLE,) * len(to_cheap)
        check_threshold(known, names, terms, what=HARM_RISK if harm else ACCEPTED_RISK)
        return
    pairs, limit = _paired(tune, first.route_at, last.abstain_below, harm=harm), guarantee.max_drop
    place_anchor(pairs, len(cert), len(to_cheap), epsilon=terms.epsilon, max_drop=limit)


def routed(seen: CascadeEvidence, route_at: float, *, harm: bool = False) -> Labelled:
    """The answers of the first tier to the prompts that are routed to it; DataError where there are none.

    Marked are the wrong ones; with `harm` only those where the last tier's answer is right.
    """
    rows = seen.p_route[:, 0] >= route_at
    if not rows.any():
        raise DataError("the routing threshold sends nothing to the cheap tier")
    chosen = seen.take(rows)
    marked = chosen.harm[:, 0] if harm else 1.0 - chosen.grades[:, 0]
    return Labelled.of(chosen.p_ok[:, 0], marked, chosen.slices)


def _pair(seen: CascadeEvidence) -> tuple[str, str]:
    if len(seen.tiers) != 2:
        raise DataError(f"one threshold is found for two tiers, got {seen.tiers}: certify all of them together")
    return seen.tiers[0], seen.tiers[1]


def _paired(seen: CascadeEvidence, route_at: float, abstain_below: float | None, *, harm: bool) -> Paired:
    scores = np.where(seen.p_route[:, 0] >= route_at, seen.p_ok[:, 0], -np.inf)
    silent = seen.p_ok[:, -1] < (-np.inf if abstain_below is None else abstain_below)
    return Paired(scores, seen.grades[:, 0], seen.grades[:, -1], silent, harm)


def _abstention(cert: CascadeEvidence, below: float | None, share: float, level: float) -> Promise | None:
    """P(abstain) ≤ a at the last tier, by the same binomial test; None where it cannot be shown."""
    if below is None or share == 0:
        return None
    n, k = len(cert), int((cert.p_ok[:, -1] < below).sum())
    if p_value(k, n, share) > level:
        return None
    return Promise(ABSTAIN_RISK, share, level, n, k, upper_bound(k, n, level), below)
