import io
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from router_models.data.artifacts.npz_arrays import read_array, read_arrays
from router_models.errors import ArtifactError

SMALL = 1 << 20
ARRAYS = {
    "f": np.array([[1.5, -np.inf], [np.nan, 0.0]]),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "flags": np.array([True, False]),
    "texts": np.array(["ü", "long"]),
    "none": np.empty((0, 384), dtype=np.float32),
    "scalar": np.array(3.0),
}


def member(header: bytes | None = None, data: bytes = b"", *, shape: str = "(2,)", descr: str = "'<f8'") -> bytes:
    text = header or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text + data


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members:
            with warnings.catch_warnings(action="ignore"):  # zipfile's, of a name that is given twice
                made.writestr(name, data)
    return out.getvalue()


def with_declared_size(size: int) -> bytes:
    """One member of 16 bytes whose directory entry says that it holds `size`."""
    made = bytearray(archive(("w.npy", member(data=bytes(16)))))
    entry = made.rindex(b"PK\x01\x02")
    made[entry + 24 : entry + 28] = struct.pack("<L", size)
    return bytes(made)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "x.npz", **ARRAYS)
    found = read_arrays(tmp_path / "x.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].flags.writeable) == (array.dtype, True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive(("w.npy", member(shape="(1000000000000,)", data=bytes(16)))), "declares the shape"),
        (archive(("w.npy", member(shape="(100000,)", data=bytes(16)))), "declares 800000 bytes"),
        (archive(("w.npy", member(shape="(65536, 65536, 65536, 65536, 65536)"))), "declares"),
        (archive(("w.npy", member(shape="(" + "1," * 40 + ")", data=bytes(8)))), "declares the shape"),
        (archive(("w.npy", member(shape="(-1,)", data=bytes(16)))), "declares the shape"),
        (archive(("w.npy", member(data=bytes(24)))), "holds 17+"),
        (archive(("w.npy", member(data=bytes(8)))), "declares 16 bytes and holds"),
        (archive(("w.npy", member(descr="'|O'", data=bytes(16)))), "objects would run code"),
        (archive(("w.npy", member(descr="[('a', '|O')]", data=bytes(16)))), "objects would run code"),
        (archive(("w.npy", member(descr="('<f8', (9, 9))", data=bytes(16)))), "is not read"),
        (archive(("w.npy", member(descr="'<M8[s]'", data=bytes(16)))), "is not read"),
        (archive(("w.npy", member(b"(" * 9_000))), "cannot be read"),
        (archive(("w.npy", member(b"__import__('os').abort()"))), "cannot be read"),
        (archive(("w.npy", npy.magic(2, 0) + struct.pack("<L", 1 << 31))), "begins no array of version 1.0"),
        (archive(("w.npy", member(data=bytes(16))), ("w.npy", member(data=bytes(16)))), "given twice"),
        (archive(("w.npy", member(data=bytes(16))), ("payload.py", b"")), "'payload.py' is not an array"),
        (archive(("w.npy", member(data=bytes(16))), method=zipfile.ZIP_LZMA), "method that is not used"),
        (archive(("w.npy", bytes(2 * SMALL)), method=zipfile.ZIP_DEFLATED), "at most 1048576 are read"),
        (archive(("w.npy", bytes(20 * SMALL)), method=zipfile.ZIP_DEFLATED), "that unpack to"),
        (archive(*((f"{i}.npy", b"") for i in range(5_000))), "a directory of 5000 members"),
        (with_declared_size(1 << 31), "at most 1048576 are read"),
        (archive(("w.npy", member(data=bytes(16)))) + b"comment", "not an .npz archive"),
        (archive(("w.npy", member(data=bytes(16))))[:-30], "not an .npz archive"),
        (bytes(2 * SMALL + (2 << 20)), "at most 1048576 are read"),
        (b"", "cut short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_state_holds_is_refused_by_name_before_it_is_allocated(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "cheap.router.npz"
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError) as caught:
            read_arrays(file, SMALL if said != "that unpack to" else 1 << 30)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{file}: cannot be read (")
    assert said in str(caught.value)
    assert most < 8 * SMALL


def test_a_single_array_is_read_and_bounded_alike(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, ARRAYS["columns"])
    np.testing.assert_array_equal(read_array(file), ARRAYS["columns"])
    for data in (file.read_bytes()[:-1], member(shape="(1000000000,)"), member(descr="'|O'"), b"PK", b""):
        file.write_bytes(data)
        with pytest.raises(ArtifactError, match=f"^{file}: cannot be read"):
            read_array(file)
