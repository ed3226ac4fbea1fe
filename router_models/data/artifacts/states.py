"""An estimator's learned state as two files of plain data: arrays in npz, the rest in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts.bounded_json import read_json_file
from router_models.data.artifacts.npz_arrays import read_arrays
from router_models.errors import ArtifactError


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
        Where a file is missing, unreadable or too large (`formats.npz_arrays`, `formats.bounded_json`).
    """
    if Path(name).name != name:
        raise ArtifactError(f"{folder}: {name!r:.200} is no name of a file in it")
    meta = read_json_file(folder / f"{name}.json")
    if not isinstance(meta, dict):
        raise ArtifactError(f"{folder / name}.json: cannot be read (not an object)")
    return State(read_arrays(folder / f"{name}.npz"), meta)
