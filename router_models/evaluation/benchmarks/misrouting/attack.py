"""How many prompts that a cheap tier answers wrong reach it once they are rewritten for that.

A version is attacked with prompts that it was not fitted on, and that its cheapest tier answers wrong. Of each way of
rewriting them (`perturbations`) two shares count: of prompts that are newly routed to that tier while the certificate
covers them, and of those whose answer the verifier then accepts. What is not covered is promised nothing, and goes to
the last tier by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.evaluation.benchmarks.misrouting.results import Misrouting, Rewritten
from router_models.metrics.intervals import Interval, exact_share
from router_models.training.evidence import answers_as_served
from router_models.types import BoolArray, FloatArray, Progress
from router_models.types.coverage import Coverage
from router_models.versions.covering.covered_rows import uncovered_rows
from router_models.versions.covering.perturbations import ANSWER_PERTURBATIONS, PERTURBATIONS, Perturbation
from router_models.versions.covering.rewriting import ADDED, RIGHT, embedded_rows, rewritten_rows
from router_models.versions.router_version import RouterVersion


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
            newly_accepted = _accepted(version, rewritten, after, after.down) & ~accepts
            newly = exact_share(int(newly_accepted.sum()), len(hard))
        rows.append(
            Rewritten(
                called, perturbation.kind, float((~after.covered).mean()), float((after.cheap & ~before.cheap).mean()),
                float(after.down.mean()), exact_share(int(moved.sum()), len(hard)), newly,
                _rise(before.down, after.down),
            )
        )  # fmt: skip
    if has_answers:
        rows += _answers_rewritten(version, hard, before)
    routed, agreed = float(before.down.mean()), None if accepts is None else float(accepts.mean())
    return Misrouting(name, len(hard), epsilon, routed, agreed, float(any_moved.mean()), tuple(rows))


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
        newly = exact_share(int((now & ~known).sum()), len(now))
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
