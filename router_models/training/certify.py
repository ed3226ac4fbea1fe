"""Certifying: a candidate and its CERT labels → a version with a proof, or the reason why there is none.

CERT is read once, here. Which risk is promised is `Settings.promised`: one threshold's selective risk between two
tiers, or the whole system's risk with all thresholds of a ladder tuned together. Either is promised of traffic as a
whole, or of every certified slice by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from router_models.data.outcomes import OutcomeTable, assert_disjoint, split
from router_models.data.slices import SLICERS, slices_of
from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificate import ABSTAIN_RISK, ACCEPTED_RISK, Certificate, Promise
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.joint_path import JointPath
from router_models.risk_control.labels import p_value
from router_models.risk_control.ladder import Ladder
from router_models.risk_control.risk_and_drop import Paired, certify_both
from router_models.risk_control.sequence import Labelled, upper_bound
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.candidate import SPLIT_SHARES, Candidate, Settings
from router_models.training.evidence import Evidence, call_costs, evidence_of
from router_models.training.fit import answers_with
from router_models.types import BoolArray, FloatArray, OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True)
class Certified:
    """A version with its certificate, and the n CERT prompts it was proved on, as a ladder.

    `slices`: the slice of every CERT prompt by slicer. `evidence` is there for the promise `accepted`; for `answered`
    `paths` (the configurations tested, by slice, '' for the whole) and `refused` (why a slice has no promise).
    """

    version: RouterVersion
    ladder: Ladder
    slices: Mapping[str, Sequence[str]]
    evidence: Evidence | None = None
    paths: Mapping[str, JointPath] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def certify_candidate(
    candidate: Candidate, table: OutcomeTable, settings: Settings, now: datetime, cache: Path | None = None
) -> Certified:
    """Read CERT once and certify.

    Parameters
    ----------
    candidate : Candidate
        From `fit_candidate`, on the same table and settings.
    table : OutcomeTable
        The outcomes; only the CERT part, and of TUNE what thresholds are chosen by, is read.
    settings : Settings
        What is to be promised. `look_index` is which look at these labels this is.
    now : datetime
        When the certificate is made; with time zone.
    cache : Path, optional
        Folder where embeddings are kept.

    Returns
    -------
    Certified
        The version with its certificate, and the evidence behind it.

    Raises
    ------
    NotCertifiedError
        Where nothing can be promised: the reason, and the labels missing where more would help.
    DataError
        For outcomes that cannot serve.
    """
    check_candidate(candidate, settings)
    promise, draft = settings.promised, candidate.version
    table = table.only(*settings.tiers).with_embeddings(draft.encoder, cache)
    parts = split(table, SPLIT_SHARES, settings.seed)
    assert_disjoint(parts)
    if min(len(parts["tune"]), len(parts["cert"])) == 0:
        raise DataError(f"{len(table)} prompts leave nothing to tune or to certify on: collect more")
    certify = _one_threshold if promise == "accepted" else _whole_ladder
    try:
        return certify(draft, parts["tune"], parts["cert"], settings, now)
    except NotCertifiedError as error:
        raise _to_collect(error, draft, parts["tune"], settings) from error


def check_candidate(candidate: Candidate, settings: Settings) -> None:
    """Raise DataError where what is to be promised is not what the candidate was fitted for; reads no label."""
    policy = candidate.version.policy
    if policy.tiers != settings.tiers:
        raise DataError(f"the candidate was fitted for the tiers {policy.tiers}, not {settings.tiers}")
    if settings.promised == "accepted" and settings.tiers[0] not in policy.points:
        raise DataError("the candidate was fitted for the promise `answered`: certify that, or train again")


def ladder_of(version: RouterVersion, table: OutcomeTable, settings: Settings) -> Ladder:
    """Score every prompt and answer of a table with a version's models; embeddings must be present.

    Raises DataError for grades that are not 0 or 1: a promise about being wrong needs right and wrong.
    """
    tiers = settings.tiers
    route: list[FloatArray] = []
    for tier in tiers[:-1]:
        stage = version.stages[tier]
        if stage.router is None or stage.router_calibrator is None:
            raise DataError(f"the version has no router for tier {tier!r}")
        route.append(stage.router_calibrator.predict(stage.router.predict(table.prompts)))
    answered: list[FloatArray] = []
    for i, tier in enumerate(tiers):
        stage = version.stages[tier]
        known = route[i] if i < len(route) else route[0] if len(tiers) == 2 else None
        raw = stage.verifier.predict(answers_with(table, tier, known))
        answered.append(raw if stage.verifier_calibrator is None else stage.verifier_calibrator.predict(raw))
    return Ladder.of(
        tiers,
        np.column_stack(route),
        np.column_stack(answered),
        np.column_stack([call_costs(table, tier, settings.prices[tier]) for tier in tiers]),
        np.column_stack([table.grade(tier) for tier in tiers]),
    )


def _to_collect(
    error: NotCertifiedError, draft: RouterVersion, tune: OutcomeTable, settings: Settings
) -> NotCertifiedError:
    """The same refusal, with the prompts to collect for the labels missing: only some of all prompts certify."""
    if error.labels_missing is None or settings.slicer is not None:
        return error
    first, share, of_those = settings.tiers[0], SPLIT_SHARES["cert"], ""
    if settings.promised == "accepted":
        stage, point = draft.stages[first], draft.policy.points[first]
        assert stage.router is not None
        assert stage.router_calibrator is not None
        routed = float((stage.router_calibrator.predict(stage.router.predict(tune.prompts)) >= point.route_at).mean())
        share, of_those = share * routed, f", and {routed:.0%} of those are routed to {first}"
    prompts = math.ceil(error.labels_missing / share)
    more = f"Collect about {prompts:,} more prompts: {SPLIT_SHARES['cert']:.0%} of them certify{of_those}."
    return NotCertifiedError(f"{error.reason.rstrip('.')}. {more}", error.labels_missing)


def _whole_ladder(
    draft: RouterVersion, tune: OutcomeTable, cert: OutcomeTable, settings: Settings, now: datetime
) -> Certified:
    """P(wrong | answered) ≤ ε, P(abstain) ≤ a and, where asked, the largest drop: all together at confidence 1 - δ."""
    known, fresh = (_cut(ladder_of(draft, part, settings), part, settings.slicer) for part in (tune, cert))
    result = certify_joint(
        known,
        fresh,
        epsilon=settings.epsilon,
        delta=settings.delta,
        binds={},
        label_source=settings.label_source,
        made_at=now,
        expires_at=now + timedelta(days=settings.valid_days),
        abstain_share=settings.abstain_share,
        max_drop=settings.max_drop,
        look_index=settings.look_index,
    )
    version = replace(draft, policy=Policy(settings.tiers, result.points), slicer=settings.slicer)
    version = replace(version, certificate=_bound(result.certificate, version, settings))
    return Certified(version, fresh, _all_slices(cert), paths=result.paths, refused=result.refused)


def _one_threshold(
    draft: RouterVersion, tune: OutcomeTable, cert: OutcomeTable, settings: Settings, now: datetime
) -> Certified:
    """P(wrong | cheap accepted) ≤ ε with the routing threshold as TUNE placed it.

    At the last tier P(abstain) ≤ a, by a test of its own; with a largest drop both hold together.
    """
    cheap, frontier = settings.tiers
    known, fresh = (evidence_of(draft, part, (cheap, frontier), settings.prices) for part in (tune, cert))
    point, last = draft.policy.points[cheap], draft.policy.points[frontier]
    abstention = _abstention(fresh, last.abstain_below, settings)
    below = last.abstain_below if abstention else None
    if settings.max_drop is None:
        certificate = certify_threshold(
            _routed(known, tune, point.route_at, settings.slicer),
            _routed(fresh, cert, point.route_at, settings.slicer),
            epsilon=settings.epsilon,
            delta=settings.delta,
            binds={},
            label_source=settings.label_source,
            made_at=now,
            expires_at=now + timedelta(days=settings.valid_days),
            look_index=settings.look_index,
        )
    else:
        # Whether or not abstaining is proved, what it would cost is counted: that errs on the safe side.
        paired = [_paired(part, point.route_at, last.abstain_below) for part in (known, fresh)]
        certificate = _both(paired[0], paired[1], settings.max_drop, settings, now)
    certificate = replace(certificate, also=(*certificate.also, *((abstention,) if abstention else ())))
    accept_at = certificate.threshold if certificate.threshold is not None else certificate.threshold_for(None)
    points = {cheap: replace(point, accept_at=accept_at), frontier: OperatingPoint(np.inf, -np.inf, below)}
    version = replace(draft, policy=Policy(settings.tiers, points), slicer=settings.slicer)
    version = replace(version, certificate=_bound(certificate, version, settings))
    return Certified(version, ladder_of(draft, cert, settings), _all_slices(cert), evidence=fresh)


def _cut(data: Ladder, table: OutcomeTable, slicer: str | None) -> Ladder:
    return data if slicer is None else data.cut(slices_of(slicer, table.prompts))


def _all_slices(cert: OutcomeTable) -> dict[str, Sequence[str]]:
    return {slicer: slices_of(slicer, cert.prompts) for slicer in SLICERS}


def _bound(certificate: Certificate, version: RouterVersion, settings: Settings) -> Certificate:
    """The certificate with the hashes of everything that it depends on."""
    return replace(certificate, binds={**settings.binds, **version.binds(settings.prices)})


def _both(tune: Paired, cert: Paired, max_drop: float, settings: Settings, now: datetime) -> Certificate:
    both = certify_both(tune, cert, epsilon=settings.epsilon, max_drop=max_drop, level=settings.level)
    return Certificate(
        what=ACCEPTED_RISK,
        epsilon=settings.epsilon,
        delta=settings.delta,
        level=settings.level,
        n=len(cert.labelled()),
        accepted_n=both.accepted,
        errors=both.errors,
        upper=upper_bound(both.errors, both.accepted, settings.level),
        threshold=both.threshold,
        label_source=settings.label_source,
        made_at=now,
        expires_at=now + timedelta(days=settings.valid_days),
        binds={},
        look_index=settings.look_index,
        also=(both.promise,),
    )


def _paired(seen: Evidence, route_at: float, abstain_below: float | None) -> Paired:
    scores = np.where(seen.p_route_ok >= route_at, seen.p_cheap_ok, -np.inf)
    silent: BoolArray = seen.p_frontier_ok < (-np.inf if abstain_below is None else abstain_below)
    return Paired(scores, seen.cheap_right, seen.frontier_right, silent)


def _routed(seen: Evidence, table: OutcomeTable, route_at: float, slicer: str | None) -> Labelled:
    rows = seen.p_route_ok >= route_at
    if not rows.any():
        raise DataError("the routing threshold sends nothing to the cheap tier")
    slices = (
        None
        if slicer is None
        else [s for s, routed in zip(slices_of(slicer, table.prompts), rows, strict=True) if routed]
    )
    return Labelled.of(seen.p_cheap_ok[rows], seen.cheap_wrong[rows], slices)


def _abstention(cert: Evidence, below: float | None, settings: Settings) -> Promise | None:
    """P(abstain) ≤ a at the last tier, by the same binomial test; None where it cannot be shown."""
    if below is None or settings.abstain_share == 0:
        return None
    n, k = len(cert.p_frontier_ok), int((cert.p_frontier_ok < below).sum())
    if p_value(k, n, settings.abstain_share) > settings.level:
        return None
    bound = upper_bound(k, n, settings.level)
    return Promise(ABSTAIN_RISK, settings.abstain_share, settings.level, n, k, bound, below)
