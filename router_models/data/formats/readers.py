"""Read files of outcomes into data frames; `formats` interprets their columns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd

from router_models.errors import DataError

_CSV_TEXTS = frozenset({"prompt", "answer", "tier"})


def read_frame(path: Path) -> pd.DataFrame:
    """Load a table in the format that its suffix names.

    Parameters
    ----------
    path : Path
        A .parquet, .csv, .csv.gz, .jsonl, .ndjson or .jsonl.gz file.

    Returns
    -------
    DataFrame
        The file's columns, uninterpreted; texts of CSV files are read literally (an answer may be the word None).

    Raises
    ------
    DataError
        Where the file is missing, unreadable, of another kind, or empty.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            frame = pd.read_parquet(path)
        elif name.endswith(".csv"):
            frame = _csv(path)
        elif name.endswith((".jsonl", ".ndjson")):
            frame = pd.DataFrame(_json_lines(path))
        else:
            raise DataError(f"{path}: not a .parquet, .csv or .jsonl file")
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({error})") from error
    if frame.empty:
        raise DataError(f"{path}: holds no rows")
    return frame


def _csv(path: Path) -> pd.DataFrame:
    """Read text columns literally (an answer may be the word None), all others as pandas does."""
    names = pd.read_csv(path, nrows=0).columns
    texts = [name for name in names if name in _CSV_TEXTS or name.endswith(("_answer", "_pred"))]
    frame = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    if texts:
        frame[texts] = pd.read_csv(path, usecols=texts, dtype=str, keep_default_na=False)[texts]
    must = [name for name in ("prompt", "tier") if name in texts]
    return frame.assign(**{name: frame[name].where(frame[name] != "", None) for name in must})


def _json_lines(path: Path) -> list[dict[str, object]]:
    with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open() as handle:
        rows = [json.loads(line) for line in handle if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: every line must be a JSON object")
    return rows
