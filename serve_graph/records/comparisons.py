"""Comparisons: requests that both versions of a rollout decided, and what came of each, one row a rollout and request.

Rows arrive through the spool, perhaps twice: the first one stands. They are numbered as they arrive. The tests of a
rollout go by the order in which their requests came, which does not depend on what comparing showed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from router_models.monitoring.canary import PairedRequest
from router_models.pricing.prices import plain_decimal
from serve_graph.records.schema import COMPARISONS
from serve_graph.records.store import DecisionStore

COMPARED = "comparison_of"
"""The key by which a line of the spool is known to be a comparison; it holds the decision's id."""
TIE = "tie"
"""The verdict of a judge whose word depends on which answer comes first."""
_MONEY = ("stable_usd", "candidate_usd")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One request that both versions of a rollout decided.

    Parameters
    ----------
    rollout, decision : str
        The rollout's id and the request's.
    at : str
        When it was compared (ISO 8601, UTC).
    arm : str
        The version that served it: `stable` or `candidate`.
    weight : float
        The candidate's share of traffic when it was served, in [0, 1].
    unit : str
        A hash of what the arm was assigned by.
    probability : float
        With which it was drawn to be compared, in (0, 1].
    alike : bool
        Whether both versions gave the same answer by the same path.
    same_answer : bool
        Whether both gave the same answer, by whichever path: their grades are the same then, whatever they are.
    stable_tier, candidate_tier : str
        The tier whose answer each version gives; `none` where it gives none.
    stable_action, candidate_action : str
        The outcome by each version, as records have it; `failed` where it gives no answer.
    stable_usd, candidate_usd : Decimal
        What the request costs by each version, in US dollars, without what comparing costs.
    stable_right, candidate_right : float, optional
        Whether each version's answer is right: 1 or 0, or a tie's mean over both orders; None where that is not known.
    stable_harm, candidate_harm : bool, optional
        Whether each version's answer is wrong, of a tier below the last, where the last tier's is right; None where
        that is not known.
    slices : tuple of str
        The slices of the versions' certificates that the request is in.
    grader : str, optional
        Whose word the grades are, as labels name sources; None where nobody was asked.
    ungraded_reason : str, optional
        Why answers that differ have no grades; None where they have, or are alike.
    detail : mapping
        What else is known, as JSON-able data; `group`: a hash of its session, else of its prompt; `came_at`: when the
        request came; `calls`: the tiers that each version calls for it, by arm; `last_usd`: what the last tier's
        answer costs, or would if it were as long as the one given; `verdict`: `tie` where the judge's
        two orders disagree.
    """

    rollout: str
    decision: str
    at: str
    arm: str
    weight: float
    unit: str
    probability: float
    alike: bool
    same_answer: bool
    stable_tier: str
    candidate_tier: str
    stable_action: str
    candidate_action: str
    stable_usd: Decimal
    candidate_usd: Decimal
    stable_right: float | None = None
    candidate_right: float | None = None
    stable_harm: bool | None = None
    candidate_harm: bool | None = None
    slices: tuple[str, ...] = ()
    grader: str | None = None
    ungraded_reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def paired(self) -> PairedRequest:
        """What the tests of a rollout make of it: where both gave the same answer, grades that are the same."""
        grades = (self.stable_right, self.candidate_right, self.stable_harm, self.candidate_harm)
        usd = (float(self.stable_usd), float(self.candidate_usd))
        return _pair_of(self.alike, self.same_answer, grades, usd, self.slices, self.detail, self.at)

    @property
    def is_tie(self) -> bool:
        """Whether the judge's two orders disagree."""
        return self.detail.get("verdict") == TIE


def comparison_shown(one: Comparison) -> dict[str, Any]:
    """What an administrator is shown of it, as JSON-able data."""
    data = asdict(one) | {name: plain_decimal(getattr(one, name)) for name in _MONEY}
    return {name: value for name, value in data.items() if name not in ("decision", "detail")} | dict(one.detail)


