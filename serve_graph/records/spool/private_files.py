"""Folders and files that nobody but their owner reads."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def private_folder(folder: Path) -> None:
    """Make a folder, and let nobody but its owner look into it; another user's is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        with contextlib.suppress(PermissionError):
            folder.chmod(0o700)


def private_file(path: str, flags: int) -> int:
    """Open a file that only its owner can read: the `opener` of `open`."""
    return os.open(path, flags, 0o600)
