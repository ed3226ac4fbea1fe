"""Fitting: a labelled table → a candidate policy that promises nothing yet.

TRAIN fits routers and verifiers, TUNE calibrates them and, between two tiers, places the routing threshold; CERT is
not looked at. Verifiers learn from what they are shown when serving, and from nothing else (`answers_as_served`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import by_number
from router_models.estimators.calibrators.scores import choose_calibrator, constant_calibrator
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import VERIFIERS, NonEmptyVerifier
from router_models.training.candidate import Candidate, Settings
from router_models.training.evidence import answers_as_served, cheapest_route_at, evidence_of
from router_models.training.labelling.given_stages import GivenStages, kept_results
from router_models.training.labelling.preferences import VotesToLearnFrom, with_votes
from router_models.training.outcome_checks import check_classes, check_outcomes
from router_models.training.selection.asking import (
    asking_first,
)
from router_models.training.selection.families import choose_tier_router, choose_tier_verifier
from router_models.training.selection.model_selection import (
    Scored,
)
from router_models.training.splits import LabelledSplits
from router_models.types import FloatArray, OperatingPoint, Progress
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage


@each_text_once()
def fit_candidate(
    splits: LabelledSplits,
    settings: Settings,
    encoder: Encoder,
    progress: Progress = lambda _: None,
    votes: VotesToLearnFrom | None = None,
    given: GivenStages | None = None,
) -> Candidate:
    """Fit on TRAIN and calibrate on TUNE. CERT is not looked at.

    A last tier that TRAIN knows to be right everywhere gets no verifier, but its level: nothing is abstained from.

    Parameters
    ----------
    splits : LabelledSplits
        The outcomes of the settings' tiers, with embeddings; `split_outcomes` makes them.
    settings : Settings
        Tiers, prices, families and the seed of the splits.
    encoder : Encoder
        What made the embeddings; the version keeps it.
    progress : callable
        Called with a sentence for every family that is tried within a budget.
    votes : VotesToLearnFrom, optional
        Preference votes, with embeddings: the routers learn from them too. None of a prompt in TUNE or CERT counts.
    given : GivenStages, optional
        Stages of tiers below the last that are kept as they are, and routers that were fitted elsewhere.

    Returns
    -------
    Candidate
        Fitted and calibrated; it promises nothing until `certify_candidate`.

    Raises
    ------
    DataError
        Naming what is missing where the outcomes cannot support it: too few prompts, a cheaper tier that is always
        right or always wrong, a tier that is dearer and worse, prices at which nothing can be saved.
    """
    tiers, promised = settings.tiers, settings.promised
    splits.check(tiers, settings.seed, settings.group_by)
    check_outcomes(splits.table.only(*tiers), settings)
    train, tune = (asking_first(part, settings) for part in (splits.train, splits.tune))
    check_classes(train, "fit on", tiers[:-1])
    check_classes(tune, "calibrate routers on", tiers[:-1])
    stages: dict[str, Stage] = {}
    routers: dict[str, tuple[Scored, ...]] = {}
    verifiers: dict[str, tuple[Scored, ...]] = {}
    estimates: dict[str, tuple[FloatArray, FloatArray]] = {}
    if votes is not None:
        votes, unused = votes.apart_from(splits)
        progress(
            f"{len(votes.table):,} votes may train; {unused:,} {by_number(unused, 'is', 'are')} on prompts "
            "that tune or certify"
        )
    for tier in tiers[:-1]:
        if given is not None and tier in given.kept:
            stages[tier], verifiers[tier] = given.kept[tier], ()
            routers[tier] = kept_results(stages[tier], tune, tier, settings.seed)
            estimates[tier] = stages[tier].estimate_route(train.prompts), stages[tier].estimate_route(tune.prompts)
            continue
        choice = given.routers.get(tier) if given is not None else None
        if choice is None:
            best, tried = choose_tier_router(train, tier, settings, progress)
            if votes is not None:
                choice = with_votes(best, tried, votes, train, tier, tiers[-1], seed=settings.seed, progress=progress)
            if choice is None:
                fitted = RouterWithFallback(ROUTERS[best.family]()).fit(train.prompts, train.grade(tier))
        if choice is not None:
            if choice.said:
                progress(choice.said)
            best, tried = choice.best, list(choice.tried)
            fitted = RouterWithFallback(choice.router).around(train.prompts, train.grade(tier))
        routers[tier] = tuple(tried)
        calibrator = choose_calibrator(fitted.router.predict(tune.prompts), tune.grade(tier), seed=settings.seed)
        stage = Stage(fitted.router, calibrator, NonEmptyVerifier(), None, fitted.fallback_)
        # Out of fold on TRAIN: the router never saw these rows.
        estimates[tier] = calibrator.predict(best.scores), stage.estimate_route(tune.prompts)
        judging, verifiers[tier] = _judging(tier, train, tune, estimates[tier], settings, progress)
        stages[tier] = replace(stage, verifier=judging.verifier, verifier_calibrator=judging.verifier_calibrator)
    stages[tiers[-1]], verifiers[tiers[-1]] = _judging(tiers[-1], train, tune, estimates[tiers[0]], settings, progress)
    draft = RouterVersion(Policy(tiers, {}), stages, encoder=encoder)
    draft = replace(
        draft,
        novelty=NoveltyDetector().fit(train.prompts, embedded=draft.needs_encoder),
        spelling=Spelling().fit(train.prompts.texts),
    )
    if len(tiers) == 2 and promised != "answered":
        draft = replace(draft, policy=_two_tier_policy(draft, tune, settings, may_abstain=bool(verifiers[tiers[-1]])))
    return Candidate(draft, splits.table.content_hash, routers, verifiers)


def _two_tier_policy(draft: RouterVersion, tune: OutcomeTable, settings: Settings, *, may_abstain: bool) -> Policy:
    """Thresholds by TUNE: the routing threshold is final, the acceptance threshold a guess until certified."""
    cheap, frontier = settings.tiers
    seen = evidence_of(draft, tune, settings.prices, asking=settings.asking)
    route_at, accept_guess = cheapest_route_at(seen, settings.epsilon, harm=settings.promised == "harm")
    below = float(np.quantile(seen.p_ok[:, -1], settings.abstain_share / 4))  # room for CERT to differ
    last = OperatingPoint(np.inf, -np.inf, below if may_abstain else None)
    points = {cheap: OperatingPoint(route_at, accept_guess), frontier: last}
    return Policy(settings.tiers, points)


def _judging(
    tier: str,
    train: OutcomeTable,
    tune: OutcomeTable,
    estimates: tuple[FloatArray, FloatArray],
    settings: Settings,
    progress: Progress,
) -> tuple[Stage, tuple[Scored, ...]]:
    """A tier's verifier and its calibrator, and what was tried; `estimates`: a router's on TRAIN and on TUNE.

    A tier that TRAIN has only right answers of gets its level as every answer's estimate, and nothing was tried.
    """
    if tier == settings.tiers[-1] and train.grade(tier).min() == 1:
        return Stage(None, None, NonEmptyVerifier(), constant_calibrator(train.grade(tier))), ()
    choice, tried = choose_tier_verifier(train, tier, estimates[0], settings, progress)
    best = choice.best
    learning, checking = (
        answers_as_served(part, settings.tiers, tier, estimate, settings.kind(tier), choice.asked)
        for part, estimate in zip((train, tune), estimates, strict=True)
    )
    verifier = VERIFIERS[best.family]().fit(learning, train.grade(tier))
    scores, grades = verifier.predict(checking), tune.grade(tier)
    if grades.min() == grades.max():  # a tier that is hardly ever wrong: what TRAIN said out of fold is needed too
        scores, grades = np.append(best.scores, scores), np.append(train.grade(tier), grades)
    calibrator = choose_calibrator(scores, grades, seed=settings.seed)
    return Stage(None, None, verifier, calibrator), tuple(tried)
