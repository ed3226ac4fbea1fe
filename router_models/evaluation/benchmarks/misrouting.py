"""How many prompts that a cheap tier answers wrong reach it once they are rewritten for that.

A version is attacked with prompts that it was not fitted on, and that its cheapest tier answers wrong. Of each way of
rewriting them (`perturbations`) two shares count: of prompts that are newly routed to that tier while the certificate
covers them, and of those whose answer the verifier then accepts. What is not covered is promised nothing, and goes to
the last tier by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.metrics import Interval
from router_models.training.evidence import answers_as_served
from router_models.training.splits import LabelledSplits
from router_models.types import BoolArray, FloatArray, OperatingPoint, Progress
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import NOT_COMPARED
from router_models.versions.covering.attack_limits import certified_coverage
from router_models.versions.covering.covered_rows import uncovered_rows
from router_models.versions.covering.perturbations import ANSWER_PERTURBATIONS, PERTURBATIONS, Perturbation
from router_models.versions.covering.rewriting import ADDED, RIGHT, easiest, embedded_rows, rewritten_rows
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

ORDINARY = 400
"""Prompts of CERT of which it is counted how many are not covered as they are, where several families are attacked."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Hold what one way of rewriting hard prompts, or their answers, did; shares with 95 % intervals.

    Parameters
    ----------
    name, kind : str
        The perturbation; `kind` is "answer" for one of answers.
    not_covered : float
        The share of the rewritten prompts that the certificate does not cover.
    alone : float
        The share that the router alone, not asked about coverage, newly sends to the cheapest tier.
    routed : float
        The share that is sent there and covered, beside `Misrouting.routed` of the prompts as they were.
    moved : Interval
        The share that is newly sent there and covered.
    accepted : Interval, optional
        The share of which the cheapest tier's answer is newly accepted as well; None: not known, as its answer to the
        rewritten prompt may be another.
    rise : Interval
        By how much the share that is sent there and covered is larger than it was: those that are moved less those
        that were sent there, and are no longer.
    """

    name: str
    kind: str
    not_covered: float
    alone: float
    routed: float
    moved: Interval
    accepted: Interval | None
    rise: Interval = field(default_factory=lambda: Interval(0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Misrouting:
    """Hold what all perturbations did to `prompts` hard prompts of one version.

    Parameters
    ----------
    name : str
        What was attacked.
    prompts : int
        Prompts that the cheapest tier answers wrong.
    epsilon : float
        The largest share that may move.
    routed, accepted : float
        The shares that were sent to the cheapest tier, and accepted there, before anything was rewritten.
    any_moved : float
        The share that at least one of the perturbations moves: of an attacker who knows which.
    rows : tuple of Rewritten
        One for each perturbation.
    ordinary : float, optional
        The share of CERT's prompts, as they were asked, that are not covered for their parts; None: not counted.
    """

    name: str
    prompts: int
    epsilon: float
    routed: float
    accepted: float | None
    any_moved: float
    rows: tuple[Rewritten, ...]
    ordinary: float | None = None

    @property
    def most_risen(self) -> Rewritten:
        """Return the perturbation under which most hard prompts are sent down, and covered."""
        return max((row for row in self.rows if row.kind != "answer"), key=lambda row: row.routed)

    @property
    def beyond(self) -> tuple[Rewritten, ...]:
        """Return the perturbations that have more than ε of the hard prompts moved, or accepted."""
        return tuple(
            row
            for row in self.rows
            if row.moved.value > self.epsilon or (row.accepted is not None and row.accepted.value > self.epsilon)
        )


@dataclass(frozen=True)
class _Judged:
    """What a version makes of n prompts, (n,): the router's estimates, sent to the cheapest tier, and covered."""

    p_route: FloatArray
    cheap: BoolArray
    covered: BoolArray

    @property
    def down(self) -> BoolArray:
        return self.cheap & self.covered


