"""Served traffic as outcomes: one row a prompt and tier, marked with how it was chosen. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router_models.data.formats.columns import LABEL_SOURCE, LONG_COLUMNS
from router_models.errors import by_number
from router_models.estimators.verifiers.checks.formats import measured_formats
from router_models.estimators.verifiers.checks.tool_calls import CALLING_FINISHES
from router_models.types import Completion, Outcome, Query
from router_models.types.chat_prompts import whole_characters
from router_models.types.condition_cells import CONDITION_COLUMNS
from router_models.types.conditions import conditions_of
from router_models.types.drawn import COLLECTED_AT, DRAW_ID, DRAWN, DRAWS_TRIED, IS_CHOSEN, IS_DRAWN, SAMPLE_WEIGHT
from router_models.types.exchange import FORMAT_NAMES
from serve_graph.learning.retraining.selection import Draw, Selection, is_drawn
from serve_graph.learning.retraining.served_answers import KeptAnswer
from serve_graph.learning.retraining.served_prompts import ServedPrompt

SESSION = "session"
"""The column of conversations: rows of one are no independent evidence."""


@dataclass(frozen=True, slots=True)
class ServedOutcomes:
    """Outcomes of served traffic, and how they were chosen. `left_out`: decisions that are none, by why."""

    outcomes: tuple[Outcome, ...]
    selection: Selection
    tiers: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def whole(self) -> int:
        """How many prompts have answers and grades of every tier."""
        return sum(one.whole for one in self.selection.routes)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        found, draw, correction = self.selection, self.selection.draw, self.selection.correction
        return {
            "prompts": found.prompts,
            "requests": found.requests,
            "outcomes": len(self.outcomes),
            "whole": self.whole,
            "by_known_chance": sum(one.by_chance for one in found.routes),
            "one_tier_only": dict(found.one_tier_only),
            "routes": [one.shown() for one in found.routes],
            "label_sources": dict(found.sources),
            "draw": {
                "share": draw.share,
                "prompts": draw.prompts,
                "holds": draw.holds,
                "tried": draw.tried,
                "missing": dict(draw.missing),
            },
            "correction": {
                "applied": correction.weights is not None,
                "effective_n": correction.effective_n,
                "why_not": list(correction.why_not),
            },
            "outages": found.outages,
            "left_out": dict(self.left_out),
        }

    def lines(self) -> Iterator[str]:
        """What was found and how it was chosen, in words."""
        found, draw, correction = self.selection, self.selection.draw, self.selection.correction
        yield (
            f"{found.requests} {by_number(found.requests, 'request')}, {found.prompts} "
            f"{by_number(found.prompts, 'prompt')}; {self.whole} {by_number(self.whole, 'has', 'have')} every "
            "tier's answer and grade"
        )
        audited = sum(one.by_chance for one in found.routes)
        yield f"{audited} of them ({audited / max(found.prompts, 1):.0%} of the prompts) by a chance that is known"
        yield f"{'first answered':26} {'prompts':>8} {'graded':>8} {'whole':>8} {'by chance':>10} {'at':>7}"
        for one in found.routes:
            rate = "-" if one.rate is None else f"{one.rate:g}"
            yield f"{one.route:26} {one.prompts:8} {one.graded:8} {one.whole:8} {one.by_chance:10} {rate:>7}"
        for tier, n in sorted(found.one_tier_only.items()):
            yield (
                f"{n} {by_number(n, 'prompt was', 'prompts were')} answered by {tier} alone: what the other tiers "
                "would have said is not known"
            )
        if found.sources:
            said = ", ".join(f"{n} {source}" for source, n in sorted(found.sources.items()))
            yield f"graded by: {said}"
        if found.outages:
            prompts = by_number(found.outages, "prompt was", "prompts were")
            yield f"{found.outages} {prompts} answered while something was away: for training, not for certifying"
        yield from _draw_lines(draw)
        if correction.weights is not None:
            kept = len(correction.weights)
            yield (
                f"training is corrected: {kept} {by_number(kept, 'row')} that chance chose, weighted by the "
                "inverse of their probability, "
                f"worth {correction.effective_n:.0f} rows of equal weight; the other whole rows are left out of it"
            )
        else:
            yield "training is NOT corrected for how rows were chosen:"
            yield from (f"  {why}" for why in correction.why_not)
        yield from (f"{n} {by_number(n, 'decision')} {why}" for why, n in sorted(self.left_out.items()))


def _draw_lines(draw: Draw) -> Iterator[str]:
    if draw.holds:
        yield (
            f"may certify: {draw.prompts} {by_number(draw.prompts, 'prompt')}, all that a hash of their first "
            f"decision drew at {draw.share:g}, "
            "each with its row"
        )
        if draw.tried > 1:
            yield (
                f"  the largest whole one of {draw.tried} shares that were tried: a certificate divides δ among them"
            )
        return
    if not draw.prompts:
        yield f"may certify: nothing, as no prompt was drawn at {draw.share:g}"
        return
    lacking = draw.missing.total()
    yield (
        f"may certify: nothing. Of {draw.prompts} {by_number(draw.prompts, 'prompt')} that a hash drew at "
        f"{draw.share:g}, {lacking} {by_number(lacking, 'has', 'have')} no whole "
        "row, so that the others were chosen by what answered, or by who graded:"
    )
    yield from (f"  {n} {what}" for what, n in draw.missing.most_common())


def served_outcomes(
    served: Sequence[ServedPrompt], selection: Selection, tiers: Sequence[str], left_out: Mapping[str, int]
) -> ServedOutcomes:
    """Make the outcomes: every answer that was kept, graded or not, what it was asked under and how it was chosen.

    `drawn` says of a row whether it is one of a random sample of the traffic; `sample_weight`, where training is
    corrected, what it counts for there: 0 where only somebody's choice brought it. `collected_at` is its
    first request's time: its answers may have been made later, never before.
    """
    weights = selection.correction.weights
    inside = sorted(one.first.record.id for one in served if is_drawn(one, selection.draw))
    sample = hashlib.sha256(repr((selection.draw.share, inside)).encode()).hexdigest()[:16]
    rows = []
    for one in served:
        task, record = one.first.task, one.first.record
        conditions = {name: value for name, value in conditions_of(task.query).columns().items() if value}
        metadata = {
            **{name: value for name, value in record.metadata.items() if name not in _OWN},
            "family": task.family,
            "language": task.language,
            **conditions,
            SESSION: record.session or "",
            "served_at": record.created_at,
            COLLECTED_AT: record.created_at,
            "served_by": record.version,
            "served_as": one.first.route,
            DRAWN: IS_DRAWN if is_drawn(one, selection.draw) else IS_CHOSEN,
            DRAWS_TRIED: str(selection.draw.tried),
            DRAW_ID: sample,
        }
        if weights is not None:
            metadata[SAMPLE_WEIGHT] = repr(weights.get(task.prompt_id, 0.0))
        for tier in tiers:
            if (answer := one.answers.get(tier)) is None:
                continue
            grade = one.grades.get(tier, math.nan)
            rows.append(
                Outcome(
                    prompt_id=task.prompt_id,
                    prompt=whole_characters(task.prompt),
                    tier=tier,
                    answer=whole_characters(answer.text),
                    grade=grade,
                    usage=answer.usage,
                    latency_s=answer.latency_s,
                    finish_reason=whole_characters(answer.finish_reason),
                    logprobs={**answer.logprobs, **_formats(task.query, answer)},
                    metadata={name: whole_characters(value) for name, value in metadata.items()},
                    label_source="" if math.isnan(grade) else one.source,
                )
            )
    return ServedOutcomes(tuple(rows), selection, tuple(tiers), left_out)


def _formats(query: Query, answer: KeptAnswer) -> dict[str, float]:
    """What is measured of a kept answer against the JSON that its request declared; of tool calls nothing is."""
    if answer.finish_reason in CALLING_FINISHES:
        return {}
    return measured_formats(query, Completion(answer.text, answer.finish_reason))


_CHOSEN = (DRAWN, DRAWS_TRIED, DRAW_ID, SAMPLE_WEIGHT)
_OWN = frozenset({"id", LABEL_SOURCE, COLLECTED_AT, *_CHOSEN, *LONG_COLUMNS, *FORMAT_NAMES, *CONDITION_COLUMNS})
"""Columns of outcomes that a request's metadata must not fill."""
