"""Integrity of a local model folder: each file's sha256 is stored on first use and checked at every start.

The hashes are stored in the state folder, never in the model folder (which may be read-only). A stored hash is reused
while the file's size, times and inode are unchanged, so that 15 GB are not read at every start.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_models.data.artifacts import MANIFEST, file_sha256, files_inside, read_bounded, read_json_file
from router_models.errors import ArtifactError
from router_models.types import Progress
from serve_graph.errors import WeightsError

MOST_HEADER_BYTES = 100_000_000
"""Of a safetensors file, and of an index of shards: the bound of the safetensors library itself."""
SETTLED_S = 2.0
"""Seconds before hashing within which a write may be followed by another one in the same clock tick: hash again."""


@dataclass(frozen=True, slots=True)
class FolderNote:
    """The hashes of a folder by file name: `first` those of first use, `now` the current ones."""

    path: Path
    first: Mapping[str, str]
    now: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The sha256 of the current names and hashes."""
        return folder_digest(self.now)


def check_model_folder(
    folder: Path, state_folder: Path, progress: Progress = lambda _: None, *, adapter: bool = False
) -> str:
    """Return the digest of a model folder (or of a LoRA adapter's) that has not changed since its first use.

    Raises WeightsError naming the file that is truncated, missing, added or altered, and the remedy.
    """
    if adapter and not (folder / "adapter_config.json").is_file():
        raise WeightsError(f"{folder} holds no adapter_config.json: not a LoRA adapter")
    if not adapter and not (folder / "config.json").is_file():
        raise WeightsError(f"weights.folder {folder} holds no config.json: not a model folder")
    for file in files_of(folder).values():
        if file.suffix == ".safetensors":
            _check_length(file)
        elif file.name.endswith(".safetensors.index.json"):
            _check_shards(file)
    note = look_at(folder, state_folder, progress, trust=True)
    for name in sorted({*note.first, *note.now}):
        was, is_ = note.first.get(name), note.now.get(name)
        if was != is_:
            what = "added" if was is None else "missing" if is_ is None else "altered (its sha256 differs)"
            raise WeightsError(
                f"{folder / name}: {what} since the folder was first used. Restore it, or, if the change is "
                f"intended, remove {note.path} and certify again"
            )
    return note.digest


def look_at(
    folder: Path, state_folder: Path, progress: Progress = lambda _: None, *, trust: bool = False
) -> FolderNote:
    """Hash the files that changed since the last call and store the result; with `trust`, the first result is binding.

    Raises WeightsError for a folder or file that cannot be read.
    """
    path = note_path(folder, state_folder)
    stored = _stored(path)
    try:
        hashes = _hashed(folder, stored["seen"], progress)
    except OSError as error:
        raise WeightsError(f"the folder {folder} cannot be read: {error}") from error
    now = {name: entry["sha256"] for name, entry in hashes.items()}
    first = stored["first"] or (now if trust else {})
    if stored["seen"] != hashes or stored["first"] != first:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}.{os.getpid()}")
        half.write_text(json.dumps({"folder": str(folder.resolve()), "first": first, "seen": hashes}, indent=1))
        half.replace(path)
    return FolderNote(path, first, now)


def _stored(path: Path) -> dict[str, dict[str, Any]]:
    """What was noted of a folder; nothing where there is no note, or a damaged one."""
    try:
        stored = read_json_file(path)
    except ArtifactError:
        stored = None
    found = {what: stored.get(what) if isinstance(stored, dict) else None for what in ("first", "seen")}
    noted = {what: names if isinstance(names, dict) else {} for what, names in found.items()}
    return {**noted, "seen": {name: entry for name, entry in noted["seen"].items() if isinstance(entry, dict)}}


def folder_digest(hashes: Mapping[str, str]) -> str:
    """Return the sha256 of a folder's names and hashes."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


def note_path(folder: Path, state_folder: Path) -> Path:
    """Return where a folder's hashes are stored, by the folder's path."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return state_folder.resolve() / "model_folders" / f"{folder.resolve().name}-{place}.json"


def files_of(folder: Path) -> dict[str, Path]:
    """Return every file by its relative name, except hidden ones (download caches) and a manifest of ours.

    Raises WeightsError for a link that leads out of the folder. A snapshot of the hub's cache holds links to the
    blobs beside it, which are followed.
    """
    if not folder.is_dir():
        raise WeightsError(f"the folder {folder} cannot be read: {'not a folder' if folder.exists() else 'not there'}")
    place = folder.resolve()
    of_hub = place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--")
    try:
        found = files_inside(folder, hidden=False, root=place.parent.parent if of_hub else None)
    except (ArtifactError, OSError) as error:
        raise WeightsError(f"the folder {folder} cannot be read: {error}") from error
    found.pop(MANIFEST, None)
    return found


def _hashed(folder: Path, stored: Mapping[str, Any], progress: Progress) -> dict[str, dict[str, Any]]:
    stats = {name: _stat(path) for name, path in files_of(folder).items()}
    fresh = {name for name, stat in stats.items() if {k: stored.get(name, {}).get(k) for k in stat} != stat}
    size = sum(stats[name]["size"] for name in fresh)
    started = time.monotonic()
    if fresh:
        progress(f"{folder.name}: hashing {size / 1e9:.2f} GB in {len(fresh)} file(s), a minute or less for 15 GB")
    hashes: dict[str, dict[str, Any]] = {}
    for name, stat in stats.items():
        if name not in fresh:
            hashes[name] = dict(stored[name])
            continue
        began_ns = time.time_ns()
        digest = file_sha256(folder / name)
        settled = max(stat["mtime_ns"], stat["ctime_ns"]) < began_ns - int(SETTLED_S * 1e9)
        hashes[name] = {**(stat if settled else {}), "sha256": digest}
    if fresh:
        progress(f"{folder.name}: hashed in {time.monotonic() - started:.1f} s")
    return hashes


def _stat(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns, "inode": stat.st_ino}


def _check_length(file: Path) -> None:
    """Raise WeightsError unless a safetensors file has the length that its header implies."""
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            header = int.from_bytes(handle.read(8), "little")
            if size < 8 or header > size - 8:
                raise WeightsError(f"{file}: cut short within its header ({size} bytes); fetch it again")
            if header > MOST_HEADER_BYTES:
                raise WeightsError(f"{file}: a header of {header} bytes, at most {MOST_HEADER_BYTES} are read")
            tensors = json.loads(handle.read(header))
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        expected = 8 + header + max(ends, default=0)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{file}: not a safetensors file ({type(error).__name__}); fetch it again") from error
    if size != expected:
        word = "cut short" if size < expected else "too long"
        raise WeightsError(f"{file}: {word}, {size} bytes where its header says {expected}; fetch it again")


def _check_shards(index: Path) -> None:
    """Raise WeightsError naming a shard that the index lists and the folder lacks."""
    try:
        shards = sorted(set(json.loads(read_bounded(index, MOST_HEADER_BYTES))["weight_map"].values()))
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{index}: cannot be read ({type(error).__name__}); fetch it again") from error
    for shard in shards:
        if not (index.parent / str(shard)).is_file():
            raise WeightsError(f"{index.parent / str(shard)}: named in {index.name} but missing; fetch it again")