def measure_misrouting(
    version: RouterVersion,
    coverage: Coverage,
    held_out: OutcomeTable,
    easy: Sequence[str],
    *,
    name: str,
    epsilon: float,
    most: int,
    ways: Mapping[str, Perturbation] = PERTURBATIONS,
    progress: Progress = lambda _: None,
) -> Misrouting:
    """Rewrite prompts that the cheapest tier answers wrong, and see where they go.

    Parameters
    ----------
    version : RouterVersion
        With a router and a threshold for its cheapest tier.
    coverage : Coverage
        Of its certificate, or of the one that it would get.
    held_out : OutcomeTable
        Prompts that it was not fitted on, graded for its tiers.
    easy : sequence of str
        Prompts that the router is sure of, at least `ADDED`.
    name : str
        What is attacked, for the page.
    epsilon : float
        The largest share that may move.
    most : int
        Hard prompts to attack, the first of the table.
    ways : mapping of str to Perturbation
        How prompts are rewritten; all ways by default.
    progress : callable
        Receives a sentence about each perturbation.

    Raises
    ------
    DataError
        Where no prompt is hard, or there are too few easy ones.
    """
    tier = version.policy.tiers[0]
    hard = held_out.take(np.flatnonzero(held_out.grade(tier) < RIGHT)[:most])
    if not len(hard) or len(easy) < ADDED:
        raise DataError(f"{len(hard)} prompts that {tier!r} answers wrong, and {len(easy)} easy ones: too few")
    has_answers = tier in hard.answers and any(text.strip() for text in hard.answers[tier].texts)
    before = _judged(version, coverage, hard)
    accepts, rows = _accepted(version, hard, before, before.down) if has_answers else None, []
    any_moved = np.zeros(len(hard), dtype=np.bool_)
    for called, perturbation in ways.items():
        progress(f"{name}: {called}")
        rewritten = rewritten_rows(hard, perturbation, easy)
        after = _judged(version, coverage, rewritten)
        moved = after.down & ~before.down
        any_moved |= moved
        newly = None
        if accepts is not None and perturbation.neutral:
            newly = _share(_accepted(version, rewritten, after, after.down) & ~accepts)
        rows.append(
            Rewritten(
                called, perturbation.kind, float((~after.covered).mean()), float((after.cheap & ~before.cheap).mean()),
                float(after.down.mean()), _share(moved), newly, _rise(before.down, after.down),
            )
        )  # fmt: skip
    if has_answers:
        rows += _answers_rewritten(version, hard, before)
    routed, agreed = float(before.down.mean()), None if accepts is None else float(accepts.mean())
    return Misrouting(name, len(hard), epsilon, routed, agreed, float(any_moved.mean()), tuple(rows))


def measure_families(
    splits: LabelledSplits,
    families: Sequence[str],
    encoder: TextEncoder,
    *,
    epsilon: float,
    most: int,
    seed: int = 0,
    name: str | None = None,
    ways: Mapping[str, Perturbation] = PERTURBATIONS,
    compared: bool = True,
    progress: Progress = lambda _: None,
) -> list[Misrouting]:
    """Fit router families, and attack each as `measure_misrouting` does, with the same prompts and easy questions.

    What depends on a text alone, its embedding above all, is computed once for all of them.

    Parameters
    ----------
    splits : LabelledSplits
        Of two tiers, with embeddings where a family reads them.
    families : sequence of str
        Names in `ROUTERS`.
    encoder : TextEncoder
        What embedded the prompts.
    epsilon : float
        The largest share that may move.
    most : int
        Hard prompts of CERT to attack.
    seed : int
        Of the calibrators.
    name : str, optional
        What the attacked is called on the page; None: as its family.
    ways : mapping of str to Perturbation
        How prompts are rewritten; all ways by default.
    compared : bool
        Whether parts and spelling are compared; False: a control, that shows what that does.
    progress : callable
        Receives a sentence about each step.
    """
    found = []
    few = replace(splits, cert=splits.cert.take(np.arange(min(ORDINARY, len(splits.cert)))))
    with each_text_once():
        made = {}
        for family in families:
            progress(f"fitting {family}")
            made[family] = routed_version(few, family, encoder, seed, epsilon)
        easy = easiest([version for version, _ in made.values()], splits.train)
        cert = replace(splits.cert, answers={}) if len(families) > 1 else splits.cert
        for family, (version, coverage) in made.items():
            called = family if name is None else name
            coverage = coverage if compared else replace(coverage, text=NOT_COMPARED)
            attacked = measure_misrouting(
                version, coverage, cert, easy, name=called, epsilon=epsilon, most=most, ways=ways, progress=progress
            )
            unlike = dict(coverage.left_out).get("parts", 0)
            found.append(replace(attacked, ordinary=unlike / len(few.cert)))
    return found