def comparison_line(one: Comparison) -> str:
    """What a comparison says, as a sentence."""
    paths = [
        f"{arm} {action} {tier}"
        for arm, action, tier in (
            ("stable:", one.stable_action, one.stable_tier),
            ("candidate:", one.candidate_action, one.candidate_tier),
        )
    ]
    if one.same_answer:
        found = "the same answer by the same path" if one.alike else "the same answer by another path"
    elif one.ungraded_reason is not None:
        found = f"not graded ({one.ungraded_reason})"
    elif one.is_tie:
        found = f"a tie ({one.grader})"
    else:
        grades = {"stable": one.stable_right, "candidate": one.candidate_right}
        right = [arm for arm, grade in grades.items() if grade]
        found = f"right: {' and '.join(right) or 'neither'} ({one.grader})"
    return f"Compared in {one.rollout}: {', '.join(paths)}; {found}, {one.at}."


def comparison_to_json(one: Comparison) -> dict[str, Any]:
    """What the spool holds of a comparison, beside records and feedback."""
    data = asdict(one) | {name: plain_decimal(getattr(one, name)) for name in _MONEY}
    return {COMPARED: data.pop("decision")} | data


def comparison_from_json(data: Mapping[str, Any]) -> Comparison:
    """The inverse of `comparison_to_json`."""
    rest = {name: value for name, value in data.items() if name != COMPARED}
    money = {name: Decimal(rest[name]) for name in _MONEY}
    return Comparison(**{**rest, **money, "slices": tuple(rest.get("slices") or ())}, decision=str(data[COMPARED]))


