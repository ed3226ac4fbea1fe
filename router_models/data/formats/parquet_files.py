"""Read parquet files of outcomes, whoever wrote them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from router_models.data.formats.headers import checked_names
from router_models.data.formats.text_files import read_bytes
from router_models.errors import DataError


def read_parquet(path: Path) -> pd.DataFrame:
    """Load a parquet file's columns.

    Dictionary-encoded columns are decoded; index columns that pandas wrote are columns where they hold texts, and left
    out where they hold numbers.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    DataFrame

    Raises
    ------
    DataError
        Where it is no parquet file, is damaged, or has two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_bytes(path)
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({_first_line(error)}): write it again") from error
    names = checked_names(path, table.column_names)
    index = _index_columns(table)
    columns: dict[str, pd.Series] = {}
    for name, column in zip(names, table.columns, strict=True):
        cells = _cells(path, name, column)
        if name not in index or not (pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_datetime64_dtype(cells)):
            columns[name] = cells
    return pd.DataFrame(columns)


def _index_columns(table: Any) -> frozenset[str]:
    described = (table.schema.metadata or {}).get(b"pandas")
    try:
        found = json.loads(described)["index_columns"] if described else []
        return frozenset(name for name in found if isinstance(name, str))
    except (ValueError, KeyError, TypeError):
        return frozenset()


def _cells(path: Path, name: str, column: Any) -> pd.Series:
    import pyarrow as pa
    from pyarrow import types

    try:
        kind = column.type
        if types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = column.type
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            return column.to_pandas()  # type: ignore[no-any-return]
        if types.is_list(kind) and not types.is_nested(kind.value_type):
            return column.to_pandas()  # type: ignore[no-any-return]  # arrays: tokens need no objects of their own
        return pd.Series(column.to_pylist(), dtype=object).infer_objects()
    except (pa.ArrowException, ValueError, OverflowError, NotImplementedError, ImportError) as error:
        raise DataError(
            f"{path}: column {name!r} cannot be read ({_first_line(error)}): write it as text or numbers"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
