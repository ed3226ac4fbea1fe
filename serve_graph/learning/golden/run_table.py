"""Runs of golden tasks in the decision store: what a tier answered, and what came of comparing it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from router_models.monitoring.golden_answers import MOST_EARLIER, FallenGrades, GoldenAnswer
from serve_graph.records.schema import GOLDEN_RUNS
from serve_graph.records.store import DecisionStore

RunKind = Literal["reference", "compared", "failed"]
KEPT_RUNS = 200
"""Runs of a tier that are kept beside those that later ones are compared with."""


@dataclass(frozen=True, slots=True)
class AnswerGiven:
    """What an API replied to one task.

    `said`: a hash of the answer; `text`: the answer, None where it may quote a caller. `model`, `fingerprint`: as the
    API names what answered.
    """

    said: str
    text: str | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    right: bool | None = None
    source: str = ""
    model: str | None = None
    fingerprint: str | None = None

    @property
    def compared(self) -> GoldenAnswer:
        """What comparisons read of it."""
        return GoldenAnswer(self.said, self.tokens, self.prompt_tokens, self.right, self.source)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run of a tier.

    Parameters
    ----------
    series : str
        Names the runs that are compared with each other: of one tier, one set of tasks, one reference.
    number : int
        Its place in the series, from 1.
    tier : str
        Who was asked.
    kind : str
        `reference`, `compared`, or `failed`: too few calls were answered, so that it says nothing.
    at : str
        When it ended (ISO 8601, UTC).
    answers : mapping of str to AnswerGiven
        By task; those whose calls failed are not there.
    detail : mapping
        JSON-able data: `asked`, `failed` (calls by why), `greedy`; of a compared run `look`, `level`, `figures`,
        `grades`, `grades_limit`.
    """

    series: str
    number: int
    tier: str
    kind: RunKind
    at: str
    answers: Mapping[str, AnswerGiven] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)

    def compared(self) -> dict[str, GoldenAnswer]:
        """What comparisons read of it."""
        return {task: answer.compared for task, answer in self.answers.items()}

    def models(self) -> set[str]:
        """The models that the API has named."""
        return {answer.model for answer in self.answers.values() if answer.model}

    def fingerprints(self) -> set[str]:
        """The fingerprints that the API has given."""
        return {answer.fingerprint for answer in self.answers.values() if answer.fingerprint}

    def figure(self, name: str) -> Mapping[str, Any] | None:
        """One of the figures that were compared; None where it was not."""
        return next((figure for figure in self.detail.get("figures", ()) if figure["figure"] == name), None)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data, without texts."""
        found = {"tier": self.tier, "number": self.number, "kind": self.kind, "at": self.at}
        named = {"models": sorted(self.models()), "fingerprints": sorted(self.fingerprints())}
        return found | {"series": self.series, "answered": len(self.answers)} | named | dict(self.detail)


class GoldenTable:
    """The runs in a decision store; reading raises StoreUnavailableError."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def write(self, run: RecordedRun) -> bool:
        """Add a run; returns whether its place in the series was free."""
        row = asdict(run) | {
            "id": f"gold-{hashlib.sha256(f'{run.series} {run.number}'.encode()).hexdigest()[:32]}",
            "answers": json.dumps({task: asdict(answer) for task, answer in run.answers.items()}),
            "detail": json.dumps(dict(run.detail)),
        }
        async with self.store.writing() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            insert = dialect.insert(GOLDEN_RUNS).on_conflict_do_nothing().values(**row)
            return bool((await connection.execute(insert)).rowcount)

    async def of(self, series: str) -> list[RecordedRun]:
        """The runs of a series that are kept and were answered, in order."""
        counts = (GOLDEN_RUNS.c.series == series) & (GOLDEN_RUNS.c.kind != "failed")
        chosen = select(GOLDEN_RUNS).where(counts).order_by(GOLDEN_RUNS.c.number)
        async with self.store.reading() as connection:
            return [_from_row(row) for row in (await connection.execute(chosen)).mappings()]

    async def next_number(self, series: str) -> int:
        """The place of the next run of a series, failed ones counted."""
        last = select(func.max(GOLDEN_RUNS.c.number)).where(GOLDEN_RUNS.c.series == series)
        async with self.store.reading() as connection:
            return int((await connection.execute(last)).scalar() or 0) + 1

    async def latest(self, tier: str | None = None, limit: int = 20) -> list[RecordedRun]:
        """The newest runs, of a tier or of all, the newest first."""
        query = select(GOLDEN_RUNS).order_by(GOLDEN_RUNS.c.at.desc(), GOLDEN_RUNS.c.number.desc()).limit(limit)
        if tier is not None:
            query = query.where(GOLDEN_RUNS.c.tier == tier)
        async with self.store.reading() as connection:
            return [_from_row(row) for row in (await connection.execute(query)).mappings()]

    async def prune(self, tier: str, series: str) -> None:
        """Forget a tier's old runs, but not those that later ones of the series are compared with."""
        newest = select(GOLDEN_RUNS.c.id).where(GOLDEN_RUNS.c.tier == tier)
        newest = newest.order_by(GOLDEN_RUNS.c.at.desc()).limit(KEPT_RUNS)
        needed = select(GOLDEN_RUNS.c.id).where((GOLDEN_RUNS.c.series == series) & (GOLDEN_RUNS.c.kind != "failed"))
        needed = needed.order_by(GOLDEN_RUNS.c.number).limit(MOST_EARLIER)
        old = (
            (GOLDEN_RUNS.c.tier == tier)
            & GOLDEN_RUNS.c.id.not_in(select(newest.subquery().c.id))
            & GOLDEN_RUNS.c.id.not_in(select(needed.subquery().c.id))
        )
        async with self.store.writing() as connection:
            await connection.execute(delete(GOLDEN_RUNS).where(old))


def grades_so_far(runs: Sequence[RecordedRun]) -> FallenGrades:
    """What the grades of a series had shown after its newest run."""
    grades = runs[-1].detail.get("grades") if runs else None
    return FallenGrades() if grades is None else FallenGrades(**grades)


def _from_row(row: Mapping[Any, Any]) -> RecordedRun:
    answers = {task: AnswerGiven(**answer) for task, answer in json.loads(row["answers"]).items()}
    rest = {name: row[name] for name in ("series", "number", "tier", "kind", "at")}
    return RecordedRun(**rest, answers=answers, detail=json.loads(row["detail"]))
