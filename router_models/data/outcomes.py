"""Read recorded outcomes: the grades of several tiers on the same prompts.

`table` holds what is read, `splits` divides it, and `formats` has the columns that files may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router_models.data.formats import (
    Columns,
    frame_to_outcomes,
    outcomes_to_frame,
    parse_columns,
    read_frame,
    write_outcomes,
)
from router_models.data.splits import assert_disjoint, group_duplicates, prompt_id, split
from router_models.data.table import OutcomeTable
from router_models.errors import DataError
from router_models.types import Answers, Prompts
from router_models.types.exchange import BEFORE_NAMES

__all__ = [
    "OutcomeTable",
    "assert_disjoint",
    "frame_to_outcomes",
    "group_duplicates",
    "outcomes_to_frame",
    "prompt_id",
    "read_outcomes",
    "split",
    "table_of",
    "write_outcomes",
]


def read_outcomes(
    path: Path | str,
    tiers: Sequence[str] | None = None,
    scale: tuple[float, float] | None = None,
    metadata: Sequence[str] = (),
) -> OutcomeTable:
    """Load a file of outcomes: one row per prompt and tier (LONG), or a column of grades per tier (WIDE).

    Parameters
    ----------
    path : Path or str
        A .parquet, .csv or .jsonl file, compressed (.gz) or not.
    tiers : sequence of str, optional
        Keep only these tiers.
    scale : tuple of float, optional
        Maps scores from this range, such as (1, 10), to [0, 1].
    metadata : sequence of str
        Columns that are no grades although they hold numbers.

    Returns
    -------
    OutcomeTable
        Every prompt once, with the grades of every tier.

    Raises
    ------
    DataError
        Naming the column and the row (of text files the line) for what cannot be used, in one sentence.
    """
    try:
        return table_of(parse_columns(read_frame(Path(path)), tiers, scale, metadata))
    except DataError as error:
        message = " ".join(str(error).splitlines())
        raise DataError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def table_of(columns: Columns) -> OutcomeTable:
    """Build a table from parsed columns: prompt ids, duplicate groups, answers with their signals.

    Parameters
    ----------
    columns : Columns
        What `formats.parse_columns` returns.

    Returns
    -------
    OutcomeTable
    """
    first = columns.signals.get(next(iter(columns.grades), ""), {})
    before = {name: first[name] for name in BEFORE_NAMES if name in first}
    prompts = Prompts(columns.prompts, None, dict(columns.metadata), signals=before)
    answers = {
        tier: Answers(
            prompts,
            texts,
            columns.finish_reasons.get(tier, ("stop",) * len(texts)),
            dict(columns.signals.get(tier, {})),
        )
        for tier, texts in columns.answers.items()
    }
    return OutcomeTable(
        prompts=prompts,
        prompt_ids=tuple(map(prompt_id, columns.prompts)),
        tiers=tuple(columns.grades),
        grades=dict(columns.grades),
        groups=group_duplicates(columns.prompts),
        answers=answers,
        prompt_tokens=dict(columns.counts.get("prompt_tokens", {})),
        completion_tokens=dict(columns.counts.get("completion_tokens", {})),
        cached_tokens=dict(columns.counts.get("cached_tokens", {})),
        latency_s=dict(columns.counts.get("latency_s", {})),
        confidences={f"{tier}|{n}": c for tier, named in columns.signals.items() for n, c in named.items()},
        tokens=dict(columns.tokens),
        label_sources=dict(columns.label_sources),
        collected_at=dict(columns.collected_at),
    )
