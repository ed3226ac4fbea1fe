"""Labelling kept answers in the browser: one at a time, in random order, blind to the tier, by keyboard alone.

The same answers in the same order as `decisions label`; labels go the way of `POST /v1/feedback`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from sqlalchemy import func, select
from starlette.responses import RedirectResponse

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.labels import POWER, labels_assured
from router_models.types import DECIDED_BY_NO_VERSION, DecisionRecord
from serve_graph.access.caller import CALLER
from serve_graph.api.audit import note_reading
from serve_graph.api.console.pages import PageReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.signing_in import form_values, read_form
from serve_graph.api.console.traffic import within
from serve_graph.errors import NotFoundError, RequestError
from serve_graph.learning.feedback import GivenFeedback
from serve_graph.learning.labelled import drawn_order, is_promised, up_for_labelling
from serve_graph.records.schema import DECISIONS, FEEDBACK
from serve_graph.records.store import DecisionStore

LABELS_PAGE = "/console/labels"
REACH = timedelta(days=30)
MOST_SEARCHED = 50_000
"""The newest decisions among which those up for labelling are looked for."""
MOST_LOOKED_AT = 400
"""Records that are read for one page, until one has a text and a promise."""
PEOPLE = ("human", "programmatic")
VERDICTS = {"right": 1.0, "wrong": 0.0}


@dataclass(frozen=True, slots=True)
class LabelTask:
    """An answer to label: `left` are up for labelling and have none of this person's labels, this one included.

    `record` is None where none is left after the last one that was shown.
    """

    record: DecisionRecord | None
    mine: int
    left: int


@dataclass(frozen=True, slots=True)
class LabelNeed:
    """Labels that the next certificate needs.

    `right` and `wrong` are those on this version's answers by people and programs, once an answer and voice. `needed`:
    accepted answers with labels from which on the same promise is certified again with probability POWER, at the risk
    that these, or the certificate's own counts where those are more, leave open; None: no number does.
    """

    right: int
    wrong: int
    needed: int | None

    @property
    def still(self) -> int | None:
        """How many are missing."""
        return None if self.needed is None else max(0, self.needed - self.right - self.wrong)


async def next_to_label(parts: ConsoleParts, labeller: str, after: str = "", wanted: str = "") -> LabelTask:
    """Find the next answer after a decision in the random order, or the decision that is wanted.

    Raises StoreUnavailableError.
    """
    names = await _drawn(parts)
    labelled = await _labelled_by(parts.store, labeller)
    mine = sum(name in labelled for name in names)
    left = [name for name in names if name not in labelled or name == wanted]
    if wanted:
        ahead = [name for name in left if name == wanted]
    else:
        ahead = [name for name in left if not after or drawn_order(name) > drawn_order(after)]
    for name in ahead[:MOST_LOOKED_AT]:
        record = await parts.store.get(name)
        if record is not None and record.prompt and record.evidence.get("answer") and is_promised(record.evidence):
            return LabelTask(record, mine, len(left))
    return LabelTask(None, mine, len(left))


async def label_need(store: DecisionStore, version: str, certificate: Certificate) -> LabelNeed:
    """Count the labels that there are, and those that the next certificate of the same promise needs."""
    of_version = FEEDBACK.join(DECISIONS, FEEDBACK.c.decision == DECISIONS.c.id)
    where = (FEEDBACK.c.kind == "label") & FEEDBACK.c.source.in_(PEOPLE) & FEEDBACK.c.value.is_not(None)
    query = select(FEEDBACK.c.value, func.count()).select_from(of_version)
    async with store.reading() as connection:
        counted = query.where(where & (DECISIONS.c.version == version)).group_by(FEEDBACK.c.value)
        counts = {float(value): int(n) for value, n in await connection.execute(counted)}
    right, wrong = counts.get(1.0, 0), counts.get(0.0, 0)
    errors, n = (wrong, right + wrong) if right + wrong > certificate.accepted_n else _counts(certificate)
    needed = await asyncio.to_thread(_needed, certificate.epsilon, errors, n, certificate.level)
    return LabelNeed(right, wrong, needed)


async def show_labels(request: Request, parts: ConsoleParts) -> Response:
    """The next answer, or the form that asks who labels."""
    asked = request.query_params
    labeller = _name(asked.get("labeller", ""))
    served = parts.served()
    need = None if served.certificate is None else await label_need(parts.store, served.name, served.certificate)
    task = None
    if labeller:
        task = await next_to_label(parts, labeller, asked.get("after", ""), asked.get("at", ""))
        if task.record is not None:
            detail = {"key": task.record.key, "for": "labelling"}
            await note_reading(parts.audit, "decisions.read", task.record.id, detail)
    values = {
        "labeller": labeller,
        "task": task,
        "need": need,
        "power": POWER,
        "share": parts.label_share,
        "harm": served.harm,
        "keeps": parts.keeps_answers,
        "after": asked.get("after", ""),
        "last": asked.get("last", ""),
        "suggested": CALLER.get().name or "",
    }
    return PageReply(page("labels", LABELS_PAGE, **values, **form_values(request, parts)))


async def take_label(request: Request, parts: ConsoleParts) -> Response:
    """Keep a label, take the last one back, or skip an answer; then the next one is shown."""
    fields = await read_form(request, parts)
    labeller, verdict = _name(fields.get("labeller", "")), fields.get("verdict", "")
    decision, last = fields.get("decision", ""), fields.get("last", "")
    if not labeller or parts.feedback is None:
        raise RequestError("a label needs the name of whoever gives it", "labeller")
    if verdict == "undo":
        await _check_drawn(parts, last)
        await _write(parts, last, labeller, None)
        return _to({"labeller": labeller, "at": last})
    await _check_drawn(parts, decision)
    if verdict == "skip":
        return _to({"labeller": labeller, "after": decision, "last": last})
    if verdict not in VERDICTS:
        raise RequestError("a verdict is right, wrong, skip or undo", "verdict")
    await _write(parts, decision, labeller, VERDICTS[verdict])
    return _to({"labeller": labeller, "after": decision, "last": decision})


async def _write(parts: ConsoleParts, decision: str, labeller: str, value: float | None) -> None:
    assert parts.feedback is not None
    await parts.feedback.take(GivenFeedback(decision, "label", "human", value, labeller=labeller), CALLER.get())


async def _check_drawn(parts: ConsoleParts, decision: str) -> None:
    """Raise NotFoundError for a decision that is not up for labelling: a label of one that was picked says nothing."""
    found = None
    if decision.isprintable() and 0 < len(decision) <= 64 and up_for_labelling(decision, parts.label_share):
        found = await parts.store.get(decision)
    if found is None or not is_promised(found.evidence):
        raise NotFoundError("this answer is not up for labelling", "decision")


async def _drawn(parts: ConsoleParts) -> list[str]:
    """The decisions of the random share, in their random order; an index has all that this reads."""
    since = (parts.now() - REACH).isoformat(timespec="milliseconds")
    columns = DECISIONS.c
    where = within(since) & (columns.status == 200) & (columns.outcome.not_in(DECIDED_BY_NO_VERSION))
    query = select(columns.id).where(where).order_by(func.coalesce(columns.created_at, "").desc())
    async with parts.store.reading() as connection:
        names = [row[0] for row in await connection.execute(query.limit(MOST_SEARCHED))]
    share = parts.label_share
    return await asyncio.to_thread(lambda: sorted((n for n in names if up_for_labelling(n, share)), key=drawn_order))


async def _labelled_by(store: DecisionStore, labeller: str) -> set[str]:
    of_labels = (FEEDBACK.c.kind == "label") & FEEDBACK.c.value.is_not(None) & (FEEDBACK.c.labeller == labeller)
    async with store.reading() as connection:
        return {row[0] for row in await connection.execute(select(FEEDBACK.c.decision).where(of_labels))}


@lru_cache(32)
def _needed(epsilon: float, errors: int, n: int, level: float) -> int | None:
    return labels_assured(epsilon, errors, n, level)


def _counts(certificate: Certificate) -> tuple[int, int]:
    return certificate.errors, certificate.accepted_n


def _name(given: str) -> str:
    name = given.strip()
    if len(name) > 64 or not name.isprintable():
        raise RequestError("a labeller's name has 64 characters at most, all printable", "labeller")
    return name


def _to(parameters: dict[str, Any]) -> Response:
    chosen = {name: value for name, value in parameters.items() if value}
    return RedirectResponse(f"{LABELS_PAGE}?{urlencode(chosen)}", 303, headers={"cache-control": "no-store"})