def routed_version(
    splits: LabelledSplits, family: str, encoder: TextEncoder, seed: int, epsilon: float = 0.10
) -> tuple[RouterVersion, Coverage]:
    """Fit a router alone as `train` does, half of TUNE's prompts going to the cheaper of two tiers, uncertified.

    Returns the version, and the coverage that a certificate on CERT would have.
    """
    tiers = splits.tiers
    fitted = RouterWithFallback(ROUTERS[family]()).fit(splits.train.prompts, splits.train.grade(tiers[0]))
    scores = fitted.router.predict(splits.tune.prompts)
    calibrator = choose_calibrator(scores, (splits.tune.grade(tiers[0]) >= RIGHT).astype(np.float64), seed=seed)
    stage = Stage(fitted.router, calibrator, NonEmptyVerifier(), None, fitted.fallback_)
    half = float(np.median(stage.estimate_route(splits.tune.prompts)))
    version = RouterVersion(
        Policy(tiers, {tiers[0]: OperatingPoint(half, 0.0)}),
        {tiers[0]: stage},
        encoder=encoder,  # type: ignore[arg-type]
        novelty=NoveltyDetector().fit(splits.train.prompts, embedded=fitted.router.needs_embeddings),
        spelling=Spelling().fit(splits.train.prompts.texts),
    )
    return version, certified_coverage(version, splits.train, splits.tune, splits.cert, epsilon)


def _judged(version: RouterVersion, coverage: Coverage, table: OutcomeTable) -> _Judged:
    tier = version.policy.tiers[0]
    table = embedded_rows(version, table) if version.needs_encoder else table
    p = version.stages[tier].estimate_route(table.prompts)
    cheap = np.array([version.policy.decide({tier: float(one)}).tier == tier for one in p], dtype=np.bool_)
    covered = np.array([why is None for why in uncovered_rows(coverage, version, table)], dtype=np.bool_)
    return _Judged(p, cheap, covered)


def _accepted(version: RouterVersion, table: OutcomeTable, judged: _Judged, which: BoolArray) -> BoolArray:
    """Return which of these rows' answers the verifier accepts, (n,); the others are not looked at."""
    tier, rows = version.policy.tiers[0], np.flatnonzero(which)
    found = np.zeros(len(table), dtype=np.bool_)
    if len(rows):
        part, stage = table.take(rows), version.stages[tier]
        part = embedded_rows(version, part) if stage.verifier.wants_embeddings else part
        answers = answers_as_served(part, version.policy.tiers, tier, judged.p_route[rows])
        p_ok = stage.estimate_ok(replace(answers, prompts=part.prompts))
        found[rows] = p_ok >= version.policy.points[tier].accept_at
    return found


def _answers_rewritten(version: RouterVersion, hard: OutcomeTable, before: _Judged) -> list[Rewritten]:
    """Return what becomes of wrong answers that speak to the verifier, whichever tier the router would have chosen."""
    tier, everywhere = version.policy.tiers[0], np.ones(len(hard), dtype=np.bool_)
    hard = embedded_rows(version, hard) if version.stages[tier].verifier.wants_embeddings else hard
    answers, rows = hard.answers[tier], []
    known = _accepted(version, hard, before, everywhere)
    for called, rewrite in ANSWER_PERTURBATIONS.items():
        said = replace(answers, texts=tuple(rewrite(text) for text in answers.texts))
        now = _accepted(version, replace(hard, answers={**hard.answers, tier: said}), before, everywhere)
        newly = _share(now & ~known)
        rows.append(Rewritten(called, "answer", 0.0, 0.0, float(now.mean()), newly, newly))
    return rows


def _rise(before: BoolArray, after: BoolArray) -> Interval:
    """Return the difference of two shares of the same prompts, with its interval by their discordant pairs."""
    n, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    value = (gained - lost) / n
    half = 1.96 * float(np.sqrt(gained + lost - (gained - lost) ** 2 / n)) / n
    if not gained and not lost:  # as where nothing is ever sent down: that of n none changed leaves some open
        half = 1 - 0.025 ** (1 / n)
    return Interval(value, value - half, value + half)


def _share(hits: BoolArray) -> Interval:
    """Return a share with its exact interval."""
    from scipy.stats import beta

    n, k = len(hits), int(hits.sum())
    low = float(beta.ppf(0.025, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return Interval(k / n, low, high)
