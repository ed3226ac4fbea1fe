"""Check the names of a table's columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router_models.errors import DataError


def checked_names(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names without spaces around them; DataError where one stands twice, in any case and spacing."""
    folded = [" ".join(name.casefold().split()) for name in names]
    same = [name for name, key in zip(names, folded, strict=True) if folded.count(key) > 1]
    if same:
        key = " ".join(same[0].casefold().split())
        same = [name for name in same if " ".join(name.casefold().split()) == key]
        raise DataError(
            f"{path}: column {same[0]!r} stands {len(same)} times ({', '.join(map(repr, same))}; case and spaces do "
            "not tell columns apart): rename or drop all but one"
        )
    return [name.strip() for name in names]
