"""Certify which cheap answers may be served under their threshold while the last tier is full.

A spilled answer is one the verdict sent on: its score lies in [`serve_at`, `accept_at`). What is promised is of those
answers alone, P(wrong | spilled) ≤ ε₂. P(wrong | score ≥ `serve_at`) ≤ ε₂ would be easier to show and say little:
answers that were accepted anyway would pay for the spilled ones. The promise of accepted answers stays what it is.

One CERT sample proves both. `accept_at` was chosen on it, and the labels below it are used again here. That is sound:
the sequence ended at `accept_at` because the labels below it looked bad, which only makes a spill harder to certify
(docs/decisions/offline/0012). Together both hold with confidence 1 - δ: each has a share of δ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from router_models.data.outcomes import OutcomeTable, assert_disjoint, split
from router_models.data.slices import slices_of
from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificate import Certificate
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.candidate import SPLIT_SHARES, Settings
from router_models.training.certify import Certified
from router_models.training.evidence import Evidence, evidence_of
from router_models.versions.router_version import RouterVersion, overload_point

OVERLOAD_RISK = "P(wrong | cheap spilled)"
OVERLOAD_SHARE = 0.25
"""Of δ. A larger ε needs fewer labels, so the spill gets the smaller part."""


def check_overload(settings: Settings, epsilon: float) -> None:
    """Raise DataError where a spill cannot be asked for, before a label is looked at."""
    if settings.promised != "accepted":
        raise DataError("a spill is certified beside the promise `accepted`: it would break P(wrong | answered)")
    if settings.max_drop is not None:
        raise DataError("a spill would break a promised largest drop: ask for one of them")
    if not settings.epsilon < epsilon < 1:
        raise DataError(
            f"a spill's ε must lie between the version's own ({settings.epsilon:g}) and 1, got {epsilon!r}"
        )


def shared(settings: Settings) -> tuple[Settings, float]:
    """Settings for the version's own certificate where a spill is certified beside it, and the δ of the spill."""
    return replace(settings, delta=settings.delta * (1 - OVERLOAD_SHARE)), settings.delta * OVERLOAD_SHARE


def with_overload(
    certified: Certified,
    table: OutcomeTable,
    settings: Settings,
    epsilon: float,
    delta: float,
    now: datetime,
    cache: Path | None = None,
) -> Certified:
    """The certified version with a spill point for its first tier: P(wrong | spilled) ≤ ε₂ with confidence 1 - δ₂.

    `settings` are those of the version's own certificate: same splits, same look, same slices. Raises
    NotCertifiedError with the reason and the labels missing; DataError as `check_overload` does.
    """
    check_overload(settings, epsilon)
    version = certified.version
    cheap, last = settings.tiers
    table = table.only(*settings.tiers).with_embeddings(version.encoder, cache)
    parts = split(table, SPLIT_SHARES, settings.seed)
    assert_disjoint(parts)
    tune, cert = (
        rejected(version, evidence_of(version, part, (cheap, last), settings.prices), part)
        for part in (parts["tune"], parts["cert"])
    )
    certificate = certify_overload(
        tune,
        cert,
        epsilon=epsilon,
        delta=delta,
        settings=settings,
        now=now,
        binds={**settings.binds, **version.binds(settings.prices)},
    )
    overload_points = {**version.policy.overload_points, cheap: overload_point(certificate)}
    version = replace(
        version,
        policy=replace(version.policy, overload_points=overload_points),
        overload_certificates={**version.overload_certificates, cheap: certificate},
    )
    return replace(certified, version=version)


def certify_overload(
    tune: Labelled,
    cert: Labelled,
    *,
    epsilon: float,
    delta: float,
    settings: Settings,
    now: datetime,
    binds: dict[str, str],
) -> Certificate:
    """The certificate, from the labels of answers that were rejected. Raises as `certify_threshold` does."""
    if len(tune) == 0 or len(cert) == 0:
        raise NotCertifiedError("the version rejects next to nothing: there is nothing to spill")
    try:
        return certify_threshold(
            tune,
            cert,
            epsilon=epsilon,
            delta=delta,
            binds=binds,
            label_source=settings.label_source,
            made_at=now,
            expires_at=now + timedelta(days=settings.valid_days),
            look_index=settings.look_index,
            what=OVERLOAD_RISK,
        )
    except NotCertifiedError as error:
        raise NotCertifiedError(f"among rejected answers: {error.reason}", error.labels_missing) from error


def rejected(version: RouterVersion, seen: Evidence, table: OutcomeTable) -> Labelled:
    """The cheap answers that the version tries and does not accept, with the score and whether they were wrong."""
    tier, slicer = version.policy.tiers[0], version.slicer
    point, names = version.policy.points[tier], None
    accept_at: float | Sequence[float] = point.accept_at
    if slicer is not None and version.certificate is not None:
        names = slices_of(slicer, table.prompts)
        accept_at = [version.certificate.threshold_for(name) for name in names]
    rows = (seen.p_route_ok >= point.route_at) & (seen.p_cheap_ok < np.asarray(accept_at))
    kept = None if names is None else [name for name, row in zip(names, rows, strict=True) if row]
    return Labelled.of(seen.p_cheap_ok[rows], seen.cheap_wrong[rows], kept)
