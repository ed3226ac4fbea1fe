"""Give memory that was freed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

ARENAS, MOST_HEAPS = -8, 2
"""glibc's M_ARENA_MAX."""


def give_back() -> bool:
    """Have the C library return what this process has freed; returns whether it could (glibc alone can).

    It keeps freed memory for later by itself: of loading an encoder 60 MB, of one long text as much again. Takes up to
    5 ms, so it is for after work that takes longer.
    """
    trim = _malloc_trim()
    return trim is not None and bool(trim(0))


def share_heaps() -> bool:
    """Have new threads allocate from heaps that others have, two in all; returns whether the C library could be told.

    Each thread otherwise has a heap of its own, up to eight a core, and what is freed there stays with it: 40 texts of
    400 words in threads left 100 to 170 MB behind that `give_back` does not reach.
    """
    tell = _function("mallopt")
    return tell is not None and bool(tell(ARENAS, MOST_HEAPS))


@cache
def _malloc_trim() -> Any:
    return _function("malloc_trim")


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library; TypeError where there is none to be named
        return None
