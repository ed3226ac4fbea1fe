import pickle
from pathlib import Path

import numpy as np
import pytest

from router_models.data.artifacts import State, load_state, save_state
from router_models.errors import ArtifactError


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
