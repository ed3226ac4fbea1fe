"""Certifying: a candidate and its CERT labels → a version with a proof, or the reason why there is none.

CERT is read once, here. Which risk is promised is `Settings.guarantee`; either is promised of traffic as a whole, or
of every certified slice by itself. Candidates are scored with what the version's verifiers will be shown when serving.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import SLICERS, asked_columns, is_stated, slices_of
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError, NotCertifiedError, by_number
from router_models.estimators.asked_signals import cannot_ask, question_binds
from router_models.estimators.signals import check_served
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.estimators.verifiers.checks.tool_calls import CALLING_FINISHES
from router_models.metrics.score_shares import ScoreShares
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Compared
from router_models.risk_control.certify import certify_policy, check_on_tune
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.joint_path import JointPath
from router_models.risk_control.paired import compare_with_last
from router_models.training.candidate import Candidate, Settings
from router_models.training.evidence import (
    evidence_of,
    provisional_threshold,
    replay_version,
    token_ratios,
    tries_of,
)
from router_models.training.labelling.streamed import StreamedLabels, certify_streamed
from router_models.training.selection.asking import asked_first_usd
from router_models.training.splits import SPLIT_SHARES, LabelledSplits
from router_models.training.whose_labels import check_graded_alike
from router_models.types import OperatingPoint
from router_models.types.coverage import Coverage
from router_models.types.drawn import oldest
from router_models.versions.covering.attack_limits import certified_coverage
from router_models.versions.covering.covered_conditions import LEAST_ROWS
from router_models.versions.covering.covered_rows import covered_rows, prompt_bytes
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True)
class Certified:
    """A version with its certificate, and the CERT prompts.

    Parameters
    ----------
    version : RouterVersion
        The version; its certificates are bound to it.
    evidence : CascadeEvidence
        The CERT prompts, cut into slices where slices are certified; those that are not covered are marked so, and
        the n others are what it was proved on.
    slices : mapping of str to sequence of str
        The slice of every CERT prompt by slicer, and what it was asked under where prompts differ in that.
    paths : mapping of str to JointPath
        The configurations tested, by slice, '' for the whole; empty where one threshold was certified.
    refused : mapping of str to str
        Why a slice has no promise, by slice.
    """

    version: RouterVersion
    evidence: CascadeEvidence
    slices: Mapping[str, Sequence[str]]
    paths: Mapping[str, JointPath] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def certify_candidate(
    candidate: Candidate,
    splits: LabelledSplits,
    settings: Settings,
    now: datetime,
    look: Callable[[], Settings] | None = None,
    labels: StreamedLabels | None = None,
) -> Certified:
    """Read CERT once and certify.

    Parameters
    ----------
    candidate : Candidate
        From `fit_candidate`, on the same splits and settings.
    splits : LabelledSplits
        With embeddings; only CERT, and of TUNE what thresholds are chosen by, is read.
    settings : Settings
        What is to be promised. `look_index` is which look at these labels this is.
    now : datetime
        When the certificate is made; with time zone.
    look : callable, optional
        Called right before the first CERT label is read, and not where TUNE already refuses; gives the settings with
        the look that it was.
    labels : StreamedLabels, optional
        People's labels that came one by one: they are the evidence, and the rows' own labels none.

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
    splits.check(settings.tiers, settings.seed, settings.group_by)
    if splits.gaps and not len(splits.cert):
        raise NotCertifiedError(
            f"{splits.gaps} {by_number(splits.gaps, 'prompt')} of the random sample "
            f"{by_number(splits.gaps, 'lacks', 'lack')} a grade that counts (of {settings.tiers[-1]!r}, or "
            "a judge's beside people's); leaving them out would choose among the others: grade them; promise "
            "`harm`, which takes a last answer without a grade for right; or take one source from the start (`train "
            "--label-source`)"
        )
    if splits.chosen and not len(splits.cert):
        raise NotCertifiedError(
            f"all {splits.chosen} prompts that would certify were chosen by what answered them or by who graded them "
            "(column `drawn`), so that they say nothing of the other traffic. They train; certify on prompts that "
            "were drawn, each with its row: `collect --from-decisions` asks every tier a sample of kept prompts"
        )
    if min(len(splits.tune), len(splits.cert)) == 0:
        raise DataError(f"{len(splits.table)} prompts leave nothing to tune or to certify on: collect more")
    draft = replace(candidate.version, longest_prompt=settings.longest_prompt)
    if settings.pre_routes:
        draft = _router_alone(draft, splits.tune, settings)
    with each_text_once():
        coverage = certified_coverage(draft, splits.train, splits.tune, splits.cert, settings.epsilon)
        if settings.pre_routes:  # whatever a threshold may send down is compared, below the one that will be certified
            draft = replace(draft, policy=Policy(settings.tiers, {settings.tiers[0]: OperatingPoint(0.0, -math.inf)}))
        everything, known = (_seen(draft, part, settings, coverage) for part in (splits.cert, splits.tune))
    fresh, known = everything.counted(), known.counted()
    if min(len(fresh), len(known)) == 0:
        raise NotCertifiedError(
            f"no {LEAST_ROWS} of the {len(splits.cert)} prompts that certify were asked under the same conditions: "
            "collect more under each decoding, system prompt, format and number of turns that is to be covered"
        )
    counted = splits.cert.take(everything.rows_counted)
    rests_on = replace(splits, cert=counted).labels_used if labels is None else labels.used
    if settings.harm and labels is None:
        check_graded_alike(counted)
    try:
        if labels is None:
            check_on_tune(known, fresh, settings.guarantee, settings.terms(now, rests_on), draft.policy.points)
            settings = settings if look is None else look()
            terms = settings.terms(now, rests_on)
            found = certify_policy(known, fresh, settings.guarantee, terms, draft.policy.points)
        else:
            found = certify_streamed(labels, settings.terms(now, rests_on), draft.policy.points)
    except NotCertifiedError as error:
        if labels is not None:
            raise
        raise _to_collect(error, draft, known, settings, len(fresh) / len(everything)) from error
    certificate = replace(found.certificate, coverage=coverage)
    called = tiers_with_calls((splits.train, splits.cert), settings.tiers)
    policy = Policy(settings.tiers, found.points, chain=found.chain)
    version = replace(draft, policy=policy, slicer=settings.slicer, judges_calls=called)
    if settings.longest_prompt is not None:
        version = replace(version, longest_prompt=max(prompt_bytes(counted)))
    stated = settings.slicer is not None and is_stated(settings.slicer, splits.cert.prompts)
    version = replace(version, certificate=certificate, stated_slices=stated)
    told = replace(certificate, token_ratios=token_ratios(splits.cert, version, everything))
    told = replace(
        told, tries=tries_of(splits.cert, version, everything), collected=_collected(counted, settings, now)
    )
    if labels is None:  # else the rows' own labels are no evidence, and are not counted
        asked = asked_first_usd(version, splits.cert, settings)
        told = replace(told, compared=_compared(version, everything, settings, asked))
    version = replace(version, certificate=told, score_quantiles=_score_quantiles(version, everything))
    version = bound(version, settings)
    prompts = splits.cert.prompts
    slices = {slicer: slices_of(slicer, prompts) for slicer in SLICERS} | asked_columns(prompts)
    return Certified(version, everything, slices, found.paths, found.refused)


