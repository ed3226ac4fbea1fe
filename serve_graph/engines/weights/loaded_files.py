"""Which local files an engine loads: their hashes for a certificate, and their proof by the replica that loads them.

A folder's hashes are looked up by its files' sizes, times and inodes (`model_folder`). That is no proof, so every
replica reads what it is about to load once more, whole: also one that starts later, or on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_models.data.artifacts import file_sha256, sealed_hashes
from router_models.errors import ArtifactError
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import engine_arguments
from serve_graph.engines.weights.model_folder import files_of, folder_digest, look_at
from serve_graph.errors import WeightsError

PLACES = re.compile(r"(_dir|cache|cache_\w+|_root|media_path|storage_path|log_\w+|_socket|_name)$")
"""Names of arguments that say where something may be written or found, and not what is said."""
SUFFIXES = (".jinja", ".json", ".py", ".txt", ".yaml", ".yml", ".gguf", ".safetensors")
MOST_PATH = 1_000


@dataclass(frozen=True, slots=True)
class LoadedFiles:
    """The files of one engine: `folders` hold exactly these names and hashes, and `files` have these hashes."""

    folders: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Read all of them, whole; raises WeightsError naming the first that is missing, added or altered."""
        for place, hashes in self.folders.items():
            found = files_of(Path(place))
            for name in sorted({*hashes, *found}):
                if name not in found or name not in hashes:
                    word = "missing" if name not in found else "added"
                    raise WeightsError(f"{Path(place) / name}: {word} since this graph was started")
                _check_file(found[name], hashes[name])
        for place, digest in self.files.items():
            _check_file(Path(place), digest)


def loaded_files(tier: VllmTierConfig, model: str, state_folder: Path, adapters: Iterable[Path] = ()) -> LoadedFiles:
    """Return the local files of a tier's engine; `model` is what `resolve_weights` returned.

    `adapters`: folders of those adapters that it loads for other tiers. Those of hub ids are not known here: a commit
    pins them.
    """
    folders, files = {}, {}
    if tier.weights.hub is None:
        folders[model] = _hashes(Path(model), state_folder)
    own = () if tier.lora is None or tier.lora.folder is None else (tier.lora.folder,)
    for folder in (*own, *adapters):
        folders[str(folder)] = _hashes(folder, state_folder)
    for path in paths_in(engine_arguments(tier)):
        if path.is_dir():
            folders[str(path)] = _hashes(path, state_folder)
        else:
            files[str(path)] = file_sha256(path)
    return LoadedFiles(folders, files)


def with_digests(value: Any, state_folder: Path, name: str = "") -> Any:
    """Return an engine argument with a digest in place of every local file or folder that it names.

    Equal files give equal arguments wherever they lie; other files under the same name give others.
    """
    if isinstance(value, Mapping):
        return {key: with_digests(inner, state_folder, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_digests(inner, state_folder, name) for inner in value]
    path = _path(value, name)
    if path is None:
        return value
    digest = folder_digest(_hashes(path, state_folder)) if path.is_dir() else file_sha256(path)
    return f"sha256:{digest}"


def paths_in(value: Any, name: str = "") -> Iterator[Path]:
    """Yield every local file and folder that an engine argument names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from paths_in(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from paths_in(inner, name)
    elif (path := _path(value, name)) is not None:
        yield path


def _path(value: Any, name: str) -> Path | None:
    """The file or folder that an argument names; None where it names none, or a place to write to."""
    if not isinstance(value, str) or not 0 < len(value) <= MOST_PATH or "\n" in value or PLACES.search(name):
        return None
    if not value.startswith("/") and "/" not in value and not value.endswith(SUFFIXES):
        return None
    try:
        path = Path(value).resolve()
        return path if path.exists() else None
    except (OSError, ValueError):
        return None


def _hashes(folder: Path, state_folder: Path) -> Mapping[str, str]:
    """The hashes of a folder: those of its manifest where we converted it, else those that `model_folder` noted."""
    if folder.resolve().parent != state_folder.resolve() / "weights":
        return look_at(folder, state_folder).now
    try:
        return sealed_hashes(folder)
    except ArtifactError as error:
        raise WeightsError(str(error)) from error


def _check_file(path: Path, digest: str) -> None:
    try:
        same = file_sha256(path) == digest
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}), and this graph was started with it") from error
    if not same:
        raise WeightsError(f"{path}: altered since this graph was started (its sha256 differs)")
