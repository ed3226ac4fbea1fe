"""How and when a row of outcomes came to be there: drawn by chance, or chosen by what served it or by a grader.

Tables of `collect` do not say: every prompt that was asked has its row. Tables of served traffic say it in a column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np

from router_models.types.arrays import BoolArray, FloatArray
from router_models.types.batches import Prompts

DRAWN = "drawn"
"""The column: `yes`, one of a random sample of the traffic; `no`, chosen; empty, of another table."""
IS_DRAWN, IS_CHOSEN = "yes", "no"
DRAWS_TRIED = "draws_tried"
"""The column of how many random samples were tried before one of them was taken; empty: 1."""
DRAW_ID = "draw_id"
"""The column of which random sample a row was chosen with, of tables that are put together."""
SAMPLE_WEIGHT = "sample_weight"
"""The column of what a row counts for in training, 0 or more; empty: 1."""

COLLECTED_AT = "collected_at"
"""The column of when a row's answer was made, ISO 8601 with a time zone; empty: not known."""


def moment_of(text: str) -> datetime | None:
    """Return when a row was collected, by its cell; None for an empty one.

    Raises
    ------
    ValueError
        For what is no time, or has no time zone.
    """
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{COLLECTED_AT} must be a time with its zone, such as 2026-03-01T12:00:00+00:00, got {text[:60]!r}"
        )
    return moment


def oldest(cells: Iterable[str], now: datetime) -> datetime | None:
    """Return since when all of these rows were collected, `now` at the latest; None where one does not say."""
    moments = [moment_of(cell) for cell in set(cells)]
    known = [moment for moment in moments if moment is not None]
    return min(*known, now).astimezone(UTC) if known and len(known) == len(moments) else None


def chosen_rows(prompts: Prompts) -> BoolArray:
    """Return which rows were chosen by something other than chance, so that they certify nothing, (n,)."""
    return _that_say(IS_CHOSEN, prompts)


def drawn_rows(prompts: Prompts) -> BoolArray:
    """Return which rows are said to be of a random sample: all of it or none may certify, (n,)."""
    return _that_say(IS_DRAWN, prompts)


def _that_say(word: str, prompts: Prompts) -> BoolArray:
    said = prompts.metadata.get(DRAWN, ("",) * len(prompts))
    return np.array([value.strip().casefold() == word for value in said], dtype=np.bool_)


def draws_tried(prompts: Prompts) -> int:
    """Return of how many random samples the rows that are drawn were chosen as one.

    Where several samples were put together, each chosen of some that were tried, it is one of all their combinations:
    the product. Samples are told apart by `draw_id`, and where rows have none by how many were tried.

    Raises
    ------
    ValueError
        For what is no number of 1 or more.
    """
    samples = prompts.metadata.get(DRAW_ID, ("",) * len(prompts))
    said = {one for one in zip(samples, prompts.metadata.get(DRAWS_TRIED, ()), strict=False) if one[1].strip()}
    if not all(float(value) >= 1 and float(value).is_integer() for _, value in said):
        raise ValueError(f"{DRAWS_TRIED} must be 1 or more, got {', '.join(sorted(value for _, value in said))}")
    # beside rows that do not say it a file holds 4 as 4.0
    return math.prod(tried for _, tried in {(sample.strip(), int(float(value))) for sample, value in said})


def sample_weights(prompts: Prompts) -> FloatArray | None:
    """Return what each row counts for in training, (n,); None where the batch does not say.

    Raises
    ------
    ValueError
        For a weight that is no number of 0 or more; a file that holds one is refused where it is read.
    """
    said = prompts.metadata.get(SAMPLE_WEIGHT)
    if said is None or not any(said):
        return None
    weights = np.array([float(value) if value else 1.0 for value in said], dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights that are negative or not finite")
    return weights
