"""Certify which cheap answers may be served under their threshold while the last tier is full.

Such an answer is one the verdict sent on: its score lies in [`serve_at`, `accept_at`). What is promised is of those
answers alone, P(wrong | served on overload) ≤ ε₂; beside a promise of harm, wrong where the last tier's is right.
P(wrong | score ≥ `serve_at`) ≤ ε₂ would be easier to show and say little: answers that were accepted anyway would pay
for the others. The promise of accepted answers stays what it is.

One CERT sample proves both. `accept_at` was chosen on it, and the labels below it are used again here. That is sound:
the sequence ended at `accept_at` because the labels below it looked bad, which only makes this harder to certify
(docs/decisions/offline/0012). Together both hold with confidence 1 - δ: each has a share of δ.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.candidate import Settings
from router_models.training.certify import Certified, bound
from router_models.training.evidence import evidence_of, replay_version
from router_models.training.splits import LabelledSplits
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.policy_file import overload_point

OVERLOAD_RISK = "P(wrong | cheap spilled)"
OVERLOAD_HARM = f"P({HARM} | cheap spilled)"
OVERLOAD_SHARE = 0.25
"""Of δ. A larger ε needs fewer labels, so the overload promise gets the smaller part."""


def check_overload(settings: Settings, epsilon: float) -> None:
    """Raise DataError where an overload point cannot be asked for; reads no label."""
    if settings.joint:
        raise DataError(
            "an overload fallback is certified beside the promise `harm` or `accepted` of two tiers: thresholds that "
            "are certified together leave no answer below them to be served"
        )
    if settings.max_drop is not None:
        raise DataError("an overload fallback would break a promised largest drop: ask for one of them")
    if not settings.epsilon < epsilon < 1:
        raise DataError(
            f"an overload fallback's ε must lie between the version's own ({settings.epsilon:g}) and 1: {epsilon!r}"
        )


def shared(settings: Settings) -> tuple[Settings, float]:
    """Settings for the version's own certificate beside an overload point's, and the δ of the latter."""
    return replace(settings, delta=settings.delta * (1 - OVERLOAD_SHARE)), settings.delta * OVERLOAD_SHARE


def with_overload(
    certified: Certified,
    splits: LabelledSplits,
    settings: Settings,
    epsilon: float,
    delta: float,
    now: datetime,
) -> Certified:
    """The certified version with an overload point for its first tier.

    Parameters
    ----------
    certified : Certified
        What `certify_candidate` made of the same splits and settings.
    splits : LabelledSplits
        The candidate's, with embeddings.
    settings : Settings
        Those of the version's own certificate: same look, same slices.
    epsilon, delta : float
        P(wrong | served on overload) ≤ `epsilon` with confidence 1 - `delta`.
    now : datetime
        When the certificate is made.

    Raises
    ------
    NotCertifiedError
        With the reason and the labels missing.
    DataError
        As `check_overload` does.
    """
    check_overload(settings, epsilon)
    version = certified.version
    cheap = settings.tiers[0]
    tune, cert = (
        rejected(version, seen)
        for seen in (
            evidence_of(version, splits.tune, settings.prices, settings.slicer, settings.asking),
            certified.evidence,
        )
    )
    terms = replace(settings.terms(now, splits.labels_used), epsilon=epsilon, delta=delta)
    certificate = certify_overload(tune, cert, terms, what=OVERLOAD_HARM if _harm(version) else OVERLOAD_RISK)
    overload_points = {**version.policy.overload_points, cheap: overload_point(certificate)}
    version = replace(
        version,
        policy=replace(version.policy, overload_points=overload_points),
        overload_certificates={**version.overload_certificates, cheap: certificate},
    )
    return replace(certified, version=bound(version, settings))


def certify_overload(
    tune: Labelled, cert: Labelled, terms: CertificateTerms, *, what: str = OVERLOAD_RISK
) -> Certificate:
    """The certificate, from the labels of answers that were rejected. Raises as `certify_threshold` does."""
    if len(tune) == 0 or len(cert) == 0:
        raise NotCertifiedError("the version rejects next to nothing: there is nothing to serve on overload")
    try:
        return certify_threshold(tune, cert, terms, what=what)
    except NotCertifiedError as error:
        raise NotCertifiedError(f"among rejected answers: {error.reason}", error.labels_missing) from error


def rejected(version: RouterVersion, seen: CascadeEvidence) -> Labelled:
    """The first tier's answers that the version tries and does not accept, with the score and whether they were wrong.

    Of a version that promises harm: whether they were wrong where the last tier's answer is right. Slices count where
    the version's certificate has them: `seen` must be cut by the version's slicer.
    """
    if version.certificate is None:
        seen = replace(seen, slices=None)
    replayed = replay_version(version, seen)
    chosen = seen.take((replayed.tried == 0) & ~replayed.accepted)
    wrong = chosen.harm[:, 0] if _harm(version) else 1.0 - chosen.grades[:, 0]
    return Labelled.of(chosen.p_ok[:, 0], wrong, chosen.slices)


def _harm(version: RouterVersion) -> bool:
    return version.certificate is not None and version.certificate.harm
