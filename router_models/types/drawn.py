"""How a row of outcomes came to be there: drawn by chance, or chosen by what served it or by whoever graded it.

Tables of `collect` do not say: every prompt that was asked has its row. Tables of served traffic say it in a column.
"""

from __future__ import annotations

import numpy as np

from router_models.types.arrays import BoolArray, FloatArray
from router_models.types.batches import Prompts

DRAWN = "drawn"
"""The column: `yes`, one of a random sample of the traffic; `no`, chosen; empty, of another table."""
IS_DRAWN, IS_CHOSEN = "yes", "no"
DRAWS_TRIED = "draws_tried"
"""The column of how many random samples were tried before one of them was taken; empty: 1."""
SAMPLE_WEIGHT = "sample_weight"
"""The column of what a row counts for in training, 0 or more; empty: 1."""


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

    Raises
    ------
    ValueError
        For what is no number of 1 or more.
    """
    said = {value for value in prompts.metadata.get(DRAWS_TRIED, ()) if value.strip()}
    draws = max(map(float, said), default=1.0)  # beside rows that do not say it a file holds 4 as 4.0
    if not all(float(value) >= 1 and float(value).is_integer() for value in said):
        raise ValueError(f"{DRAWS_TRIED} must be 1 or more, got {', '.join(sorted(said))}")
    return int(draws)


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
