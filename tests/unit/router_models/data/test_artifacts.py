import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from router_models.data.artifacts import MANIFEST, State, file_sha256, load_state, save_state, seal, verify
from router_models.errors import ArtifactError


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_state(folder, "part", State({"w": np.arange(3.0)}, {"C": 1.0}))
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.md").write_text("notes")
    seal(folder)
    return folder


def test_state_comes_back_as_it_went_in(tmp_path: Path) -> None:
    state = State(
        {"f": np.array([1.5, -np.inf, np.nan]), "i": np.arange(4), "b": np.array([True]), "s": np.array(["ü", "x"])},
        {"name": "naïve", "n": 3, "nested": {"a": [1, None]}},
    )
    save_state(tmp_path, "x", state)
    got = load_state(tmp_path, "x")
    assert got.meta == state.meta
    for name, array in state.arrays.items():
        np.testing.assert_array_equal(got.arrays[name], array)
        assert got.arrays[name].dtype == array.dtype


def test_empty_state_is_a_state(tmp_path: Path) -> None:
    save_state(tmp_path, "x", State())
    assert load_state(tmp_path, "x") == State()


def test_objects_are_refused_because_they_would_need_pickle(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.bad.*pickle"):
        save_state(tmp_path, "x", State({"bad": np.array([object()])}))


def test_nan_in_the_text_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_state(tmp_path, "x", State(meta={"nan": float("nan")}))


def test_a_pickle_in_place_of_arrays_is_not_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "exploded",))

    save_state(tmp_path, "x", State())
    (tmp_path / "x.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_state(tmp_path, "x")
    np.savez(tmp_path / "x.npz", a=np.array([Bomb()]))
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_state(tmp_path, "x")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["x.npz", "x.json"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 half a zip", b"{", b"\xff\xfe"])
def test_an_unreadable_state_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    save_state(tmp_path, "x", State({"w": np.arange(3.0)}))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=str(tmp_path / "x")):
        load_state(tmp_path, "x")


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing"):
        load_state(tmp_path, "nothing")


def test_a_sealed_folder_verifies_to_the_hash_it_was_sealed_with(sealed: Path) -> None:
    assert verify(sealed) == seal(sealed) == verify(sealed, exact=True)


def test_the_hash_is_of_the_contents_not_of_the_place(sealed: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    before = verify(sealed)
    sealed.rename(moved)
    assert verify(moved) == before


@pytest.mark.parametrize("name", ["part.npz", "part.json", "sub/notes.md"])
@pytest.mark.parametrize("harm", ["alter", "cut", "remove"])
def test_a_damaged_file_is_named(sealed: Path, name: str, harm: str) -> None:
    file = sealed / name
    if harm == "remove":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=name):
        verify(sealed)


def test_a_folder_without_a_manifest_is_incomplete(sealed: Path) -> None:
    (sealed / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match="incomplete"):
        verify(sealed)


def test_a_folder_that_is_not_there_is_not_called_incomplete(sealed: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        verify(sealed / "nowhere")
    with pytest.raises(ArtifactError, match="npz is a file, not a folder"):
        verify(sealed / "part.npz")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b"\xff\xff"])
def test_a_damaged_manifest_is_named(sealed: Path, text: bytes) -> None:
    (sealed / MANIFEST).write_bytes(text)
    with pytest.raises(ArtifactError, match=MANIFEST):
        verify(sealed)


def test_a_file_added_after_sealing_is_named_by_an_exact_check(sealed: Path) -> None:
    (sealed / "sub" / "extra.json").write_text("{}")
    verify(sealed)
    with pytest.raises(ArtifactError, match=r"extra\.json: added after"):
        verify(sealed, exact=True)


def test_the_manifest_holds_every_files_sha256(sealed: Path) -> None:
    manifest = json.loads((sealed / MANIFEST).read_text())
    assert set(manifest) == {"part.npz", "part.json", "sub/notes.md"}
    assert manifest["part.json"] == file_sha256(sealed / "part.json")
