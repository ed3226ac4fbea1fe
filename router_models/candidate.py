"""Fitting and certifying: a labelled table → a candidate policy → a certified one.

TRAIN fits router and verifier, TUNE calibrates them and places the routing threshold, CERT is read once, for the
certificate. Splits are grouped by duplicate prompts and hashed by content, so that fitting and certifying agree on
them without talking.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from router_models.calibration.base import ScoreCalibrator
from router_models.calibration.certificate import ABSTAIN_RISK, LabelSource, Promise
from router_models.calibration.labels import p_value
from router_models.calibration.scores import choose_calibrator
from router_models.calibration.sequence import Labelled, upper_bound
from router_models.calibration.thresholds import certify_threshold
from router_models.errors import ArtifactError, DataError
from router_models.features import Encoder
from router_models.operating import Evidence, cheapest_route_at, evidence_of
from router_models.outcomes import OutcomeTable, assert_disjoint, split
from router_models.policy import Policy
from router_models.pricing import Price
from router_models.routers import ROUTERS
from router_models.selection import Scored, choose_router, choose_verifier
from router_models.slicing import slices_of
from router_models.types import Answers, FloatArray, OperatingPoint
from router_models.verifiers import VERIFIERS
from router_models.version import ROUTER_SCORE, RouterVersion, Stage

SHARES: Mapping[str, float] = {"train": 0.40, "tune": 0.20, "cert": 0.40}


@dataclass(frozen=True)
class Settings:
    """What a candidate is made for. `binds`: hashes of everything served that the data came from (tiers, engines)."""

    tiers: tuple[str, str]
    prices: Mapping[str, Price]
    epsilon: float = 0.10
    delta: float = 0.10
    abstain_share: float = 0.05
    label_source: LabelSource = LabelSource.PROGRAMMATIC
    valid_days: int = 90
    seed: int = 0
    router: str = "auto"
    verifier: str = "auto"
    slicer: str | None = None
    binds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A fitted, calibrated, uncertified policy, with what the choice was made on."""

    version: RouterVersion
    dataset_hash: str
    routers: tuple[Scored, ...]
    verifiers: tuple[Scored, ...]


def fit_candidate(table: OutcomeTable, settings: Settings, encoder: Encoder, cache: Path | None = None) -> Candidate:
    """Fit on TRAIN, calibrate on TUNE, and place the routing threshold where TUNE is cheapest. CERT is not looked at.

    Raises DataError naming what is missing where the outcomes cannot support it.
    """
    cheap, frontier = settings.tiers
    table = table.only(cheap, frontier).with_embeddings(encoder, cache)
    parts = split(table, SHARES, settings.seed)
    assert_disjoint(parts)
    train, tune = parts["train"], parts["tune"]
    y = train.grade(cheap)
    best_router, routers = _router(train, y, settings)
    router = ROUTERS[best_router.family]().fit(train.prompts, y)
    router_calibrator = choose_calibrator(router.predict(tune.prompts), tune.grade(cheap), seed=settings.seed)
    stages: dict[str, Stage] = {}
    verifiers: list[Scored] = []
    for tier in (cheap, frontier):
        estimate = router_calibrator.predict(best_router.scores)  # out of fold: the router never saw these rows
        answers = train.answers_of(tier)
        answers = replace(answers, signals={**answers.signals, ROUTER_SCORE: estimate})
        best, tried = _verifier(answers, train, tier, settings)
        verifiers += tried if tier == cheap else []
        verifier = VERIFIERS[best.family]().fit(answers, train.grade(tier))
        stage = Stage(router if tier == cheap else None, router_calibrator if tier == cheap else None, verifier, None)
        raw = verifier.predict(_with_router_score(tune, tier, router.predict(tune.prompts), router_calibrator))
        stages[tier] = replace(stage, verifier_calibrator=choose_calibrator(raw, tune.grade(tier), seed=settings.seed))
    draft = RouterVersion(Policy((cheap, frontier), {}), stages, encoder=encoder)
    seen = evidence_of(draft, tune, settings.tiers, settings.prices)
    route_at, accept_guess = cheapest_route_at(seen, settings.epsilon)
    below = float(np.quantile(seen.p_frontier_ok, settings.abstain_share / 4))  # room for CERT to differ
    points = {cheap: OperatingPoint(route_at, accept_guess), frontier: OperatingPoint(np.inf, -np.inf, below)}
    draft = replace(draft, policy=Policy((cheap, frontier), points))
    return Candidate(draft, table.content_hash, tuple(routers), tuple(verifiers))


