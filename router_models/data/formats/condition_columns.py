"""Read under which conditions the rows of a table were asked, from the columns `CONDITION_COLUMNS`; absent: plain.

Where a column is absent or a cell empty, and the prompt is a conversation, its messages say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from router_models.data.formats.cells import place, to_texts
from router_models.data.table import OutcomeTable
from router_models.errors import DataError
from router_models.types import Query
from router_models.types.chat_prompts import read_message
from router_models.types.condition_cells import CONDITION_COLUMNS, DECLARED_IN, HASHED, PLAIN_WORDS
from router_models.types.conditions import PLAIN, Conditions, conditions_of


def conditions_of_table(table: OutcomeTable) -> tuple[Conditions, ...]:
    """Return under which conditions every row was asked, (n,).

    Parameters
    ----------
    table : OutcomeTable
        Its metadata may hold any of `CONDITION_COLUMNS`; an empty cell, or a column that is absent: the plain case.

    Returns
    -------
    tuple of Conditions

    Raises
    ------
    DataError
        Naming the column and row of a value that cannot be read.
    """
    columns = {name: table.prompts.metadata[name] for name in CONDITION_COLUMNS if name in table.prompts.metadata}
    if not columns:
        return (PLAIN,) * len(table)
    known: dict[tuple[str, ...], Conditions] = {}
    found, read = [], set[tuple[str, str]]()
    for row, cells in enumerate(zip(*columns.values(), strict=True)):
        if cells not in known:
            for name, cell in zip(columns, cells, strict=True):
                if (name, cell) not in read:
                    _one_spelling(name, cell, f"row {row}")
                    read.add((name, cell))
            known[cells] = Conditions.from_columns(dict(zip(columns, cells, strict=True)))
        found.append(known[cells])
    return tuple(found)


def condition_words(asked: Conditions, name: str) -> str:
    """Return one condition in words; system prompts, tools and schemas by the first 12 digits of its hash."""
    text = asked.columns()[name]
    return (text[:12] if name in HASHED else text) or PLAIN_WORDS[name]


def with_conditions(frame: pd.DataFrame, chats: Sequence[Sequence[Mapping[str, Any]] | None]) -> pd.DataFrame:
    """Return a table whose columns of conditions hold one spelling of every condition; DataError as above.

    Parameters
    ----------
    frame : DataFrame
        The table; a column that it has is read as it stands.
    chats : sequence, (n,)
        The messages of prompts that are conversations, None of plain texts: they fill empty cells, and a column that
        the table lacks where they say more than the plain case.
    """
    asked = [None if chat is None else _of_messages(chat).columns() for chat in chats]
    plain = PLAIN.columns()
    read: dict[str, list[str]] = {}
    for name in CONDITION_COLUMNS:
        beside = DECLARED_IN.get(name, "")
        if name not in frame.columns and beside in frame.columns:
            told = {text: _declared(name, beside, text) for text in set(to_texts(frame[beside]))}
            if any(told.values()):
                read[name] = [told[text] for text in to_texts(frame[beside])]
            continue
        if name not in frame.columns:
            if any(row is not None and row[name] != plain[name] for row in asked):
                read[name] = [(row or plain)[name] for row in asked]
            continue
        spelled: dict[str, str] = {}
        for row, text in enumerate(texts := to_texts(frame[name])):
            if text not in spelled:
                spelled[text] = _one_spelling(name, text, place(frame, row))
        said = [plain if row is None else row for row in asked]
        read[name] = [spelled[text] if text.strip() else of[name] for text, of in zip(texts, said, strict=True)]
    return frame.assign(**read)


def _of_messages(chat: Sequence[Mapping[str, Any]]) -> Conditions:
    return conditions_of(Query(tuple(map(read_message, chat)), {}, {"messages": list(chat)}))


def asked_as(frame: pd.DataFrame, key: str) -> Sequence[str]:
    """Return what tells the prompts of a LONG table apart, (n,): the key, and the conditions it was asked under."""
    columns = [frame[name] for name in CONDITION_COLUMNS if name in frame.columns]
    return ["\x1f".join(map(str, cells)) for cells in zip(frame[key], *columns, strict=True)]


def _declared(name: str, beside: str, text: str) -> str:
    """Which tools, or which schema, a cell of the column `beside` has; whether it can be read, that column says."""
    try:
        return Conditions.from_columns({beside: text}).columns()[name]
    except ValueError:
        return ""


def _one_spelling(name: str, text: str, where: str) -> str:
    try:
        return Conditions.from_columns({name: text}).columns()[name]
    except ValueError as error:
        raise DataError(f"column {name!r}, {where}: {error}") from error
