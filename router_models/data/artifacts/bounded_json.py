"""JSON files of limited size and depth: what is too large is refused before it is read, by the file's name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from router_models.errors import ArtifactError

MOST_JSON_BYTES = 256 << 20
"""A learned vocabulary of a million words takes 30 MB."""
MOST_DEPTH = 64
"""Levels of lists and objects; our own files have seven at most."""


def read_bounded(path: Path, most_bytes: int = MOST_JSON_BYTES) -> bytes:
    """Read a regular file of at most so many bytes.

    Parameters
    ----------
    path : Path
        The file.
    most_bytes : int
        What it may hold; a larger file is not read.

    Returns
    -------
    bytes

    Raises
    ------
    ArtifactError
        Naming the file, where it is missing, no regular file (a pipe would be waited for), unreadable or too large.
    """
    try:
        if not path.is_file():
            raise ArtifactError(f"{path}: {'not a regular file' if path.exists() else 'missing'}")
        with path.open("rb") as file:  # a buffer of what is asked for is allocated: no more than there is
            data = file.read(min(os.fstat(file.fileno()).st_size, most_bytes) + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from error
    if len(data) > most_bytes:
        raise ArtifactError(f"{path}: more than {most_bytes} bytes")
    return data


def read_json_file(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Read a JSON file of limited size and depth.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.
    most_bytes : int
        What it may hold.

    Returns
    -------
    object
        What `json.loads` makes of it.

    Raises
    ------
    ArtifactError
        As `read_bounded`, and where the file is not JSON, repeats a key, or is nested beyond MOST_DEPTH.
    """
    return parse_json_file(path, read_bounded(path, most_bytes))


def parse_json_file(path: Path, data: bytes) -> Any:
    """Parse what `read_bounded` read of `path`; ArtifactError as `read_json_file`."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else f"not JSON ({error})"
        raise ArtifactError(f"{path}: {why}") from error
    level, depth = [value], 0
    while level := [inner for item in level for inner in _inside(item)]:
        if (depth := depth + 1) > MOST_DEPTH:
            raise ArtifactError(f"{path}: nested more than {MOST_DEPTH} levels deep")
    return value


def _inside(value: Any) -> list[Any]:
    found = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in found if isinstance(inner, dict | list)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found
