"""Give memory that was freed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> bool:
    """Have the C library return what this process has freed; returns whether it could (glibc alone can).

    It keeps freed memory for later by itself: of loading an encoder 60 MB, of one long text as much again. Takes up to
    5 ms, so it is for after work that takes longer.
    """
    trim = _malloc_trim()
    return trim is not None and bool(trim(0))


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; TypeError where there is none to be named
        return None
