"""Feedback on decisions: what callers, people and programs say of answers, one row a voice and kind.

A voice (a key, or a person who labels with one) has one word of each kind on a decision: a later one takes its place.
Rows arrive through the spool, in any order and perhaps twice, also before the decision itself; `merged` makes the same
of all of that. Whether a voice may speak of a decision is settled when rows are read: the decision must be there, and
be its key's own, unless the key had the scope `admin`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from router_models.types import DecisionRecord
from serve_graph.records.schema import DECISIONS, FEEDBACK
from serve_graph.records.store import DecisionStore, record_from_json

FeedbackKind = Literal["thumbs", "score", "label", "correction", "text"]
FEEDBACK_KINDS: tuple[FeedbackKind, ...] = ("thumbs", "score", "label", "correction", "text")
REPLAYS = 16
"""How many idempotency keys a row remembers: a repeated request that is older counts as a new one."""
_MARK = "feedback_on"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One word on one decision.

    Parameters
    ----------
    decision : str
        The decision's id.
    kind : str
        One of `FEEDBACK_KINDS`.
    source : str
        Whose word it is: `human`, `programmatic`, `judge` or `judge:NAME`.
    value : float, optional
        Thumbs and labels: 1 = right, 0 = wrong; a score in [0, 1]; None for texts.
    text : str, optional
        A correction or free text, redacted; None where texts are not kept.
    last_tier_right : bool, optional
        Of a label: whether the last tier's answer to the same request is right; None: not known.
    key, labeller : str, optional
        The access key's name, and the person who labels with it.
    by_admin : bool
        Whether the key may speak of every decision.
    given_at, first_at : str
        When, and when this voice first said anything of this kind (ISO 8601, UTC).
    replays : tuple of str
        Hashes of the idempotency keys that were given with it and with what it replaced, the newest last.
    probability : float, optional
        Of a judge's label: the probability with which its decision was drawn, in (0, 1].
    detail : mapping
        What else is known of how a label came about, as JSON-able data.
    """

    decision: str
    kind: str
    source: str
    given_at: str
    value: float | None = None
    text: str | None = None
    last_tier_right: bool | None = None
    key: str | None = None
    labeller: str | None = None
    by_admin: bool = False
    first_at: str = ""
    replays: tuple[str, ...] = ()
    probability: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for every word of this voice and kind on this decision."""
        voice = (self.decision, self.kind, self.key, self.labeller, self.by_admin)
        return "fb-" + hashlib.sha256(repr(voice).encode("utf-8", "replace")).hexdigest()[:32]

    def shown(self) -> dict[str, Any]:
        """What an administrator is shown of it, as JSON-able data."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("replays", "by_admin")}
        return {"id": self.id} | {name: value for name, value in kept.items() if value is not None and value != {}}


def merged(old: Feedback | None, new: Feedback) -> Feedback:
    """What stands once `new` has arrived after `old`: the later word, unless it was a repeated request."""
    first = new.first_at or new.given_at
    if old is None:
        return replace(new, first_at=first)
    if set(new.replays) & set(old.replays):
        return old
    replays = (*old.replays, *new.replays)[-REPLAYS:]
    stands = old if new.given_at < old.given_at else new
    return replace(stands, first_at=min(old.first_at, first), replays=replays)


def feedback_to_json(given: Feedback) -> dict[str, Any]:
    """What the spool holds of feedback, beside records."""
    data = asdict(given)
    return {_MARK: data.pop("decision")} | data


def entry_from_json(data: dict[str, Any]) -> DecisionRecord | Feedback:
    """A line of the spool: the inverse of `feedback_to_json` or, of all others, of `record_to_json`."""
    if _MARK not in data:
        return record_from_json(data)
    rest = {name: value for name, value in data.items() if name != _MARK}
    return Feedback(str(data[_MARK]), **{**rest, "replays": tuple(rest.get("replays") or ())})