class ComparisonsTable:
    """The comparisons in a decision store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store
        self._read = _PairsRead("")

    async def write(self, made: Sequence[Comparison]) -> None:
        """Add comparisons in one transaction, leaving out those of a rollout and request that are there already."""
        if not made:
            return
        async with self.store.changing("comparisons") as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            insert = dialect.insert(COMPARISONS)
            once = insert.on_conflict_do_nothing(index_elements=["rollout", "decision"])
            await connection.execute(once, [_to_row(one) for one in made])

    async def of(self, decisions: Iterable[str]) -> dict[str, list[Comparison]]:
        """The comparisons of some decisions, by decision, in order of arrival."""
        names, found = list(decisions), dict[str, list[Comparison]]()
        async with self.store.reading() as connection:
            for start in range(0, len(names), 500):
                batch = COMPARISONS.c.decision.in_(names[start : start + 500])
                rows = await connection.execute(select(COMPARISONS).where(batch).order_by(COMPARISONS.c.number))
                for row in rows.mappings():
                    found.setdefault(row["decision"], []).append(_from_row(row))
        return found

    async def pairs(self, rollout: str, settled_before: str | None = None) -> list[PairedRequest]:
        """The comparisons of a rollout as its tests take them: in the order in which their requests came.

        Where both versions decide alike nothing is asked for, so that such a comparison ends at once: in order of
        their ends, the pairs of the last minutes would be those that agree. So a pair counts once its request came
        before `settled_before`, by when those that came with it have been compared as well. One that arrives later
        still follows behind: what was returned once changes its place no more. None: all count.

        Rows never change, so that those of the same rollout that were read before are not read again.
        """
        read = self._read if self._read.rollout == rollout else _PairsRead(rollout)
        chosen = select(*_OF_PAIRS).where((COMPARISONS.c.rollout == rollout) & (COMPARISONS.c.number > read.last))
        async with self.store.reading() as connection:
            rows = (await connection.execute(chosen.order_by(COMPARISONS.c.number))).all()
        self._read = read
        if rows:
            read.waiting += await asyncio.to_thread(lambda: [(row.decision, _pair_of_row(row)) for row in rows])
            read.last = int(rows[-1].number)
        return list(read.settled(settled_before))

    async def path_calls(self, rollout: str, limit: int = 2000) -> tuple[int, Counter[str], Counter[str]]:
        """Of the newest comparisons whose paths are known: how many, and the calls of each tier by either version."""
        newest = (
            select(COMPARISONS.c.detail).where(COMPARISONS.c.rollout == rollout).order_by(COMPARISONS.c.number.desc())
        )
        async with self.store.reading() as connection:
            rows = (await connection.execute(newest.limit(limit))).scalars().all()
        known = [calls for detail in rows if (calls := json.loads(detail or "{}").get("calls"))]
        stable, candidate = (
            Counter(tier for calls in known for tier in calls[arm]) for arm in ("stable", "candidate")
        )
        return len(known), stable, candidate

    async def in_rollout(self, rollout: str) -> list[Comparison]:
        """The comparisons of a rollout, in order of arrival."""
        chosen = select(COMPARISONS).where(COMPARISONS.c.rollout == rollout).order_by(COMPARISONS.c.number)
        async with self.store.reading() as connection:
            return [_from_row(row) for row in (await connection.execute(chosen)).mappings()]


@dataclass(slots=True)
class _PairsRead:
    """The pairs of a rollout that were read: up to which row, those that count in their order, and those that wait."""

    rollout: str
    last: int = 0
    counted: list[PairedRequest] = field(default_factory=list)
    waiting: list[tuple[str, PairedRequest]] = field(default_factory=list)

    def settled(self, before: str | None) -> list[PairedRequest]:
        """Those that count, by now."""
        due = [one for one in self.waiting if before is None or (one[1].came_at or "") < before]
        if due:
            ids = set(map(id, due))
            self.waiting = [one for one in self.waiting if id(one) not in ids]
            self.counted += [pair for _, pair in sorted(due, key=lambda one: (one[1].came_at or "", one[0]))]
        return self.counted


def _to_row(one: Comparison) -> dict[str, Any]:
    row = comparison_to_json(one)
    row |= {"decision": row.pop(COMPARED), "slices": json.dumps(row["slices"])}
    row["detail"] = json.dumps(row["detail"]) if row["detail"] else None
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}


def _from_row(row: Mapping[Any, Any]) -> Comparison:
    data = {name: value for name, value in row.items() if name not in ("number", "decision")}
    read = {"slices": json.loads(data["slices"]), "detail": json.loads(data["detail"] or "{}")}
    return comparison_from_json(data | read | {COMPARED: row["decision"]})


_OF_PAIRS = [
    COMPARISONS.c[name]
    for name in (
        "number", "decision", "at", "alike", "same_answer", "stable_right", "candidate_right", "stable_harm",
        "candidate_harm", "stable_usd", "candidate_usd", "slices", "detail",
    )
]  # fmt: skip


def _pair_of_row(row: Any) -> PairedRequest:
    _, _, at, alike, same, *grades, stable_usd, candidate_usd, slices, detail = row
    stable, known = float(stable_usd), json.loads(detail) if detail else {}
    usd = (stable, stable if candidate_usd == stable_usd else float(candidate_usd))
    return _pair_of(alike, same, grades, usd, _slices_of(slices), known, at)


@lru_cache(4096)
def _slices_of(text: str) -> tuple[str, ...]:
    """Slices as a row has them: pairs share those that are the same."""
    return tuple(json.loads(text))


def _pair_of(
    alike: bool,
    same: bool,
    grades: Sequence[Any],
    usd: tuple[float, float],
    slices: tuple[str, ...],
    detail: Mapping[str, Any],
    at: str,
) -> PairedRequest:
    """Where both gave the same answer and nobody graded it, grades that are the same, whatever they are.

    A row of an earlier release does not say when its request came: it takes its place by its end.
    """
    stable_right, candidate_right, stable_harm, candidate_harm = grades
    if same and stable_right is None and candidate_right is None:
        stable_right = candidate_right = 0.5
    if same and stable_harm is None and candidate_harm is None:
        stable_harm = candidate_harm = False
    right, harm = (stable_right, candidate_right), (stable_harm, candidate_harm)
    group, came_at, last = detail.get("group"), detail.get("came_at") or at, detail.get("last_usd")
    last_usd = None if last is None else float(last)
    return PairedRequest(alike, *right, *harm, *usd, slices, group, came_at, last_usd, detail.get("verdict") == TIE)
