"""Arrays from .npz and .npy files whose sizes are checked before anything is allocated, and that never run code.

numpy's own reader allocates whatever a header declares, and reads each member to its end. Here the archive's directory
is bounded before it is parsed, a member's declared size before it is opened, and its dtype and shape must account for
every byte of it.
"""

from __future__ import annotations

import ast
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactError

MOST_ARRAY_BYTES = 1 << 30
"""All arrays of one file together, unpacked: 700,000 embeddings of 384 float32."""
MOST_RATIO, UNPACKED_AT_WILL = 200, 16 << 20
"""How many times its size an archive may unpack to, where that is more than 16 MiB: zeros do 1000 times."""
MOST_MEMBERS = 4_096
MOST_DIRECTORY_BYTES = 1 << 20
MOST_HEADER_BYTES = 10_000
MOST_DIMENSIONS = 8
KINDS = "biufU"
"""Booleans, integers, floats and texts of fixed width: what needs no pickle."""
_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = b"PK\x06\x07"
_ENCRYPTED = 0x1
_MAGIC = b"\x93NUMPY\x01\x00"


def read_arrays(path: Path, most_bytes: int = MOST_ARRAY_BYTES) -> dict[str, NDArray[Any]]:
    """Read every array of an .npz file.

    Parameters
    ----------
    path : Path
        What `numpy.savez` or `numpy.savez_compressed` wrote.
    most_bytes : int
        What all its arrays together may take; checked before any is allocated.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ArtifactError
        Naming the file, where it is missing, damaged, too large, or holds anything but arrays of KINDS.
    """
    try:
        if not path.is_file():
            raise ArtifactError(f"{path}: {'not a regular file' if path.exists() else 'missing'}")
        with path.open("rb") as file:
            _check_directory(file, most_bytes)
            with ZipFile(file) as archive:
                members = archive.infolist()
                _check_members(members, most_bytes)
                return {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in members}
    except ArtifactError:
        raise
    except _DAMAGED as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error


_DAMAGED = (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error, struct.error, NotImplementedError,
            RuntimeError, KeyError, IndexError, OverflowError, SyntaxError, MemoryError)  # fmt: skip
"""Everything that zipfile, zlib and numpy's header parser raise over bytes that no archive of ours has."""


def _check_directory(file: IO[bytes], most_bytes: int) -> None:
    """Raise ValueError unless the archive ends in a small directory; zipfile would parse one of any size."""
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise ValueError("cut short")
    if size > most_bytes + MOST_DIRECTORY_BYTES:
        raise ValueError(f"{size} bytes, and at most {most_bytes} are read")
    file.seek(max(0, size - _END.size - 20))
    tail = file.read()
    mark, *_, entries, length, _, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\x05\x06" or comment:
        raise ValueError("not an .npz archive, or cut short")
    if tail.startswith(_ZIP64_LOCATOR) or entries > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
        raise ValueError(f"a directory of {entries} members and {length} bytes is too large")
    file.seek(0)


def _check_members(members: list[ZipInfo], most_bytes: int) -> None:
    if len({info.filename for info in members}) < len(members):
        raise ValueError("a member is given twice")
    total = sum(info.file_size for info in members)
    if total > most_bytes:
        raise ValueError(f"its arrays take {total} bytes, and at most {most_bytes} are read")
    packed = sum(info.compress_size for info in members)
    if total > max(UNPACKED_AT_WILL, MOST_RATIO * packed):
        raise ValueError(f"{packed} bytes that unpack to {total}")
    for info in members:
        if not info.filename.endswith(".npy") or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{info.filename!r} is not an array")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ValueError(f"{info.filename!r} is packed by a method that is not used here")


def read_array(path: Path) -> NDArray[Any]:
    """Read the array of an .npy file; ArtifactError naming the file where it is damaged, or declares other sizes."""
    try:
        with path.open("rb") as file:
            return _read(file, path.name, os.fstat(file.fileno()).st_size)
    except _DAMAGED as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error


def _read_member(archive: ZipFile, info: ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        return _read(member, info.filename, info.file_size)


def _read(member: IO[bytes], name: str, size: int) -> NDArray[Any]:
    shape, fortran, dtype = _header(member)
    if dtype.kind not in KINDS or dtype.subdtype is not None:
        raise ValueError(f"{name!r} has dtype {dtype}, which is not read: objects would run code")
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= n <= MOST_ARRAY_BYTES for n in shape):
        raise ValueError(f"{name!r} declares the shape {str(shape)[:100]}")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > size:
        raise ValueError(f"{name!r} declares {wanted} bytes and holds at most {size}")
    data = bytearray(member.read(wanted + 1))
    if len(data) != wanted:
        raise ValueError(f"{name!r} declares {wanted} bytes and holds {len(data)}{'+' * (len(data) > wanted)}")
    array: NDArray[Any] = np.frombuffer(data, dtype=dtype) if wanted else np.empty(0, dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if (magic := member.read(len(_MAGIC))) != _MAGIC:  # its header has 64 KiB at most, a later one's 4 GiB
        raise ValueError(f"{magic!r} begins no array of version 1.0 of the .npy format")
    (length,) = struct.unpack("<H", member.read(2))
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    found = ast.literal_eval(member.read(length).decode("latin-1"))
    if not isinstance(found, dict) or found.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("a member's header is none of an array")
    shape, descr = found["shape"], found["descr"]
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise ValueError(f"a shape of {str(shape)[:100]}")
    if not isinstance(descr, str):  # records of several columns
        raise ValueError(f"has dtype {str(descr)[:100]}, which is not read: objects would run code")
    return shape, bool(found["fortran_order"]), np.dtype(descr)
