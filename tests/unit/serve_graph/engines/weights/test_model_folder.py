import json
import os
import struct
from pathlib import Path

import pytest

from router_models.data.artifacts import file_sha256
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights import model_folder as module
from serve_graph.engines.weights.model_folder import check_model_folder, note_path
from serve_graph.engines.weights.resolve import resolve_weights, weights_digest
from serve_graph.errors import WeightsError

LONG_AGO_NS = 1_600_000_000_000_000_000


def safetensors(data: bytes) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder in two shards."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    for name in ("a", "b"):
        (made / f"{name}.safetensors").write_bytes(safetensors(name.encode() * 1000))
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def refusal(folder: Path, state: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        resolve_weights(WeightsConfig(folder=folder), state)
    return str(caught.value)


def test_an_adapter_is_checked_as_a_model_is(folder: Path, state: Path) -> None:
    with pytest.raises(WeightsError, match="adapter_config"):
        check_model_folder(folder, state, adapter=True)
    (folder / "config.json").rename(folder / "adapter_config.json")
    check_model_folder(folder, state, adapter=True)
    (folder / "b.safetensors").write_bytes(safetensors(b"c" * 1000))
    with pytest.raises(WeightsError, match="altered"):
        check_model_folder(folder, state, adapter=True)


def test_other_bytes_of_the_same_size_are_named_and_change_the_digest(folder: Path, state: Path) -> None:
    weights = WeightsConfig(folder=folder)
    resolve_weights(weights, state)
    before = weights_digest(weights, state)
    (folder / "b.safetensors").write_bytes(safetensors(b"c" * 1000))
    assert weights_digest(weights, state) != before
    message = refusal(folder, state)
    assert f"{folder / 'b.safetensors'}: altered" in message
    assert str(note_path(folder, state)) in message


def test_bytes_changed_at_once_with_the_times_set_back_are_noticed(folder: Path, state: Path) -> None:
    file = folder / "a.safetensors"
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    check_model_folder(folder, state)
    with file.open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"!")
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert "a.safetensors: altered" in refusal(folder, state)


@pytest.mark.parametrize(
    ("keep", "word"), [(-1, "cut short"), (30, "cut short within its header"), (4, "cut short"), (0, "cut short")]
)
def test_a_file_cut_short_is_named_even_at_first_sight(folder: Path, state: Path, keep: int, word: str) -> None:
    file = folder / "a.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message = refusal(folder, state)
    assert f"{file}: {word}" in message
    assert not note_path(folder, state).exists()


def test_a_file_that_grew_or_is_no_safetensors_is_named(folder: Path, state: Path) -> None:
    file = folder / "a.safetensors"
    file.write_bytes(file.read_bytes() + b"x")
    assert "too long" in refusal(folder, state)
    file.write_bytes(struct.pack("<Q", 4) + b"nope")
    assert "not a safetensors file" in refusal(folder, state)


def test_a_shard_that_never_arrived_is_named(folder: Path, state: Path) -> None:
    (folder / "b.safetensors").unlink()
    assert f"{folder / 'b.safetensors'}: named in model.safetensors.index.json but missing" in refusal(folder, state)


def test_a_file_that_came_or_went_since_is_named(folder: Path, state: Path) -> None:
    check_model_folder(folder, state)
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: added" in refusal(folder, state)
    note_path(folder, state).unlink()
    check_model_folder(folder, state)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json: missing" in refusal(folder, state)


def test_a_link_that_leads_out_is_refused_and_one_into_the_hubs_own_cache_is_not(folder: Path, state: Path) -> None:
    outside = folder.parent / "tokenizer.json"
    outside.write_text("{}")
    (folder / "tokenizer.json").symlink_to(outside)
    assert "tokenizer.json: a link that leads out" in refusal(folder, state)
    snapshot = folder.parent / "models--org--m" / "snapshots" / "a"
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "b1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/b1")
    before = check_model_folder(snapshot, state)
    (blobs / "b1").write_text('{"a": 1}')
    assert f"{snapshot / 'config.json'}: altered" in refusal(snapshot, state)
    assert weights_digest(WeightsConfig(folder=snapshot), state) != before


def test_a_header_without_end_is_not_read(folder: Path, state: Path) -> None:
    file = folder / "a.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 39))
    os.truncate(file, 1 << 40)
    assert f"{file}: a header of" in refusal(folder, state)
    file.write_bytes(struct.pack("<Q", 100_000) + b"[" * 100_000)
    assert f"{file}: not a safetensors file" in refusal(folder, state)


def test_an_intended_change_passes_once_the_note_is_removed(folder: Path, state: Path) -> None:
    before = check_model_folder(folder, state)
    (folder / "config.json").write_text('{"a": 1}')
    assert "config.json: altered" in refusal(folder, state)
    note_path(folder, state).unlink()
    assert check_model_folder(folder, state) != before


def test_hidden_files_are_no_part_of_the_model(folder: Path, state: Path) -> None:
    before = check_model_folder(folder, state)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("x")
    assert check_model_folder(folder, state) == before


def test_a_certificate_asked_first_does_not_vouch_for_the_folder(folder: Path, state: Path) -> None:
    whole = (folder / "a.safetensors").read_bytes()
    (folder / "a.safetensors").write_bytes(whole[:-1])
    weights_digest(WeightsConfig(folder=folder), state)
    (folder / "a.safetensors").write_bytes(whole)
    check_model_folder(folder, state)


def test_unchanged_files_are_read_once(folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_S", -1.0)
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(module, "file_sha256", counted)
    said: list[str] = []
    first = check_model_folder(folder, state, said.append)
    assert sorted(read) == ["a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json"]
    assert "hashing" in said[0]
    assert "hashed in" in said[1]
    read.clear()
    assert check_model_folder(folder, state, said.append) == first
    assert read == []
    assert len(said) == 2
    (folder / "config.json").write_text('{"a": 1}')
    with pytest.raises(WeightsError):
        check_model_folder(folder, state)
    assert read == ["config.json"]


def test_a_damaged_note_is_made_again(folder: Path, state: Path) -> None:
    before = check_model_folder(folder, state)
    for damaged in ("{half", "[]", '{"seen": 7, "first": "x"}', '{"seen": {"config.json": 7}}', "[" * 100_000):
        note_path(folder, state).write_text(damaged)
        assert check_model_folder(folder, state) == before


def test_a_folder_that_is_not_there_has_no_digest(tmp_path: Path, state: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        weights_digest(WeightsConfig(folder=tmp_path / "nowhere"), state)
    assert not state.exists()
