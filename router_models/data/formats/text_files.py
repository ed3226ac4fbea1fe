"""Read text files as their authors wrote them: compressed or not, with or without a byte order mark."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from router_models.errors import DataError

_MARKS = (  # the longer first: UTF-32's mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = ((b"PAR1", "a parquet file: name it .parquet"), (b"PK\x03\x04", "an archive or a spreadsheet: export text"))


def read_bytes(path: Path) -> bytes:
    """Return a file's content, decompressed where it is gzip, whatever its name; DataError where it cannot be read."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}): compress it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_text(path: Path) -> str:
    """Return a file's text without its byte order mark.

    Parameters
    ----------
    path : Path
        A file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; gzip is decompressed.

    Returns
    -------
    str

    Raises
    ------
    DataError
        Naming the line that is not valid text.
    """
    content = read_bytes(path)
    for magic, what in _OTHERS:
        if content.startswith(magic):
            raise DataError(f"{path}: this is {what}")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not {encoding.upper().removesuffix('-SIG')} (byte 0x{content[error.start]:02x}, "
            f"{error.reason}): save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line} holds a NUL byte: save the file as UTF-8 text without it")
    if not text.strip():
        raise DataError(f"{path}: holds no rows")
    return text
