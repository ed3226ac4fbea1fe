"""Where the bytes of callers' files are: a folder of this machine, or an object store, through pyarrow.

All methods block: they are called in threads. Names are this project's own ids, never callers'.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from serve_graph.errors import ConfigError, StoreUnavailableError

FILE_PIECE = 1024 * 1024
PARTIAL = ".part"


class FileStorage:
    """Files by name under one root.

    A file is there wholly or not at all. In a folder it is readable by its owner alone, and the folder too.

    Parameters
    ----------
    uri : str
        A folder, `file:///folder`, or what `pyarrow.fs.FileSystem.from_uri` knows: `s3://bucket/prefix?…`, `gs://…`.

    Raises
    ------
    ConfigError
        For a URI that pyarrow does not know.
    """

    def __init__(self, uri: str) -> None:
        scheme, found, rest = uri.partition("://")
        self.folder = Path(uri if not found else rest) if not found or scheme == "file" else None
        self._filesystem: Any = None
        self._root = ""
        if self.folder is None:
            import pyarrow as pa  # 35 MB that a folder does not need
            import pyarrow.fs as pafs

            try:
                self._filesystem, self._root = pafs.FileSystem.from_uri(uri)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise ConfigError(f"batches.files {uri.partition('?')[0]!r} cannot be used: {error}") from error

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a file, or replace it; returns its bytes. Raises StoreUnavailableError where that cannot be done."""
        with self.writing(name) as file:
            return sum(file.write(piece) for piece in pieces)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write to, which takes its place where the block ends without an error."""
        with _told("written"):
            if self.folder is None:
                try:
                    with self._filesystem.open_output_stream(f"{self._root}/{name}") as stream:
                        yield stream
                except BaseException:
                    self.delete(name)  # what was begun would look like a whole one
                    raise
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch = self.folder / f".{name}.{os.urandom(6).hex()}{PARTIAL}"
            try:
                with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, self.folder / name)
            finally:
                scratch.unlink(missing_ok=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read; raises FileNotFoundError where there is none, StoreUnavailableError where it cannot be."""
        with _told("read"):
            if self.folder is not None:
                with (self.folder / name).open("rb") as file:
                    yield file
            else:
                with self._filesystem.open_input_stream(f"{self._root}/{name}", buffer_size=FILE_PIECE) as stream:
                    yield stream

    def delete(self, name: str) -> None:
        """Remove a file; nothing where there is none."""
        with _told("deleted"), contextlib.suppress(FileNotFoundError):
            if self.folder is not None:
                (self.folder / name).unlink()
            else:
                self._filesystem.delete_file(f"{self._root}/{name}")


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, *_arrow_errors())):
            raise
        raise StoreUnavailableError(f"the file cannot be {what} ({type(error).__name__})") from error


def _arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises; none where it is not loaded."""
    arrow = sys.modules.get("pyarrow")
    return () if arrow is None else (arrow.ArrowException,)


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of a file, in pieces."""
    while piece := file.read(FILE_PIECE):
        yield piece