def certify_candidate(
    candidate: Candidate, table: OutcomeTable, settings: Settings, now: datetime, cache: Path | None = None
) -> tuple[RouterVersion, Evidence]:
    """Read CERT once and certify the acceptance threshold among routed prompts; returns the version and its evidence.

    Promised: P(wrong | cheap accepted) ≤ ε and, at the last tier, P(abstain) ≤ `abstain_share`, each with confidence
    1−δ. Raises NotCertifiedError with the reason and the labels missing.
    """
    cheap, frontier = settings.tiers
    draft = candidate.version
    table = table.only(cheap, frontier).with_embeddings(draft.encoder, cache)
    parts = split(table, SHARES, settings.seed)
    assert_disjoint(parts)
    tune = evidence_of(draft, parts["tune"], settings.tiers, settings.prices)
    cert = evidence_of(draft, parts["cert"], settings.tiers, settings.prices)
    point, last = draft.policy.points[cheap], draft.policy.points[frontier]
    certificate = certify_threshold(
        _routed(tune, parts["tune"], point.route_at, settings.slicer),
        _routed(cert, parts["cert"], point.route_at, settings.slicer),
        epsilon=settings.epsilon,
        delta=settings.delta,
        binds={**settings.binds, **draft.binds(settings.prices)},
        label_source=settings.label_source,
        made_at=now,
        expires_at=now + timedelta(days=settings.valid_days),
    )
    promise = _abstention(cert, last.abstain_below, settings)
    certificate = replace(certificate, also=(promise,) if promise else ())
    accept_at = certificate.threshold if certificate.threshold is not None else certificate.threshold_for(None)
    points = {
        cheap: replace(point, accept_at=accept_at),
        frontier: replace(last, abstain_below=last.abstain_below if promise else None),
    }
    policy = Policy(draft.policy.tiers, points)
    return replace(draft, policy=policy, certificate=certificate, slicer=settings.slicer), cert


def _router(train: OutcomeTable, y: FloatArray, settings: Settings) -> tuple[Scored, list[Scored]]:
    if settings.router == "auto":
        return choose_router(train.prompts, y, train.groups, seed=settings.seed)
    _, tried = choose_router(train.prompts, y, train.groups, (settings.router,), seed=settings.seed)
    return tried[1], tried


def _verifier(answers: Answers, train: OutcomeTable, tier: str, settings: Settings) -> tuple[Scored, list[Scored]]:
    if settings.verifier == "auto":
        return choose_verifier(answers, train.grade(tier), train.groups, seed=settings.seed)
    _, tried = choose_verifier(answers, train.grade(tier), train.groups, (settings.verifier,), seed=settings.seed)
    return tried[1], tried


def _with_router_score(table: OutcomeTable, tier: str, raw: FloatArray, calibrator: ScoreCalibrator) -> Answers:
    answers = table.answers_of(tier)
    return replace(answers, signals={**answers.signals, ROUTER_SCORE: calibrator.predict(raw)})


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
    if below is None:
        return None
    n, k = len(cert.p_frontier_ok), int((cert.p_frontier_ok < below).sum())
    if p_value(k, n, settings.abstain_share) > settings.delta:
        return None
    bound = upper_bound(k, n, settings.delta)
    return Promise(ABSTAIN_RISK, settings.abstain_share, settings.delta, n, k, bound, below)


def save_candidate(candidate: Candidate, settings: Settings, folder: Path) -> None:
    """Write the uncertified version and what it was made for; `load_candidate` reads it back."""
    notes = folder.with_name(f".{folder.name}-notes")
    notes.mkdir(parents=True, exist_ok=True)
    tried = {"routers": _scored_json(candidate.routers), "verifiers": _scored_json(candidate.verifiers)}
    data = {"dataset_sha256": candidate.dataset_hash, "seed": settings.seed, **tried}
    (notes / "candidate.json").write_text(json.dumps(data, indent=1))
    candidate.version.save(folder, extra=notes)
    shutil.rmtree(notes)


def load_candidate(folder: Path, settings: Settings, encoder: Encoder) -> tuple[Candidate, Settings]:
    """Read a candidate; `settings` get the seed it was split with. Raises ArtifactError where it is damaged."""
    version = replace(RouterVersion.load(folder), encoder=encoder)
    try:
        data = json.loads((folder / "candidate.json").read_text())
        routers, verifiers = (
            tuple(Scored(scores=np.empty(0), **row) for row in data[k]) for k in ("routers", "verifiers")
        )
        return Candidate(version, data["dataset_sha256"], routers, verifiers), replace(
            settings, seed=int(data["seed"])
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{folder}: not a candidate that `train` wrote ({error})") from error


def _scored_json(tried: tuple[Scored, ...]) -> list[dict[str, float | str]]:
    names = ("family", "auc", "advantage", "low", "high")
    return [{name: getattr(scored, name) for name in names} for scored in tried]
