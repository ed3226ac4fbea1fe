"""One loaded model for all encoders of a process that read the same file in the same way.

A version that is loaded beside another, for a canary or while one takes the other's place, brings an encoder of its
own; each would load the whole model again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from router_models.data.artifacts import file_sha256

SETTLED_NS = 2_000_000_000
"""So long after a file was written its time tells it from what it is rewritten to: clocks of files tick slowly."""

Identity = tuple[str, int, int, int]
"""A file as it is now: its path, inode, time of change in nanoseconds, and size."""

_sessions: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
_one_at_a_time = threading.Lock()


def shared_session(model: Path, how: Hashable, load: Callable[[], Any]) -> Any:
    """Return what was loaded of a file in that way, or load it; it is let go of with the last that holds it."""
    file = _identity_of(model)
    if file is None:
        return load()
    with _one_at_a_time:
        found = _sessions.get((file, how))
        if found is None:
            found = _sessions[file, how] = load()
        return found


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, which is read once as long as it is not changed."""
    file = _identity_of(path)
    return file_sha256(path) if file is None else _sha256_of(file)


def _identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another one that takes its place; None where it was written just now."""
    now = path.stat()
    return (str(path), now.st_ino, now.st_mtime_ns, now.st_size) if _is_settled(now.st_mtime_ns) else None


def _is_settled(changed_ns: int) -> bool:
    return time.time_ns() - changed_ns > SETTLED_NS


@lru_cache(maxsize=16)
def _sha256_of(file: Identity) -> str:
    return file_sha256(Path(file[0]))
