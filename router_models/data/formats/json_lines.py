"""Parse JSON lines: one object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from router_models.errors import DataError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something, with their numbers from 1; U+2028 and its like do not end a line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def json_object(line: str) -> dict[str, Any]:
    """Parse one line.

    Parameters
    ----------
    line : str
        The line's text.

    Returns
    -------
    dict

    Raises
    ------
    DataError
        Where it is not one JSON object, a key stands twice, or a text holds half a character.
    """
    try:
        found = json.loads(line, object_pairs_hook=_unique)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        hint = "; JSON lines hold one whole object a line" if line.lstrip()[:1] in "[{" else ""
        why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else f"{error}"
        raise DataError(f"not JSON ({why}){hint}") from error
    if not isinstance(found, dict):
        raise DataError("a JSON object is needed, one a line")
    if _SURROGATE.search(line):
        for key, value in found.items():
            if not is_encodable(json.dumps([key, value], ensure_ascii=False)):
                raise DataError(
                    f"column {key.encode('ascii', 'backslashreplace').decode()!r} holds half a character (a lone "
                    "surrogate, as in a text cut inside an emoji): write the whole character or drop it"
                )
    return found


def is_encodable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"key {twice!r} stands twice: keep one")
    return found
