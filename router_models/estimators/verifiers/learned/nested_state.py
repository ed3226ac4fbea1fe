"""Pack states into one: parts by name in one flat set of arrays (`part/array`) and one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import ArtifactError


def join_states(parts: Mapping[str, State], meta: Mapping[str, Any]) -> State:
    """Pack named states and metadata of the whole into one state. Names contain no `/`."""
    arrays = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.arrays.items()}
    return State(arrays, {"own": dict(meta), "parts": {name: dict(part.meta) for name, part in parts.items()}})


def split_state(state: State) -> tuple[dict[str, State], dict[str, Any]]:
    """Return what `join_states` packed: (parts, metadata); ArtifactError where it was not packed by it."""
    metas, own = state.meta.get("parts"), state.meta.get("own")
    if not isinstance(metas, Mapping) or not isinstance(own, Mapping):
        raise ArtifactError("not a state of several parts")
    arrays: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in metas}
    for key, array in state.arrays.items():
        name, _, inner = key.partition("/")
        if name not in arrays:
            raise ArtifactError(f"array {key!r} belongs to no part; parts: {', '.join(arrays)}")
        arrays[name][inner] = array
    return {name: State(arrays[name], metas[name]) for name in metas}, dict(own)
