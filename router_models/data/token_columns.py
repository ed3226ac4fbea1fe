"""Answers token by token, as columns of an outcomes table: what a beginning of N tokens is cut from.

`token_texts` holds lists of strings, `token_logprobs` lists of 32-bit floats (`prefixes.kept_logprobs`); both are
optional, and a row without them is null or empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from router_models.data.prefixes import kept_logprobs
from router_models.errors import DataError
from router_models.types import Outcome, Tokens

TOKEN_COLUMNS = ("token_texts", "token_logprobs")


def tokens_of(frame: pd.DataFrame) -> Tokens | None:
    """Read the token columns of a LONG table; None where it has none, or where no row holds a token.

    DataError where there is only one of them, or where a row's lists are not equally long.
    """
    present = [name for name in TOKEN_COLUMNS if name in frame.columns]
    if not present:
        return None
    if len(present) == 1:
        raise DataError(f"column {present[0]!r} needs {' and '.join(TOKEN_COLUMNS)}: a token is a text and a logprob")
    texts: list[tuple[str, ...]] = []
    logprobs: list[tuple[float, ...]] = []
    for row, (words, numbers) in enumerate(zip(*(frame[name] for name in TOKEN_COLUMNS), strict=True)):
        said, certain = _list(words, "token_texts", row), _list(numbers, "token_logprobs", row)
        if len(said) != len(certain):
            raise DataError(f"row {row}: {len(said)} token_texts but {len(certain)} token_logprobs")
        try:
            logprobs.append(kept_logprobs([float(number) for number in certain]) if certain else ())
        except (TypeError, ValueError) as error:
            raise DataError(f"column 'token_logprobs', row {row}: not numbers ({error})") from error
        texts.append(tuple(str(text) for text in said))
    return Tokens(tuple(texts), tuple(logprobs)) if any(texts) else None


def token_cells(outcome: Outcome, name: str) -> np.ndarray | list[str] | None:
    """One outcome's cell of a token column; None where its tokens were not kept."""
    if not outcome.token_texts:
        return None
    if name == "token_texts":
        return list(outcome.token_texts)
    return np.array(kept_logprobs(outcome.token_logprobs), dtype=np.float32)


def _list(cell: Any, name: str, row: int) -> Sequence[Any]:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return ()
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    raise DataError(f"column {name!r}, row {row}: a list is needed, one entry per token, got {type(cell).__name__}")
