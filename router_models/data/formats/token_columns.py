"""Store answers token by token in two columns of a table of outcomes; prefixes of answers are cut from them.

`token_texts` holds lists of strings, `token_logprobs` lists of 32-bit floats (`prefixes.kept_logprobs`); both are
optional, and a row without them is null or empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from router_models.data.formats.cells import place
from router_models.data.prefixes import kept_logprobs
from router_models.errors import DataError
from router_models.types import Outcome, Tokens

TOKEN_COLUMNS = ("token_texts", "token_logprobs")


def tokens_of(frame: pd.DataFrame) -> Tokens | None:
    """Read the token columns of a LONG table.

    Parameters
    ----------
    frame : DataFrame
        The table.

    Returns
    -------
    Tokens or None
        None where the table has no token columns, or no row holds a token.

    Raises
    ------
    DataError
        Where only one of the columns is there, or a row's lists differ in length.
    """
    present = [name for name in TOKEN_COLUMNS if name in frame.columns]
    if not present:
        return None
    if len(present) == 1:
        raise DataError(f"column {present[0]!r} needs {' and '.join(TOKEN_COLUMNS)}: a token is a text and a logprob")
    texts: list[tuple[str, ...]] = []
    logprobs: list[tuple[float, ...]] = []
    for row, (words, numbers) in enumerate(zip(*(frame[name] for name in TOKEN_COLUMNS), strict=True)):
        tokens, values = (
            _list(words, "token_texts", place(frame, row)),
            _list(numbers, "token_logprobs", place(frame, row)),
        )
        if len(tokens) != len(values):
            raise DataError(f"{place(frame, row)}: {len(tokens)} token_texts but {len(values)} token_logprobs")
        try:
            logprobs.append(kept_logprobs([float(value) for value in values]) if values else ())
        except (TypeError, ValueError) as error:
            raise DataError(f"column 'token_logprobs', {place(frame, row)}: not numbers ({error})") from error
        texts.append(tuple(str(token) for token in tokens))
    return Tokens(tuple(texts), tuple(logprobs)) if any(texts) else None


def token_cells(outcome: Outcome, name: str) -> np.ndarray | list[str] | None:
    """Return one outcome's cell of a token column; None where its tokens were not kept."""
    if not outcome.token_texts:
        return None
    if name == "token_texts":
        return list(outcome.token_texts)
    return np.array(kept_logprobs(outcome.token_logprobs), dtype=np.float32)


def _list(cell: Any, name: str, where: str) -> Sequence[Any]:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return ()
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    raise DataError(f"column {name!r}, {where}: a list is needed, one entry per token, got {type(cell).__name__}")
