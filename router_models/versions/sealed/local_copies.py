"""Copies of versions' files on one machine: fetched once, whole or not at all, and bounded in number and size.

Processes that want the same copy wait for the one that fetches it; other copies are fetched meanwhile. Where there are
more than fit, those that were used longest ago go, unless somebody holds them or has used them within minutes.
Nothing here trusts a copy: `check` is asked each time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from router_models.errors import ArtifactError

logger = logging.getLogger(__name__)
MOST_COPIES = 32
MOST_BYTES = 4 << 30
USED_LATELY_S = 600.0
"""For how long a copy stays that was used by somebody who does not hold it: it is read in that time."""
LEFT_BEHIND_S = 3600.0
"""After how long what a killed process was fetching is removed."""


class HeldCopy:
    """A copy that is not removed before `close`, or before this process ends."""

    def __init__(self, folder: Path, descriptor: int | None) -> None:
        self.folder = folder
        self._descriptor = descriptor

    def close(self) -> None:
        """Let the copy go; without effect a second time."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


class LocalCopies:
    """The copies in one folder.

    Parameters
    ----------
    root : Path
        The folder; processes that share it may run on this machine only.
    most, most_bytes : int
        How many copies there are at most, and how many bytes they have together; held ones stay beyond it.
    """

    def __init__(self, root: Path, most: int = MOST_COPIES, most_bytes: int = MOST_BYTES) -> None:
        self.root = root
        self.most = most
        self.most_bytes = most_bytes

    def get(
        self, name: str, fetch: Callable[[Path], Path], check: Callable[[Path], None], *, mend: bool = False
    ) -> Path:
        """Return the folder of a copy, fetched where there is none.

        Parameters
        ----------
        name : str
            The copy's name: a single part of a path.
        fetch : callable
            Brings the files into the folder that it is given, and returns the one that they are in.
        check : callable
            Raises ArtifactError for a folder that is not what was wanted.
        mend : bool
            Whether a copy that `check` refuses is fetched again, instead of raising its error.
        """
        target = self.root / name
        if not self._is_good(target, check, mend):  # one that is damaged goes while nobody else mends it
            self.root.mkdir(parents=True, exist_ok=True)
            with self._alone(name):
                if not self._is_good(target, check, mend):
                    self._put_aside(target)
                    self._bring(target, fetch, check)
            self.trim(keep=target)
        with suppress(OSError):  # another user's copies can be used, too
            os.utime(target)
        return target

    def hold(
        self, name: str, fetch: Callable[[Path], Path], check: Callable[[Path], None], *, mend: bool = True
    ) -> HeldCopy:
        """As `get`, of a copy that stays until it is closed."""
        while True:
            target = self.get(name, fetch, check, mend=mend)
            try:
                descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_same(descriptor, target):
                return HeldCopy(target, descriptor)
            os.close(descriptor)  # it went in this very moment

    def trim(self, keep: Path | None = None) -> list[str]:
        """Remove what is beyond the bounds and may go, and what killed processes left; returns the copies' names."""
        now, copies = time.time(), []
        for path in self.root.iterdir():
            with suppress(OSError):
                used = path.stat().st_mtime
                if path.name.startswith("."):
                    if now - used > LEFT_BEHIND_S:
                        _remove(path)
                elif path.is_dir():
                    copies.append((used, path, _bytes_in(path)))
        left, total, gone = len(copies), sum(size for _, _, size in copies), []
        for used, path, size in sorted(copies):
            if left <= self.most and total <= self.most_bytes:
                break
            if path != keep and now - used > USED_LATELY_S and self._discard(path):
                left, total = left - 1, total - size
                gone.append(path.name)
        return gone

    def _is_good(self, target: Path, check: Callable[[Path], None], mend: bool) -> bool:
        if not target.exists():
            return False
        try:
            check(target)
        except ArtifactError as error:
            if not mend:
                raise
            logger.error("the copy %s is fetched again: %s", target, error)
            return False
        return True

    def _put_aside(self, target: Path) -> None:
        aside = self.root / f".damaged-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            target.rename(aside)
        _remove(aside)

    def _bring(self, target: Path, fetch: Callable[[Path], Path], check: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as scratch:
            got = fetch(Path(scratch))
            check(got)
            try:
                got.rename(target)
            except OSError:
                if not target.exists():  # another process may have been first
                    raise

    def _discard(self, path: Path) -> bool:
        """Remove a copy that nobody holds; returns whether it did."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside = self.root / f".evicted-{uuid.uuid4().hex}"
            path.rename(aside)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        _remove(aside)
        return True

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Wait for whoever fetches the same copy; the lock goes with the process that holds it."""
        path = self.root / f".{name}.lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same(descriptor, path):
                break
            os.close(descriptor)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