class FeedbackTable:
    """The feedback in a decision store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def write(self, given: Sequence[Feedback]) -> None:
        """Merge feedback into what is there, in one transaction that no other writer of feedback interferes with."""
        if not given:
            return
        async with self.store.changing("feedback") as connection:
            stands: dict[str, Feedback] = {}
            for batch in _batches(sorted({one.id for one in given})):
                rows = await connection.execute(select(FEEDBACK).where(FEEDBACK.c.id.in_(batch)))
                stands |= {row.id: _from_row(row._mapping) for row in rows}
            for one in given:
                stands[one.id] = merged(stands.get(one.id), one)
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            insert = dialect.insert(FEEDBACK)
            changed = {column.name: column for column in insert.excluded if column.name != "id"}
            upsert = insert.on_conflict_do_update(index_elements=["id"], set_=changed)
            await connection.execute(upsert, [_to_row(one) for one in stands.values()])

    async def of(self, decisions: Iterable[str]) -> dict[str, list[Feedback]]:
        """What counts of the feedback on some decisions, by decision, in the order in which it was first given."""
        found: dict[str, list[Feedback]] = {}
        async with self.store.reading() as connection:
            for batch in _batches(list(decisions)):
                rows = await connection.execute(counted().where(FEEDBACK.c.decision.in_(batch)))
                for row in rows:
                    one = _from_row(row._mapping)
                    found.setdefault(one.decision, []).append(one)
        return found

    async def labels(
        self, version: str, since: str = "", sources: Iterable[str] | None = None
    ) -> list[tuple[Feedback, dict[str, Any]]]:
        """The labels on decisions of a version, first given after a moment, each with its decision's evidence.

        `sources`: those of these sources alone; None: all.
        """
        of_version = _labels_by(sources) & (DECISIONS.c.version == version)
        chosen = counted(DECISIONS.c.evidence).where(of_version & (FEEDBACK.c.first_at > since))
        async with self.store.reading() as connection:
            rows = await connection.execute(chosen)
            return [(_from_row(row._mapping), json.loads(row._mapping[DECISIONS.c.evidence] or "{}")) for row in rows]

    async def labels_on(self, decisions: Iterable[str]) -> dict[str, list[Feedback]]:
        """The labels on some decisions, those that were taken back left out."""
        found = await self.of(decisions)
        return {
            name: [one for one in said if one.kind == "label" and one.value is not None]
            for name, said in found.items()
        }

    async def labels_beside_people(self, version: str | None = None) -> list[Feedback]:
        """Every label, whoever gave it, on the decisions that a person has labelled, of a version or of all."""
        said = FEEDBACK.alias("said")
        is_persons = (said.c.kind == "label") & (said.c.source == "human") & said.c.value.is_not(None)
        by_people = select(said.c.decision).where(is_persons)
        chosen = _labels_by(None) & FEEDBACK.c.value.is_not(None) & FEEDBACK.c.decision.in_(by_people)
        if version is not None:
            chosen &= DECISIONS.c.version == version
        async with self.store.reading() as connection:
            return [_from_row(row._mapping) for row in await connection.execute(counted().where(chosen))]

    async def label_state(self, sources: Iterable[str] | None = None) -> tuple[int, str, float]:
        """How many labels of some sources there are, the moment of the newest, and the sum of all: another, where any
        has changed.
        """
        of_labels = _labels_by(sources)
        newest, total = func.coalesce(func.max(FEEDBACK.c.given_at), ""), func.coalesce(func.sum(FEEDBACK.c.value), 0)
        async with self.store.reading() as connection:
            row = (await connection.execute(select(func.count(), newest, total).where(of_labels))).one()
            return int(row[0]), str(row[1]), float(row[2])


def _labels_by(sources: Iterable[str] | None) -> ColumnElement[bool]:
    of_labels = FEEDBACK.c.kind == "label"
    return of_labels if sources is None else of_labels & FEEDBACK.c.source.in_(list(sources))


def counted(*beside: Any) -> Select[Any]:
    """Select the feedback that counts: on decisions that are there, the key's own or anybody's by an administrator."""
    own = or_(FEEDBACK.c.by_admin, FEEDBACK.c.key == DECISIONS.c.key)
    joined = FEEDBACK.join(DECISIONS, (FEEDBACK.c.decision == DECISIONS.c.id) & own)
    return select(*FEEDBACK.c, *beside).select_from(joined).order_by(FEEDBACK.c.first_at, FEEDBACK.c.id)


def _batches(ids: list[str], size: int = 500) -> Iterable[list[str]]:
    return (ids[at : at + size] for at in range(0, len(ids), size))


def _to_row(one: Feedback) -> dict[str, Any]:
    row = asdict(one) | {"id": one.id, "replays": " ".join(one.replays)}
    row["detail"] = json.dumps(row["detail"]) if row["detail"] else None
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}


def _from_row(row: Mapping[Any, Any]) -> Feedback:
    named = {name: row[FEEDBACK.c[name]] for name in Feedback.__dataclass_fields__}
    detail = json.loads(named["detail"]) if named["detail"] else {}
    return Feedback(**{**named, "replays": tuple((named["replays"] or "").split()), "detail": detail})
