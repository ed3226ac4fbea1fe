"""How many prompts that a cheap tier answers wrong reach it once they are rewritten for that.

A version is attacked with prompts that it was not fitted on, and that its cheapest tier answers wrong. Of each way of
rewriting them (`perturbations`) two shares count: of prompts that are newly routed to that tier while the certificate
covers them, and of those whose answer the verifier then accepts. What is not covered is promised nothing, and goes to
the last tier by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from router_models.data.embeddings.cache import TextEncoder
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.evaluation.benchmarks.perturbations import ANSWER_PERTURBATIONS, PERTURBATIONS, Perturbation
from router_models.metrics import Interval
from router_models.reports.markdown import percent
from router_models.reports.markdown import table as markdown_table
from router_models.training.evidence import answers_as_served
from router_models.training.splits import LabelledSplits
from router_models.types import BoolArray, FloatArray, OperatingPoint, Progress, Prompts
from router_models.types.coverage import Coverage
from router_models.versions.covered_rows import conversations, coverage_of, uncovered_rows
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EASIEST = 60
"""The easiest training prompts, from which what is added to a question is drawn."""
ADDED = 5
RIGHT = 0.5
"""From which grade on an answer is right, where grades are fractions."""


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
    """

    name: str
    kind: str
    not_covered: float
    alone: float
    routed: float
    moved: Interval
    accepted: Interval | None


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
    """

    name: str
    prompts: int
    epsilon: float
    routed: float
    accepted: float | None
    any_moved: float
    rows: tuple[Rewritten, ...]

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
    for called, perturbation in PERTURBATIONS.items():
        progress(f"{name}: {called}")
        rewritten = _rewritten(hard, perturbation, easy)
        after = _judged(version, coverage, rewritten)
        moved = after.down & ~before.down
        any_moved |= moved
        newly = None
        if accepts is not None and perturbation.neutral:
            newly = _share(_accepted(version, rewritten, after, after.down) & ~accepts)
        rows.append(
            Rewritten(
                called, perturbation.kind, float((~after.covered).mean()), float((after.cheap & ~before.cheap).mean()),
                float(after.down.mean()), _share(moved), newly,
            )
        )  # fmt: skip
    if has_answers:
        rows += _answers_rewritten(version, hard, before)
    routed, agreed = float(before.down.mean()), None if accepts is None else float(accepts.mean())
    return Misrouting(name, len(hard), epsilon, routed, agreed, float(any_moved.mean()), tuple(rows))


def easiest(version: RouterVersion, train: OutcomeTable) -> list[str]:
    """Return the training prompts that the router is surest of, of those that the cheapest tier answers right."""
    tier = version.policy.tiers[0]
    scores = version.stages[tier].estimate_route(train.prompts)
    right, texts = train.grade(tier), conversations(train)
    order = [i for i in np.argsort(-scores, kind="stable") if right[i] >= RIGHT and texts[i].strip()]
    return [texts[i] for i in order[:EASIEST]]


def routed_version(
    splits: LabelledSplits, family: str, encoder: TextEncoder, seed: int
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
        spelling=Spelling().fit(splits.train.prompts.texts),
    )
    return version, coverage_of(version, splits.tune, splits.cert)


def misrouting_page(found: Sequence[Misrouting], made: str = "") -> str:
    """Return the page as Markdown: what every perturbation did to each of several versions."""
    parts = ["# Prompts written to be routed elsewhere", made]
    for one in found:
        before = f"{one.routed:.1%} of them were sent to it and covered before anything was rewritten"
        before += "" if one.accepted is None else f", {one.accepted:.1%} accepted there"
        beyond = ", ".join(row.name for row in one.beyond) or "none"
        head = ["rewritten as", "kind", "not covered", "router alone moves", "routed and covered", "moved", "accepted"]
        body = [
            [
                row.name, row.kind, f"{row.not_covered:.0%}", f"{row.alone:.1%}", f"{row.routed:.1%}",
                percent(row.moved), "" if row.accepted is None else percent(row.accepted),
            ]
            for row in one.rows
        ]  # fmt: skip
        parts += [
            f"## {one.name}",
            f"{one.prompts} held-out prompts that the cheapest tier answers wrong; {before}. Beyond ε = "
            f"{one.epsilon:g}: {beyond}. Some perturbation or other moves {one.any_moved:.1%} of them.",
            markdown_table([head, *body]),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def misrouting_figures(found: Sequence[Misrouting]) -> Any:
    """Return the figures as JSON values."""
    return to_json_values(list(found))


def _rewritten(hard: OutcomeTable, perturbation: Perturbation, easy: Sequence[str]) -> OutcomeTable:
    """Return the table with every prompt rewritten; its answers stay those of the prompts as they were."""
    texts, turns = [], []
    asked = hard.prompts.metadata.get("turns", ("",) * len(hard))
    for row, (text, said) in enumerate(zip(hard.prompts.texts, conversations(hard), strict=True)):
        added = [easy[(row * ADDED + i) % len(easy)] for i in range(ADDED)]
        made = perturbation.rewrite(said, added)
        texts.append(text[: len(text) - len(said)] + "\n".join(made))
        turns.append(str(int(asked[row] or 1) + len(made) - 1))
    return replace(hard, prompts=Prompts(tuple(texts), None, {**hard.prompts.metadata, "turns": tuple(turns)}))


def _judged(version: RouterVersion, coverage: Coverage, table: OutcomeTable) -> _Judged:
    tier = version.policy.tiers[0]
    table = _embedded(version, table) if version.needs_encoder else table
    p = version.stages[tier].estimate_route(table.prompts)
    cheap = np.array([version.policy.decide({tier: float(one)}).tier == tier for one in p], dtype=np.bool_)
    covered = np.array([why is None for why in uncovered_rows(coverage, version, table)], dtype=np.bool_)
    return _Judged(p, cheap, covered)


def _embedded(version: RouterVersion, table: OutcomeTable) -> OutcomeTable:
    prompts = table.prompts
    if prompts.embeddings is None:
        prompts = replace(prompts, embeddings=version.encoder.encode(prompts.texts))
    return replace(table, prompts=prompts)


def _accepted(version: RouterVersion, table: OutcomeTable, judged: _Judged, which: BoolArray) -> BoolArray:
    """Return which of these rows' answers the verifier accepts, (n,); the others are not looked at."""
    tier, rows = version.policy.tiers[0], np.flatnonzero(which)
    found = np.zeros(len(table), dtype=np.bool_)
    if len(rows):
        part, stage = table.take(rows), version.stages[tier]
        part = _embedded(version, part) if stage.verifier.wants_embeddings else part
        answers = answers_as_served(part, version.policy.tiers, tier, judged.p_route[rows])
        p_ok = stage.estimate_ok(replace(answers, prompts=part.prompts))
        found[rows] = p_ok >= version.policy.points[tier].accept_at
    return found


def _answers_rewritten(version: RouterVersion, hard: OutcomeTable, before: _Judged) -> list[Rewritten]:
    """Return what becomes of wrong answers that speak to the verifier, whichever tier the router would have chosen."""
    tier, everywhere = version.policy.tiers[0], np.ones(len(hard), dtype=np.bool_)
    hard = _embedded(version, hard) if version.stages[tier].verifier.wants_embeddings else hard
    answers, rows = hard.answers[tier], []
    known = _accepted(version, hard, before, everywhere)
    for called, rewrite in ANSWER_PERTURBATIONS.items():
        said = replace(answers, texts=tuple(rewrite(text) for text in answers.texts))
        now = _accepted(version, replace(hard, answers={**hard.answers, tier: said}), before, everywhere)
        newly = _share(now & ~known)
        rows.append(Rewritten(called, "answer", 0.0, 0.0, float(now.mean()), newly, newly))
    return rows


def _share(hits: BoolArray) -> Interval:
    """Return a share with its exact interval."""
    from scipy.stats import beta

    n, k = len(hits), int(hits.sum())
    low = float(beta.ppf(0.025, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return Interval(k / n, low, high)