def _router_alone(draft: RouterVersion, tune: OutcomeTable, settings: Settings) -> RouterVersion:
    """The draft as it would be pre-routed by TUNE: what is measured of rewritten prompts depends on the threshold.

    Verifiers that ask for signals are left out, so that nothing is asked for, nor charged.
    """
    silent = {
        tier: replace(stage, verifier=NonEmptyVerifier(), verifier_calibrator=None) if stage.asked else stage
        for tier, stage in draft.stages.items()
    }
    draft = replace(draft, stages=silent)
    seen = evidence_of(draft, tune, settings.prices)
    counts_against = seen.harm[:, 0].astype(float) if settings.harm else 1.0 - seen.grades[:, 0]
    route_at = provisional_threshold(seen.p_route[:, 0], counts_against, settings.epsilon)
    return replace(draft, policy=Policy(settings.tiers, {settings.tiers[0]: OperatingPoint(route_at, -math.inf)}))


def _score_quantiles(version: RouterVersion, seen: CascadeEvidence) -> tuple[float, ...]:
    """Quantiles of the router's estimates for the cheapest tier; none where it has no router.

    None with three tiers and more: a decision has one estimate, that of the tier which it chose.
    """
    stage = version.stages.get(seen.tiers[0])
    return (
        ()
        if len(seen.tiers) != 2 or stage is None or stage.router is None
        else ScoreShares.of(seen.p_route[:, 0]).quantiles
    )


def _seen(draft: RouterVersion, part: OutcomeTable, settings: Settings, coverage: Coverage) -> CascadeEvidence:
    """A part's evidence, with the rows that the coverage leaves out marked as such."""
    seen = evidence_of(draft, part, settings.prices, settings.slicer, settings.asking)
    return replace(seen, covered=covered_rows(coverage, draft, part))


