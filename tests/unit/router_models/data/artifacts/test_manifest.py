import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from router_models.data.artifacts import MANIFEST, State, file_sha256, files_inside, save_state, seal, verify
from router_models.errors import ArtifactError


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_state(folder, "part", State({"w": np.arange(3.0)}, {"C": 1.0}))
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.md").write_text("notes")
    seal(folder)
    return folder


def test_a_sealed_folder_verifies_to_the_hash_it_was_sealed_with(sealed: Path) -> None:
    assert verify(sealed) == seal(sealed) == verify(sealed)


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


def test_the_manifest_holds_every_files_sha256(sealed: Path) -> None:
    manifest = json.loads((sealed / MANIFEST).read_text())
    assert set(manifest) == {"part.npz", "part.json", "sub/notes.md"}
    part = sealed / "part.json"
    assert manifest["part.json"] == {"sha256": file_sha256(part), "size": part.stat().st_size}


def linked_out(folder: Path) -> None:
    (folder.parent / "elsewhere.json").write_text("{}")
    (folder / "new.json").symlink_to(folder.parent / "elsewhere.json")


def replaced_by_a_link(folder: Path) -> None:
    (folder / "part.json").rename(folder.parent / "moved.json")
    (folder / "part.json").symlink_to(folder.parent / "moved.json")


def folder_linked_out(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder / "new").symlink_to(folder.parent / "other")


def manifest_linked_out(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "m.json")
    (folder / MANIFEST).symlink_to(folder.parent / "m.json")


def unknown_file(name: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")

    return add


def grown(folder: Path) -> None:
    os.truncate(folder / "part.npz", 1 << 40)  # a hole of a terabyte: hashing it would take an hour


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unknown_file("chat_template.jinja"), "chat_template.jinja: added after"),
        (unknown_file("sub/modeling.py"), "sub/modeling.py: added after"),
        (unknown_file("pytorch_model.bin"), "pytorch_model.bin: added after"),
        (unknown_file(".hidden/x.safetensors"), ".hidden/x.safetensors: added after"),
        (linked_out, "new.json: a link that leads out"),
        (replaced_by_a_link, "part.json: a link that leads out"),
        (folder_linked_out, "new: a link that leads out"),
        (manifest_linked_out, "manifest.json: a link that leads out"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: neither a file nor a folder"),
        (lambda folder: (folder / "part.json").unlink(), "part.json: named in the manifest but missing"),
        (grown, "part.npz: altered or half-written"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_that_is_not_exactly_what_was_sealed_is_refused_by_name(
    sealed: Path, change: Callable[[Path], None], said: str
) -> None:
    change(sealed)
    with pytest.raises(ArtifactError) as caught:
        verify(sealed)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"part.npz": None},
        {"part.npz": {"size": 3}},
        {"part.npz": {"sha256": "0" * 64, "size": "3"}},
        {"../elsewhere": "0" * 64},
        {"other.npz": "0" * 64},
    ],
    ids=str,
)
def test_a_manifest_of_nothing_or_of_other_files_is_refused(sealed: Path, manifest: object) -> None:
    (sealed / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=str(sealed)):
        verify(sealed)


def test_a_manifest_of_an_earlier_release_has_hashes_alone_and_is_as_exact(sealed: Path) -> None:
    names = {name: file_sha256(path) for name, path in files_inside(sealed).items() if name != MANIFEST}
    (sealed / MANIFEST).write_text(json.dumps(names))
    verify(sealed)
    (sealed / "part.json").write_text('{"C": 2.0}')
    with pytest.raises(ArtifactError, match=r"part\.json: altered"):
        verify(sealed)


def test_a_link_within_the_folder_is_a_file_of_it(sealed: Path) -> None:
    (sealed / "same.json").symlink_to("part.json")
    seal(sealed)
    verify(sealed)
