"""Convert the cells of a column to numbers, grades and texts, whatever type the file gave them.

Every function raises DataError naming the column and the row (or line) of the first cell that cannot be used.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from datetime import date, datetime, time
from numbers import Number
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from router_models.errors import AdjustedWarning, DataError
from router_models.types import FloatArray
from router_models.types.chat_prompts import chat_of, routed_text, shown
from router_models.types.label_sources import parsed_source

NO_VALUE = frozenset({"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>"})
"""Words that stand for no value where a number is expected, in lower case."""
OFF_SCALE = 1e-6
"""How far outside [0, 1] a grade may lie by rounding: it is clipped, with a warning."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?(0,\d+|\d+,(\d{1,2}|\d{4,}))", re.ASCII)
T = TypeVar("T")


def place(column: pd.Series | pd.DataFrame, position: int) -> str:
    """Name a row as its file does: the line of a text file, else the row from 0."""
    return f"{column.index.name or 'row'} {column.index[position]}"


def is_text(column: pd.Series) -> bool:
    """Return whether a column holds something other than numbers and booleans; columns with gaps may hold objects."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    there = [value for value in column if not is_missing(value)]
    return not there or not all(isinstance(value, Number | np.bool_) for value in there)


def is_missing(cell: Any) -> bool:
    """Return whether a cell holds no value: None, NaN, NaT or NA."""
    return cell is None or (not isinstance(cell, list | dict | np.ndarray | tuple) and bool(pd.isna(cell)))


def to_texts(column: pd.Series) -> tuple[str, ...]:
    """Return a column as texts: an empty one where there is no value, JSON for lists and objects."""
    return _each(column, _text)


def to_prompts(column: pd.Series) -> tuple[tuple[str, list[dict[str, Any]] | None], ...]:
    """Return the prompts: texts, and the routed text of conversations with their messages; none may be empty."""
    return _each(column, _prompt)


def to_label_sources(column: pd.Series) -> tuple[str, ...]:
    """Return whose labels they are (`types.label_sources`): an empty text where a row does not say."""
    return converted(column, parsed_source)


def converted(column: pd.Series, convert: Callable[[str], str]) -> tuple[str, ...]:
    """Return a column as texts, each converted; DataError names the row whose text raises ValueError."""

    def one(cell: Any) -> str:
        try:
            return convert(_text(cell))
        except ValueError as error:
            raise DataError(str(error)) from error

    return _each(column, one)


def to_numbers(column: pd.Series, *, least: float | None = None) -> FloatArray:
    """Return a column as float64, NaN = missing; `least` is the smallest value that makes sense."""
    values = _floats(column)
    if np.isinf(values).any():
        where = place(column, int(np.isinf(values).argmax()))
        raise DataError(
            f"column {column.name!r} is infinite in {where}: clip it, or leave it empty where not measured"
        )
    if least is not None and (below := values < least).any():
        row = int(below.argmax())
        raise DataError(
            f"column {column.name!r}, {place(column, row)}: {values[row]:g} is below {least:g}: leave it empty where "
            "not measured"
        )
    return values


def to_grades(column: pd.Series, scale: tuple[float, float] | None) -> FloatArray:
    """Return a column of grades in [0, 1], NaN = not graded; those outside by no more than rounding are clipped."""
    values = to_numbers(column)
    if np.isnan(values).all():
        raise DataError(f"column {column.name!r} holds no grade at all")
    if scale is not None:
        values = (values - scale[0]) / (scale[1] - scale[0])
    off = (values < -OFF_SCALE) | (values > 1 + OFF_SCALE)
    if off.any():
        row = int(off.argmax())
        raise DataError(
            f"column {column.name!r}, {place(column, row)}: grade {values[row]:g} is not in [0, 1]; give `scale` (1 "
            "to 10, say) if this is a score, or name the tiers if this column is not a grade"
        )
    if (rounded := (values < 0) | (values > 1)).any():
        row = int(rounded.argmax())
        warnings.warn(
            f"column {column.name!r}: {int(rounded.sum())} grade(s) lie outside [0, 1] by rounding (first: "
            f"{place(column, row)}, {float(values[row])!r}) and are clipped",
            AdjustedWarning,
            stacklevel=2,
        )
    return np.clip(values, 0.0, 1.0)


def _floats(column: pd.Series) -> FloatArray:
    if pd.api.types.is_complex_dtype(column):
        raise DataError(f"column {column.name!r} must be numeric, found complex numbers")
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array(_each(column, _float), dtype=np.float64)


def _each(column: pd.Series, convert: Callable[[Any], T]) -> tuple[T, ...]:
    found = []
    for position, cell in enumerate(column):
        try:
            found.append(convert(cell))
        except DataError as error:
            raise DataError(f"column {column.name!r}, {place(column, position)}: {error}") from error
    return tuple(found)


def _float(cell: Any) -> float:
    if is_missing(cell):
        return np.nan
    if isinstance(cell, str):
        word = cell.strip().casefold()
        if word in NO_VALUE:
            return np.nan
        if word in ("true", "false"):
            return float(word == "true")
        if _DECIMAL_COMMA.fullmatch(word):
            word = word.replace(",", ".")
        if not _NUMBER.fullmatch(word):
            raise DataError(f"{shown(cell)} must be numeric: write a number such as 0.5, or leave it empty")
        return float(word)
    if not isinstance(cell, Number | np.bool_) or isinstance(cell, complex):
        raise DataError(f"{shown(cell)} must be numeric: write a number such as 0.5, or leave it empty")
    try:
        return float(cell)  # type: ignore[arg-type]
    except OverflowError:
        return np.inf


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if is_missing(cell):
        return ""
    if isinstance(cell, bytes):
        return _decoded(cell)
    if isinstance(cell, list | tuple | dict | np.ndarray):
        return json.dumps(_plain(cell), ensure_ascii=False, default=str)
    return str(cell)


def _prompt(cell: Any) -> tuple[str, list[dict[str, Any]] | None]:
    if is_missing(cell):
        raise DataError("no text; every row needs its prompt")
    cell = _decoded(cell) if isinstance(cell, bytes) else _plain(cell)
    try:
        messages = chat_of(cell)
    except ValueError as error:
        raise DataError(str(error)) from error
    text = cell if messages is None else routed_text(messages)
    if not text.strip():
        raise DataError("no text; every row needs its prompt")
    return text, messages


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"bytes that are not UTF-8 ({error.reason}): write text") from error


def _plain(value: Any) -> Any:
    """Return what arrays and the parts of lists hold as JSON values."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, date | datetime | time) else value
