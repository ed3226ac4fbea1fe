"""Store learned state in a folder of plain data: arrays in npz, the rest in JSON, and a sha256 manifest written last.

Nothing is pickled: loading a folder cannot run code. The manifest's presence means that the folder is complete; every
file is checked against it before it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class State:
    """Hold an estimator's learned state.

    Parameters
    ----------
    arrays : mapping of str to array
        Arrays of numbers, booleans or fixed-width strings, by name.
    meta : mapping of str to object
        Values that JSON can represent.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


def save_state(folder: Path, name: str, state: State) -> None:
    """Write `<name>.npz` and `<name>.json` into a folder; call `seal` after the last one.

    Parameters
    ----------
    folder : Path
        Created where it does not exist.
    name : str
        The stem of both files.
    state : State
        What to store.

    Raises
    ------
    ArtifactError
        For an array that cannot be stored without pickle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for key, array in state.arrays.items():
        if np.asarray(array).dtype.kind not in "biufU":
            raise ArtifactError(f"{name}.{key}: dtype {np.asarray(array).dtype} cannot be stored without pickle")
    np.savez_compressed(folder / f"{name}.npz", **{k: np.asarray(a) for k, a in state.arrays.items()})  # type: ignore[arg-type]
    (folder / f"{name}.json").write_text(json.dumps(state.meta, indent=1, sort_keys=True, allow_nan=False))


def load_state(folder: Path, name: str) -> State:
    """Read what `save_state` wrote; check the folder with `verify` first.

    Parameters
    ----------
    folder : Path
        Where the files are.
    name : str
        The stem of both files.

    Returns
    -------
    State

    Raises
    ------
    ArtifactError
        Where a file is missing or unreadable.
    """
    try:
        with (folder / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = {key: npz[key] for key in npz.files}
        return State(arrays, json.loads((folder / f"{name}.json").read_text()))
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ArtifactError(f"{folder / name}: cannot be read ({error})") from error


def seal(folder: Path) -> str:
    """Write the manifest over every file in a folder.

    Parameters
    ----------
    folder : Path
        A folder whose files are complete.

    Returns
    -------
    str
        The folder's hash: the sha256 of its manifest.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = {str(p.relative_to(folder)): file_sha256(p) for p in files}
    text = json.dumps(manifest, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: Path, *, exact: bool = False) -> str:
    """Check every file of a sealed folder against its manifest.

    Parameters
    ----------
    folder : Path
        A sealed folder.
    exact : bool
        Also refuse files that were added after sealing.

    Returns
    -------
    str
        The folder's hash.

    Raises
    ------
    ArtifactError
        Where there is no manifest, or naming the first file that is missing, altered or (with `exact`) added.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    if not path.is_file():
        raise ArtifactError(f"{folder}: no {MANIFEST}; the folder is incomplete (a write that never finished?)")
    try:
        text = path.read_text(encoding="utf-8")
        manifest: dict[str, str] = json.loads(text)
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{path}: not a manifest")
    if exact:
        found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        if added := sorted(found - manifest.keys() - {MANIFEST}):
            raise ArtifactError(f"{folder / added[0]}: added after the folder was sealed")
    for name, digest in manifest.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"{file}: named in the manifest but missing")
        if file_sha256(file) != digest:
            raise ArtifactError(f"{file}: altered or half-written (sha256 differs from the manifest)")
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
