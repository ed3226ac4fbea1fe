"""Decisions of a rollout as a log of chance: which of two versions answered, with what probability, how it was graded.

Routing itself draws nothing; what is drawn in a graph is the version that answers a session, key or prompt while a
canary is under way. So of these two versions, and of no other policy, can be said what they would have earned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import select

from router_models.errors import by_number
from router_models.metrics.intervals import Interval
from router_models.monitoring.missing_grades import MissingGrades, missing_grades
from router_models.monitoring.off_policy import (
    LEAST_PROPENSITY,
    LoggedDecisions,
    OffPolicyEstimate,
    estimate_off_policy,
)
from router_models.types import FloatArray
from serve_graph.errors import ServeGraphError
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

ARMS = ("stable", "candidate")


@dataclass(frozen=True, slots=True)
class ArmDecision:
    """An answered request of a rollout, and what was known before it was answered.

    `arm`: 0 for the stable version, 1 for the candidate; `weight`: the candidate's share of traffic then; `unit`:
    whoever was assigned, hashed; `score`: what the version thought of its answer, None where it did not say.
    """

    id: str
    arm: int
    weight: float
    unit: str
    prompt_chars: int
    stream: bool
    score: float | None = None

    @property
    def explored(self) -> bool:
        """Whether both versions had a fair chance: by the weight alone, whichever it became."""
        return LEAST_PROPENSITY <= self.weight <= 1 - LEAST_PROPENSITY


@dataclass(frozen=True, slots=True)
class ArmEstimate:
    """What a version would have earned on all of the traffic that two versions shared.

    `left_out`: decisions that do not count, by why. `found`: the estimate, with intervals. `missing`: the sessions,
    keys or prompts that lack a grade, and what they could come to.
    """

    version: str
    rollout: str
    grades: str
    found: OffPolicyEstimate
    left_out: Mapping[str, int]
    missing: MissingGrades

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        found = asdict(self.found)
        return {"version": self.version, "rollout": self.rollout, "grades": self.grades, **found} | {
            "left_out": dict(self.left_out),
            "missing": {**asdict(self.missing), "by_chance": not self.missing.found},
        }

    def lines(self) -> list[str]:
        """In words."""
        found = self.found
        out = [f"left out: {n} {why}" for why, n in self.left_out.items() if n]
        return [
            f"{self.version} by {self.grades}, in {self.rollout}: mean grade {found.value}, had it answered all",
            f"  {found.gain} more than what was served ({found.n} graded sessions, keys or prompts, worth "
            f"{found.effective_n:.0f} of its own; {found.value.level:.0%} intervals)",
            *out,
            *self._missing_lines(),
        ]

    def _missing_lines(self) -> list[str]:
        missing = self.missing
        if not missing.missing:
            return []
        shares = ", ".join(
            f"{arm} {one.graded} of {one.n} ({one.share:.0%})" for arm, one in zip(ARMS, missing.shares, strict=True)
        )
        out = [f"graded of those that could be: {shares}"]
        if missing.found:
            why = "; ".join(f"by {_word(name)}, p = {p:.2g}" for name, p in missing.found.items())
            out.append(f"NOT missing by chance ({why}): the intervals above do not hold")
        grades = by_number(missing.missing, "grade is", "grades are")
        covers = f"whatever the {missing.missing} missing {grades}: mean grade {_ends(missing.value)}"
        return [*out, f"{covers}, {_ends(missing.gain)} more than what was served"]


async def decisions_of(store: DecisionStore, rollout: str, since: str) -> list[ArmDecision]:
    """The answered requests of a rollout as they came; raises StoreUnavailableError."""
    table = DECISIONS.c
    columns = (table.id, table.prompt_chars, table.stream, table.evidence, table.p_answer_ok, table.p_cheap_ok)
    query = select(*columns).where((table.created_at >= since) & (table.status == 200))
    found = []
    async with store.reading() as connection:
        rows = await connection.stream(query.order_by(table.created_at, table.id))
        async for row in rows.mappings():
            assigned = json.loads(row["evidence"] or "{}").get("rollout") or {}
            if assigned.get("id") == rollout:
                arm, weight = ARMS.index(assigned["arm"]), float(assigned["weight"])
                score = row["p_cheap_ok"] if row["p_answer_ok"] is None else row["p_answer_ok"]
                known = int(row["prompt_chars"]), bool(row["stream"]), None if score is None else float(score)
                found.append(ArmDecision(str(row["id"]), arm, weight, str(assigned["unit"]), *known))
    return found


async def estimate_arm(
    store: DecisionStore,
    version: str,
    rollout: str,
    arm: str,
    since: str,
    kind: str,
    source: str,
    label_share: float = 1.0,
) -> ArmEstimate:
    """Estimate what one version of a rollout would have earned, by feedback of one kind and source.

    Of labels that were all given in a random share (`label_share` of people's, their own of a judge's), the decisions
    that were not drawn lack theirs by chance, and are not asked about.

    Raises
    ------
    ServeGraphError
        Where nothing was drawn by chance, or with less than 5 %.
    DataError
        Where there are too few grades, or the propensities cannot be right.
    """
    decisions = await decisions_of(store, rollout, since)
    explored = [one for one in decisions if one.explored]
    if not explored:
        what = "no decision" if not decisions else f"none of {len(decisions)} decisions"
        raise ServeGraphError(
            f"{what} of {rollout} was made while both versions had {LEAST_PROPENSITY:.0%} of the traffic or more: of "
            "what was hardly ever tried nothing can be estimated; a canary's steps of 5 to 95 % explore enough"
        )
    said = await FeedbackTable(store).of([one.id for one in explored])
    said_of = {one.id: _grade(said.get(one.id, ()), kind, source) for one in explored}
    graded = {name: grade for name, grade in said_of.items() if grade is not None}
    first: dict[str, ArmDecision] = {}
    for one in explored:
        if one.id in graded:
            first.setdefault(one.unit, one)
    rows = list(first.values())
    drawn, undrawn = _drawn(explored, said, kind, source, label_share)
    left_out = Counter(
        {
            f"while a version had less than {LEAST_PROPENSITY:.0%} of the traffic": len(decisions) - len(explored),
            f"without a {kind} by {source}": len(explored) - len(graded),
            "of a session, key or prompt that counts already": len(graded) - len(rows),
        }
    )
    if undrawn:
        left_out["not drawn to be graded"] = undrawn
    logged, target = _logged(rows, graded, arm)
    estimate = estimate_off_policy(logged, target)
    return ArmEstimate(version, rollout, f"{kind} ({source})", estimate, left_out, _missing(drawn, graded, arm))


def _logged(rows: Sequence[ArmDecision], graded: Mapping[str, float], arm: str) -> tuple[LoggedDecisions, FloatArray]:
    """Decisions as a log, a grade of 0 where there is none, and the policy of always one version."""
    action = np.array([one.arm for one in rows], dtype=np.int64)
    weight = np.array([one.weight for one in rows], dtype=np.float64)
    known = np.array([[np.log1p(one.prompt_chars), one.stream] for one in rows], dtype=np.float64).reshape(-1, 2)
    grades = np.array([graded.get(one.id, 0.0) for one in rows], dtype=np.float64)
    target = np.zeros((len(rows), len(ARMS)))
    target[:, ARMS.index(arm)] = 1.0
    return LoggedDecisions(known, action, np.where(action == 1, weight, 1 - weight), grades), target


def _missing(drawn: Sequence[ArmDecision], graded: Mapping[str, float], arm: str) -> MissingGrades:
    """What lacks a grade, of each session, key or prompt its first decision."""
    first: dict[str, ArmDecision] = {}
    for one in drawn:
        first.setdefault(one.unit, one)
    rows = list(first.values())
    logged, target = _logged(rows, graded, arm)
    scores = np.array([np.nan if one.score is None else one.score for one in rows], dtype=np.float64)
    known = {"score": scores, "length": np.array([float(one.prompt_chars) for one in rows])}
    return missing_grades(logged, np.array([one.id in graded for one in rows], dtype=np.bool_), target, known)


def _drawn(
    explored: Sequence[ArmDecision],
    said: Mapping[str, Sequence[Feedback]],
    kind: str,
    source: str,
    label_share: float,
) -> tuple[list[ArmDecision], int]:
    """The decisions that were to be graded, and how many were not drawn for it; all where grades are no draw's."""
    given = [one for ones in said.values() for one in ones if one.kind == kind and one.source == source]
    if kind == "label" and given:
        share = min(one.probability or label_share for one in given)
        if all(up_for_labelling(one.decision, share) for one in given):
            drawn = [one for one in explored if up_for_labelling(one.id, share)]
            return drawn, len(explored) - len(drawn)
    return list(explored), 0


def _word(test: str) -> str:
    """A test's name with the version it is about."""
    name, _, action = test.partition(" after ")
    return "version" if not action else f"{name} of the {ARMS[int(action)]}'s answers"


def _ends(interval: Interval) -> str:
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def _grade(said: Sequence[Feedback], kind: str, source: str) -> float | None:
    """The mean of what voices of a source said; None where none did."""
    values = [one.value for one in said if one.kind == kind and one.source == source and one.value is not None]
    return float(np.mean(values)) if values else None
