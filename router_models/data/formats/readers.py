"""Read files of outcomes into data frames; `formats` interprets their columns.

The index of a frame from a text file holds line numbers and is named `line`, so that messages name lines of the file.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from router_models.data.formats.cells import NO_VALUE
from router_models.data.formats.headers import checked_names
from router_models.data.formats.json_lines import json_object, numbered_lines
from router_models.data.formats.parquet_files import read_parquet
from router_models.data.formats.text_files import read_text
from router_models.errors import DataError

_CSV_TEXTS = frozenset({"prompt", "answer", "tier"})


def read_frame(path: Path) -> pd.DataFrame:
    """Load a table in the format that its suffix names.

    Parameters
    ----------
    path : Path
        A .parquet, .csv, .jsonl or .ndjson file, compressed (.gz) or not; text in UTF-8, or with a byte order mark.

    Returns
    -------
    DataFrame
        The file's columns, uninterpreted; texts of CSV files are read literally (an answer may be the word None).

    Raises
    ------
    DataError
        Where the file is missing, unreadable, of another kind, or empty; naming the line of a text file.
    """
    name = path.name.lower().removesuffix(".gz")
    if path.exists() and not name.endswith((".parquet", ".csv", ".jsonl", ".ndjson")):
        raise DataError(f"{path}: not a .parquet, .csv or .jsonl file: name it after what it holds")
    if name.endswith(".parquet"):
        frame = read_parquet(path)
    elif name.endswith(".csv"):
        frame = _csv(path)
    else:
        frame = _json_lines(path)
    if frame.empty:
        raise DataError(f"{path}: holds no rows")
    return frame


def _frame(path: Path, names: Sequence[str], columns: Sequence[Sequence[Any]], lines: Sequence[int]) -> pd.DataFrame:
    index = pd.Index(lines, name="line")
    cells = {
        name: pd.Series(list(column), dtype=object, index=index).infer_objects()
        for name, column in zip(checked_names(path, names), columns, strict=True)
    }
    return pd.DataFrame(cells, index=index)


def _csv(path: Path) -> pd.DataFrame:
    header, rows, lines = _csv_rows(path)
    columns: list[Sequence[Any]] = [[row[i] for row in rows] for i in range(len(header))]
    names = [name.strip() for name in header]
    if len(names) == 1 and (marks := [mark for mark in ";\t|" if mark in names[0]]):
        raise DataError(f"{path}: columns are separated by {marks[0]!r}: save it with commas")
    kept = [i for i, name in enumerate(names) if name or not _means_nothing(columns[i], i)]
    if nameless := [i for i in kept if not names[i]]:
        raise DataError(f"{path}: column {nameless[0] + 1} of the header (line 1) has no name: give it one")
    typed = [_literal(columns[i], names[i]) if _is_literal(names[i]) else _typed(columns[i]) for i in kept]
    return _frame(path, [names[i] for i in kept], typed, lines)


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows and the line on which each begins; every row has as many cells as the header."""
    text = read_text(path)
    limit = csv.field_size_limit(sys.maxsize)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = cells
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()  # trailing commas
            if len(cells) != len(header):
                raise DataError(
                    f"{path}: line {line} has {len(cells)} cells, the header has {len(header)}: quote texts that hold "
                    "commas or line breaks"
                )
            rows.append(cells)
            lines.append(line)
    except csv.Error as error:
        raise DataError(
            f"{path}: line {begins} cannot be read as CSV ({error}): double the quotes in texts"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return header, rows, lines


def _means_nothing(column: Sequence[str], position: int) -> bool:
    """Return whether a column without a name is empty, or counts the rows as pandas' own index does."""
    if not any(cell.strip() for cell in column):
        return True
    return position == 0 and [cell.strip() for cell in column] == [str(i) for i in range(len(column))]


def _is_literal(name: str) -> bool:
    return name in _CSV_TEXTS or name.endswith(("_answer", "_pred", "label_source"))


def _literal(column: Sequence[str], name: str) -> list[str | None]:
    return [cell if cell or name not in ("prompt", "tier") else None for cell in column]


def _typed(column: Sequence[str]) -> Sequence[Any]:
    """Return a column's cells as numbers or booleans where all of them are, else as texts; None = no value."""
    cells = [None if cell.strip().casefold() in NO_VALUE else cell for cell in column]
    words = {cell.strip().casefold() for cell in cells if cell is not None}
    if words and words <= {"true", "false"}:
        return [None if cell is None else cell.strip().casefold() == "true" for cell in cells]
    try:
        return pd.to_numeric(pd.Series(cells, dtype=object)).tolist() if words else cells
    except (ValueError, OverflowError):
        return cells


def _json_lines(path: Path) -> pd.DataFrame:
    rows, lines = [], []
    for number, line in numbered_lines(read_text(path)):
        try:
            rows.append(json_object(line))
        except DataError as error:
            raise DataError(f"{path}: line {number}: {error}") from error
        lines.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _frame(path, names, [[row.get(name) for row in rows] for name in names], lines)
