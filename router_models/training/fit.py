"""Fitting: a labelled table → a candidate policy that promises nothing yet.

TRAIN fits routers and verifiers, TUNE calibrates them and, between two tiers, places the routing threshold; CERT is
not looked at. Verifiers learn from what they are shown when serving, and from nothing else (`answers_as_served`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import UNKNOWN, slices_of
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError, by_number
from router_models.estimators.asked_signals import asked_among, cannot_ask
from router_models.estimators.calibrators.scores import choose_calibrator, constant_calibrator
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.registry import Registry
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import VERIFIERS, NonEmptyVerifier
from router_models.pricing.call_costs import call_costs
from router_models.pricing.tier_costs import check_ladder
from router_models.training.asking import (
    READING_VERIFIERS,
    VerifierChoice,
    asking_first,
    asking_gains,
    lacking_first,
    per_thousand,
    recorded_signals,
    router_that_asks,
)
from router_models.training.auto_router import choose_by_area
from router_models.training.candidate import Candidate, Settings
from router_models.training.evidence import answers_as_served, cheapest_route_at, evidence_of
from router_models.training.labelling.given_stages import GivenStages, kept_results
from router_models.training.labelling.preferences import VotesToLearnFrom, with_votes
from router_models.training.model_selection import (
    Scored,
    choose_router,
    choose_verifier,
    served_verifier_signals,
    usable_verifiers,
)
from router_models.training.splits import LabelledSplits
from router_models.types import Answers, FloatArray, IntArray, OperatingPoint, Progress
from router_models.types.exchange import verifier_of
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

LEAST_PROMPTS = 60
CLEARLY = 1.645
"""Standard errors by which a dearer tier must be worse before it is refused."""


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
    _check_classes(train, "fit on", tiers[:-1])
    _check_classes(tune, "calibrate routers on", tiers[:-1])
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
            best, tried = _router(train, tier, settings, progress)
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


def check_outcomes(table: OutcomeTable, settings: Settings) -> None:
    """Raise DataError where these outcomes, at these prices, cannot be learned from or have nothing to save."""
    if len(table) < LEAST_PROMPTS:
        raise DataError(
            f"{len(table)} prompts are graded for every tier; at least {LEAST_PROMPTS} are needed to fit, calibrate "
            "and certify on separate ones: collect more"
        )
    right = {tier: table.grade(tier) for tier in settings.tiers}
    top = settings.tiers[-1]
    for tier, grades in right.items():
        if grades.min() == grades.max() and (tier != top or grades[0] < 1):
            known = {0.0: f"leave {tier!r} out", 1.0: f"serve {tier!r} alone"}.get(float(grades[0]), "collect others")
            raise DataError(f"every grade of tier {tier!r} is {grades[0]:g}: there is nothing to tell apart; {known}")
    usd = {tier: call_costs(table, tier, settings.prices[tier]) for tier in settings.tiers}
    for tier in settings.tiers[:-1]:
        check_ladder(usd, right, tier, top)
        less = right[top] - right[tier]
        if less.mean() + CLEARLY * less.std() / np.sqrt(len(less)) < 0:
            raise DataError(
                f"{top!r} is dearer than {tier!r} (${usd[top].mean():.3g} against ${usd[tier].mean():.3g} a call) and "
                f"worse ({right[top].mean():.1%} right against {right[tier].mean():.1%}): serve {tier!r} alone"
            )


def _check_classes(part: OutcomeTable, purpose: str, tiers: Sequence[str]) -> None:
    for tier in tiers:
        grades = part.grade(tier)
        if len(part) == 0 or grades.min() == grades.max():
            raise DataError(
                f"of the {len(part)} prompts to {purpose}, tier {tier!r} answered all alike (all right or all wrong): "
                "collect more, or harder and easier ones"
            )


def domain_labels(table: OutcomeTable) -> IntArray | None:
    """A number for every prompt's domain, (n,), -1 where it has none; None where fewer than two are recorded."""
    names = slices_of("domain", table.prompts)
    number = {name: i for i, name in enumerate(sorted(set(names) - {UNKNOWN}))}
    return np.array([number.get(name, -1) for name in names], dtype=np.int64) if len(number) > 1 else None


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
    choice, tried = _verifier(train, tier, estimates[0], settings, progress)
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


