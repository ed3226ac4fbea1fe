"""Files in a folder, and in a store that pyarrow reaches by a URI."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_graph.errors import ConfigError, StoreUnavailableError
from serve_graph.records.batches.file_storage import FileStorage, pieces_of


@pytest.fixture(params=["folder", "file://", "pyarrow"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> FileStorage:
    made = FileStorage(f"file://{tmp_path / 'files'}" if request.param == "file://" else str(tmp_path / "files"))
    if request.param == "pyarrow":  # the way that s3:// goes, to a folder
        import pyarrow.fs as pafs

        (tmp_path / "files").mkdir()
        made.folder, made._filesystem, made._root = None, pafs.LocalFileSystem(), str(tmp_path / "files")
    return made


def test_what_was_written_is_read_replaced_and_deleted(storage: FileStorage) -> None:
    assert storage.write("a", [b"one", b"two"]) == 6
    assert storage.write("a", [b"three"]) == 5
    with storage.reading("a") as file:
        assert b"".join(pieces_of(file)) == b"three"
    storage.delete("a")
    storage.delete("a")
    with pytest.raises(FileNotFoundError), storage.reading("a"):
        pass


def test_a_write_that_fails_leaves_nothing(storage: FileStorage, tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        storage.write("a", pieces())
    assert list((tmp_path / "files").iterdir()) == []


def test_a_folder_and_its_files_are_their_owners_alone(tmp_path: Path) -> None:
    FileStorage(str(tmp_path / "files")).write("a", [b"x"])
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "files" / "a").stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batches.files 'nowhere://bucket'"):
        FileStorage("nowhere://bucket?secret=1")
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot be written"):
        FileStorage(str(tmp_path / "taken")).write("a", [b"x"])