def _collected(counted: OutcomeTable, settings: Settings, now: datetime) -> dict[str, datetime]:
    """Since when all answers of a tier were made that count, by tier; tiers of which one does not say are left out."""
    found = {tier: oldest(counted.collected_at.get(tier, ()), now) for tier in settings.tiers}
    return {tier: moment for tier, moment in found.items() if moment is not None}


def tiers_with_calls(parts: Sequence[OutcomeTable], tiers: Sequence[str]) -> tuple[str, ...]:
    """The tiers of which every part holds answers that call tools: a certificate covers calls of these alone."""

    def has_calls(part: OutcomeTable, tier: str) -> bool:
        return tier in part.answers and not CALLING_FINISHES.isdisjoint(part.answers[tier].finish_reasons)

    return tuple(tier for tier in tiers if all(has_calls(part, tier) for part in parts))


def check_candidate(candidate: Candidate, settings: Settings) -> None:
    """Raise DataError where what is to be promised is not what the candidate was fitted for; reads no label.

    That includes a verifier that reads what the tier, as configured, does not bring with its answers.
    """
    policy = candidate.version.policy
    if policy.tiers != settings.tiers:
        raise DataError(f"the candidate was fitted for the tiers {policy.tiers}, not {settings.tiers}")
    if settings.pre_routes:
        return
    if not settings.joint and settings.tiers[0] not in policy.points:
        raise DataError(
            "the candidate was fitted for thresholds that are certified together: certify the promise `answered`, or "
            f"train again for `{settings.promised}`"
        )
    for tier, stage in candidate.version.stages.items():
        named = f"tier {tier!r}: verifier {stage.verifier.family}"
        check_served(named, stage.verifier.wants_signals, settings.kind(tier))
        first = () if stage.router is None else stage.router.wants_signals
        for name in (*first, *stage.asked):
            if (why := cannot_ask(name, tier, settings.tiers[-1], settings.kinds, settings.asking)) is not None:
                raise DataError(f"{named}: {why}")


def bound(version: RouterVersion, settings: Settings) -> RouterVersion:
    """The version with every certificate bound to it as it now is: hashes of all that its certificates depend on."""
    binds = {**settings.binds, **question_binds(version.asked, settings.asking), **version.binds(settings.prices)}
    coverage = Coverage() if version.certificate is None else version.certificate.coverage

    def beside(made: Mapping[str, Certificate]) -> dict[str, Certificate]:
        return {tier: replace(one, binds=binds, coverage=coverage) for tier, one in made.items()}

    return replace(
        version,
        certificate=None if version.certificate is None else replace(version.certificate, binds=binds),
        prefix_certificates=beside(version.prefix_certificates),
        overload_certificates=beside(version.overload_certificates),
    )


def _compared(version: RouterVersion, seen: CascadeEvidence, settings: Settings, asked_usd: float) -> Compared:
    """What CERT shows of the version beside always asking the last tier; `asked_usd`: of asking before a decision."""
    return compare_with_last(
        seen,
        replay_version(version, seen),
        router_usd=settings.router_usd + asked_usd,
        verifier_usd=settings.verifier_usd,
        judges_last=version.policy.judges_top,
        judges_tries=not version.policy.pre_routes(settings.tiers[0]),
        seed=settings.seed,
    )


def _to_collect(
    error: NotCertifiedError, draft: RouterVersion, tune: CascadeEvidence, settings: Settings, covered: float
) -> NotCertifiedError:
    """The same refusal, with the prompts to collect for the labels missing: only some of all prompts certify."""
    if error.labels_missing is None or settings.slicer is not None:
        return error
    first, share, of_those = settings.tiers[0], SPLIT_SHARES["cert"], ""
    if not settings.joint and not settings.pre_routes:
        routed = float((tune.p_route[:, 0] >= draft.policy.points[first].route_at).mean())
        share, of_those = share * routed, f", and {routed:.0%} of those are routed to {first}"
    if covered < 1:
        share, of_those = share * covered, f"{of_those}, and {covered:.0%} are covered"
    prompts = math.ceil(error.labels_missing / share)
    more = (
        f"Collect about {prompts:,} more {by_number(prompts, 'prompt')}: {SPLIT_SHARES['cert']:.0%} of them "
        f"certify{of_those}."
    )
    return NotCertifiedError(f"{error.reason.rstrip('.')}. {more}", error.labels_missing)