def _router(train: OutcomeTable, tier: str, settings: Settings, progress: Progress) -> tuple[Scored, list[Scored]]:
    domains, y, seed = domain_labels(train), train.grade(tier), settings.seed
    if settings.router == "auto":
        chosen, budget_s, began = None, math.inf, time.monotonic()
        if settings.budget_s is not None:
            budget_s = settings.budget_s / (len(settings.tiers) - 1)
            chosen = choose_by_area(train, tier, settings.tiers[-1], budget_s, seed=seed, progress=progress)
        best, tried = chosen or choose_router(train.prompts, y, train.groups, seed=seed, domains=domains)
        if train.prompts.signals and time.monotonic() - began >= budget_s:
            progress(f"router asked-first: not tried, the budget of {budget_s:.0f} s is used up")
            return best, tried
        return router_that_asks(train, tier, settings, best, tried, progress) or best, tried
    if lacking := lacking_first(settings.router, train):
        raise DataError(
            f"router {settings.router}: the outcomes hold no {' and no '.join(lacking)} of tier {settings.tiers[0]!r} "
            f"that it may ask for: collect them (`serve-graph collect --signals {','.join(lacking)}`)"
        )
    _, tried = choose_router(train.prompts, y, train.groups, (settings.router,), seed=seed, domains=domains)
    return _named(settings.router, tried, ROUTERS), tried


def _verifier(
    train: OutcomeTable, tier: str, estimate: FloatArray, settings: Settings, progress: Progress
) -> tuple[VerifierChoice, list[Scored]]:
    """The verifier family of a tier with the signals that it is shown, and all that were tried.

    `auto` asks for signals where that pays, unless `Settings.signals` says which; the last tier's are never asked for.
    """
    kind, y, seed = settings.kind(tier), train.grade(tier), settings.seed
    named = None if settings.verifier == "auto" else settings.verifier
    read: tuple[str, ...] = ()
    if named is not None:
        try:
            given = settings.signals if settings.signals is not None else train.answers_of(tier).signals
            read = served_verifier_signals(named, kind, [name for name in given if verifier_of(name) is not None])
            _check_asked_of(asked_among(read), tier, settings)
        except DataError as error:
            if tier != settings.tiers[-1]:
                raise DataError(f"tier {tier!r}: {error}") from None
            named = None  # the last tier's answers need no such verifier: nothing dearer could take over
    asked = asked_among((*(settings.signals or ()), *(read if named else ())))
    if tier == settings.tiers[-1]:
        asked = ()
    _check_asked_of(asked, tier, settings)

    def shown(signals: Sequence[str]) -> Answers:
        return answers_as_served(train, settings.tiers, tier, estimate, kind, signals)

    answers = shown(asked)
    if named is not None:
        _, tried = choose_verifier(answers, y, train.groups, (named,), seed=seed)
        return VerifierChoice(_named(named, tried, VERIFIERS), asked), tried
    families = READING_VERIFIERS if asked else usable_verifiers(answers)
    best, tried = choose_verifier(answers, y, train.groups, families, seed=seed)
    choice = VerifierChoice(best, asked)
    possible = recorded_signals(train, tier, settings)
    if settings.signals is not None or tier == settings.tiers[-1] or not possible:
        return choice, tried
    shown_more: dict[tuple[str, ...], Scored] = {}
    for more in (*((name,) for name in possible), *([possible] if len(possible) > 1 else [])):
        found, _ = choose_verifier(shown(more), y, train.groups, READING_VERIFIERS, seed=seed)
        shown_more[more] = found
        tried.append(replace(found, family=f"{found.family} with {' and '.join(more)}"))
    gains = asking_gains(train, tier, estimate, best, shown_more, settings)
    for more, gain in gains.items():
        pays = "they pay for themselves" if gain.low > 0 else "not asked for"
        progress(f"tier {tier}: {' and '.join(more)} after their calls save {per_thousand(gain)}: {pays}")
    paying = [more for more, gain in gains.items() if gain.low > 0]
    if not paying:
        return choice, tried
    dearest = max(paying, key=lambda more: gains[more].value)
    return VerifierChoice(shown_more[dearest], dearest), tried


def _check_asked_of(asked: Sequence[str], tier: str, settings: Settings) -> None:
    """Raise DataError where a signal cannot be asked for of a tier's answers in these tiers."""
    for name in asked:
        if tier == settings.tiers[-1]:
            raise DataError(f"the signal {name} is not asked for of the last tier's answers")
        if (why := cannot_ask(name, tier, settings.tiers[-1], settings.kinds, settings.asking)) is not None:
            raise DataError(f"tier {tier!r}: {why}")


def _named(family: str, tried: Sequence[Scored], registry: Registry[Any]) -> Scored:
    """The result of the family that was asked for, which may be the baseline itself."""
    name = registry.current_name(family)
    return next(scored for scored in tried if scored.family == name)
