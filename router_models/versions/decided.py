"""What a version decides of a table of prompts, as a serving graph would: what the registered MLflow model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from router_models.errors import DataError
from router_models.types import Query
from router_models.types.chat_prompts import chat_of, read_message
from router_models.types.conditions import conditions_of
from router_models.types.coverage import Uncovered
from router_models.versions.router_version import RouterVersion

DECIDED_COLUMNS = ("tier", "score", "covered", "reasons")


def decide_frame(version: RouterVersion, frame: pd.DataFrame) -> pd.DataFrame:
    """Decide of every row, before generation; deterministic, and the same as serving under the default configuration.

    Parameters
    ----------
    version : RouterVersion
        Decides; its certificate says what is covered.
    frame : DataFrame, (n, m)
        `prompt`: a text; or `messages`: OpenAI's list of chat messages, or the JSON of one. Where a row has both, the
        messages count.

    Returns
    -------
    DataFrame, (n, 4)
        With the frame's index: `tier`, that is asked first; `score`, the calibrated P(its answer is acceptable) that
        this rests on, NaN where none was estimated; `covered`, whether the certificate speaks of the row; `reasons`,
        a list of sentences.

    Raises
    ------
    DataError
        Naming the row that holds neither, or something else.
    """
    known = [name for name in ("messages", "prompt") if name in frame.columns]
    if not known:
        raise DataError(
            f"a column `prompt` or `messages` is needed, found {', '.join(map(str, frame.columns)) or '-'}"
        )
    rows = [_decided(version, _query(cells, place)) for place, cells in enumerate(frame[known].to_dict("records"))]
    return pd.DataFrame(rows, columns=list(DECIDED_COLUMNS), index=frame.index)


def _query(cells: Mapping[Any, Any], place: int) -> Query:
    for name in ("messages", "prompt"):
        cell = cells.get(name)
        if isinstance(cell, np.ndarray):
            cell = cell.tolist()
        if cell is None or (isinstance(cell, float) and cell != cell) or cell == "":
            continue
        try:
            chat = chat_of(cell) if name == "messages" else None
        except ValueError as error:
            raise DataError(f"row {place}, column `messages`: {error}") from error
        if chat is not None:
            return _conversation(chat)
        if name == "messages" or not isinstance(cell, str):
            kind = "a text" if name == "prompt" else "a list of chat messages"
            raise DataError(f"row {place}, column `{name}`: {kind} is needed, found {type(cell).__name__}")
        return Query.from_prompt(cell)
    raise DataError(f"row {place} has neither a prompt nor messages")


def _conversation(chat: Sequence[Mapping[str, Any]]) -> Query:
    return Query(tuple(map(read_message, chat)), {}, {"messages": list(chat)})


def _decided(version: RouterVersion, query: Query) -> tuple[str, float, bool, list[str]]:
    decision = version.decide(query)
    score = float("nan") if decision.p_cheap_ok is None else decision.p_cheap_ok
    if version.certificate is None:
        return decision.tier, score, False, [decision.reason, "the version carries no certificate"]
    why = _uncovered(version, query, decision.distance)
    if why is not None:
        top = version.policy.top
        moved = [] if decision.tier == top else [f"{top} answers what is not covered, by default"]
        return top, score, False, [decision.reason, f"not covered: {why.why}", *moved]
    return decision.tier, score, decision.promised, [decision.reason]


def _uncovered(version: RouterVersion, query: Query, distance: float | None) -> Uncovered | None:
    assert version.certificate is not None
    most = version.longest_prompt
    if most is not None and len(query.text.encode("utf-8", "replace")) > most:
        return Uncovered("length", f"the prompt is longer than the {most} bytes that were certified")
    if (unread := version.unread(query.text)) is not None:
        return unread
    return version.certificate.coverage.uncovered(conditions_of(query), distance)
