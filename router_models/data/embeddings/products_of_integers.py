"""An encoder's file with its products left in integers: rows are rounded to 8 bits when they are multiplied.

onnxruntime makes floats of a model's integer weights as it loads it, of all-MiniLM-L6-v2's 42 MB, and multiplies them.
Here each row x of a product's input is rounded to u = round(127 x / max|x|) + 128 first; the integers of u and the
weights are multiplied exactly (MatMulInteger, int32) and made floats by both scales. What a row becomes depends on it
alone: a text has the same vector in every batch. Where a processor has no instructions for products of unsigned with
signed bytes (VNNI), onnxruntime's kernels may saturate: weights are written as unsigned bytes there, whose products
are slower and the same.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from router_models.data.embeddings.rows_of_integers import (
    GRAPH,
    INITIALIZER,
    NODE,
    Node,
    message_fields,
    model_field,
    tensor_shape,
)

DATA_TYPE, NAME, RAW = 2, 8, 9  # of TensorProto
NODE_DOMAIN = 7  # of NodeProto
OWN_OPERATORS = b"com.microsoft"
"""The domain of onnxruntime's own operators."""
FLOAT, UINT8, INT8 = 1, 2, 3  # TensorProto.DataType
OPSETS, DOMAIN, VERSION = 8, 1, 2  # of ModelProto and OperatorSetIdProto
GRAPH_OUTPUT, VALUE_NAME = 12, 1  # of GraphProto and ValueInfoProto
KNOWN_OPSETS = range(11, 18)
"""Of ONNX's own operators: before, Round is none of them; from 18 on ReduceMax takes its axes as an input."""
ATTRIBUTE, ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_TYPE = 5, 1, 3, 8, 20
AN_INT, SOME_INTS = 2, 7  # AttributeProto.AttributeType
_Fields = Sequence[tuple[int, int, memoryview, memoryview]]
"""Of a message, as `message_fields` gives them."""
PREFIX = "integers_"
"""Begins the names of what is added."""


def multiplies_mixed_bytes() -> bool:
    """Return whether this processor multiplies unsigned with signed bytes without saturating (VNNI)."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def products_of_integers(model: bytes, *, mixed: bool) -> bytes | None:
    """Return the model with products of integers; None where it has none of the form that is known here.

    That is MatMul(x, Mul(Cast(weights), scale)) of signed bytes with a scale for each column, in `KNOWN_OPSETS`.

    Parameters
    ----------
    model : bytes
        A ModelProto.
    mixed : bool
        Leave weights signed (`multiplies_mixed_bytes`).
    """
    top = list(message_fields(memoryview(model)))
    graph = next(value for number, _, value, _ in top if number == GRAPH)
    if _opset(top) not in KNOWN_OPSETS:
        return None
    parts = list(message_fields(graph))
    nodes = [Node.read(value) for number, _, value, _ in parts if number == NODE]
    tensors = [value for number, _, value, _ in parts if number == INITIALIZER]
    shapes = {kind: dict(map(tensor_shape, filter(is_kind, tensors))) for kind, is_kind in _KINDS.items()}
    made_by = {output: node for node in nodes for output in node.outputs}
    rounded: set[str] = set()
    replaced: dict[Node, list[Node]] = {}
    every = [(node, known) for node in nodes if (known := _weights(node, made_by, shapes)) is not None]
    weights = {integers for _, (integers, _) in every}
    elsewhere = set() if mixed else weights & _read_beside({node for node, _ in every}, nodes, parts)
    for node, (integers, scale) in every:
        multiplied = f"{PREFIX}{integers}" if integers in elsewhere else integers
        x, (out,) = node.inputs[0], node.outputs
        new = [] if x in rounded else _rounding(x)
        rounded.add(x)
        made = f"{PREFIX}{out}"
        zeros = (f"{PREFIX}128",) if mixed else (f"{PREFIX}128", f"{PREFIX}128")
        replaced[node] = [
            *new,
            Node(
                "MatMulIntegerToFloat",
                (f"{PREFIX}{x}_u", multiplied, f"{PREFIX}1f", scale, *zeros),
                (f"{made}_s",),
                model_field(NODE_DOMAIN, OWN_OPERATORS),
            ),
            Node("Mul", (f"{made}_s", f"{PREFIX}{x}_scale"), (out,), b""),
        ]
    if not replaced:
        return None
    replaced |= _without_guards(nodes)
    written, left = bytearray(), iter(nodes)
    for number, _, value, raw in parts:
        if number == NODE and (node := next(left)) in replaced:
            written += b"".join(new.written() for new in replaced[node])
        elif number == INITIALIZER and not mixed and (name := tensor_shape(value)[0]) in weights:
            kept = name in elsewhere
            written += bytes(raw) * kept
            written += model_field(INITIALIZER, _unsigned(value, f"{PREFIX}{name}" if kept else name))
        else:
            written += raw
    for name, kind, data in (
        ("0", UINT8, b"\0"),
        ("128", UINT8, b"\x80"),
        ("1f", FLOAT, struct.pack("<f", 1)),
        ("127f", FLOAT, struct.pack("<f", 127)),
        ("128f", FLOAT, struct.pack("<f", 128)),
        ("least", FLOAT, struct.pack("<f", 1e-9)),
    ):
        written += model_field(INITIALIZER, _scalar(f"{PREFIX}{name}", kind, data))
    own = model_field(OPSETS, model_field(DOMAIN, OWN_OPERATORS) + _varint_field(VERSION, 1))
    rest = [model_field(GRAPH, bytes(written)) if number == GRAPH else bytes(raw) for number, _, _, raw in top]
    return b"".join([*rest, *([] if OWN_OPERATORS in _domains(top) else [own])])


def _is_signed_bytes(tensor: memoryview) -> bool:
    """Whether a tensor is of signed bytes that are written as they are, and in the file itself."""
    fields = {number: value for number, _, value, _ in message_fields(tensor)}
    return RAW in fields and DATA_TYPE in fields and fields[DATA_TYPE][0] == INT8


def _is_floats(tensor: memoryview) -> bool:
    return any(number == DATA_TYPE and value[0] == FLOAT for number, _, value, _ in message_fields(tensor))


_KINDS = MappingProxyType({INT8: _is_signed_bytes, FLOAT: _is_floats})
_Shapes = Mapping[int, Mapping[str, tuple[int, ...]]]
"""The shapes of tensors by name, for each of `_KINDS`."""


def _domains(model: _Fields) -> set[bytes]:
    """The domains of operators that a model says it reads; empty: ONNX's own."""
    imports = [value for number, _, value, _ in model if number == OPSETS]
    return {bytes(value) for one in imports for number, _, value, _ in message_fields(one) if number == DOMAIN}


def _opset(model: _Fields) -> int:
    """The version of ONNX's own operators that a model asks for; 0 where it does not say."""
    for number, _, value, _ in model:
        if number == OPSETS:
            fields = {number: bytes(value) for number, _, value, _ in message_fields(value)}
            if not fields.get(DOMAIN) and len(found := fields.get(VERSION, b"")) == 1:
                return found[0]
    return 0


def _read_beside(products: set[Node], nodes: Sequence[Node], graph: _Fields) -> set[str]:
    """The names of what reaches the graph's outputs otherwise than as the weights of these products."""
    outputs = [value for number, _, value, _ in graph if number == GRAPH_OUTPUT]
    read = {
        bytes(name).decode() for one in outputs for number, _, name, _ in message_fields(one) if number == VALUE_NAME
    }
    for node in reversed(nodes):  # which are sorted: what reads comes after what is read
        if not read.isdisjoint(node.outputs):
            read.update(node.inputs[:1] if node in products else node.inputs)
    return read


def _weights(node: Node, made_by: dict[str, Node], shapes: _Shapes) -> tuple[str, str] | None:
    """The names of a product's integer weights and of their scales; None where they have another form."""
    multiplied = made_by.get(node.inputs[1]) if node.kind == "MatMul" else None
    if multiplied is None or multiplied.kind != "Mul":
        return None
    cast = made_by.get(multiplied.inputs[0])
    if cast is None or cast.kind != "Cast":
        return None
    integers, scale = cast.inputs[0], multiplied.inputs[1]
    shape = shapes[INT8].get(integers, ())
    return (integers, scale) if len(shape) == 2 and shapes[FLOAT].get(scale) == (1, shape[1]) else None


def _without_guards(nodes: list[Node]) -> dict[Node, list[Node]]:
    """What replaces Where(IsNaN(x), y, x): x. Attention has none, as every text begins with a piece that is read."""
    made_by = {output: node for node in nodes for output in node.outputs}
    readers = Counter(name for node in nodes for name in node.inputs)
    replaced: dict[Node, list[Node]] = {}
    for node in nodes:
        asked = made_by.get(node.inputs[0]) if node.kind == "Where" else None
        if asked is not None and asked.kind == "IsNaN" and asked.inputs[0] == node.inputs[2]:
            replaced[node] = [Node("Identity", (node.inputs[2],), node.outputs, b"")]
            if readers[node.inputs[0]] == 1:
                replaced[asked] = []
    return replaced


def _rounding(x: str) -> list[Node]:
    """What rounds the rows of x to bytes, `integers_x_u`, with their scales, `integers_x_scale`."""
    at = f"{PREFIX}{x}"
    rows = _attribute("axes", [-1]) + _attribute("keepdims", 1)
    return [
        Node("Abs", (x,), (f"{at}_abs",), b""),
        Node("ReduceMax", (f"{at}_abs",), (f"{at}_max",), rows),
        Node("Max", (f"{at}_max", f"{PREFIX}least"), (f"{at}_most",), b""),
        Node("Div", (f"{PREFIX}127f", f"{at}_most"), (f"{at}_times",), b""),
        Node("Mul", (x, f"{at}_times"), (f"{at}_scaled",), b""),
        Node("Add", (f"{at}_scaled", f"{PREFIX}128f"), (f"{at}_moved",), b""),
        Node("QuantizeLinear", (f"{at}_moved", f"{PREFIX}1f", f"{PREFIX}0"), (f"{at}_u",), b""),  # rounds to even
        Node("Div", (f"{at}_most", f"{PREFIX}127f"), (f"{at}_scale",), b""),
    ]


def _unsigned(tensor: memoryview, name: str) -> bytes:
    """A tensor of signed bytes as one of unsigned bytes, 128 more each, under a name."""
    written = bytearray()
    for number, _, value, raw in message_fields(tensor):
        if number == DATA_TYPE:
            written += _varint_field(DATA_TYPE, UINT8)
        elif number == NAME:
            written += model_field(NAME, name.encode())
        elif number == RAW:
            written += model_field(RAW, (np.frombuffer(value, dtype=np.uint8) ^ 0x80).tobytes())
        else:
            written += raw
    return bytes(written)


def _scalar(name: str, kind: int, data: bytes) -> bytes:
    return _varint_field(DATA_TYPE, kind) + model_field(NAME, name.encode()) + model_field(RAW, data)


def _attribute(name: str, value: int | list[int]) -> bytes:
    """An attribute of a node, as a field of it."""
    named = model_field(ATTRIBUTE_NAME, name.encode())
    if isinstance(value, int):
        return model_field(
            ATTRIBUTE, named + _varint_field(ATTRIBUTE_INT, value) + _varint_field(ATTRIBUTE_TYPE, AN_INT)
        )
    several = b"".join(_varint_field(ATTRIBUTE_INTS, each) for each in value)
    return model_field(ATTRIBUTE, named + several + _varint_field(ATTRIBUTE_TYPE, SOME_INTS))


def _varint_field(number: int, value: int) -> bytes:
    """A field of an int64 as it is written."""
    written = bytearray()
    for left in (number << 3, value % 2**64):
        while left > 127:
            written.append(left & 127 | 128)
            left >>= 7
        written.append(left)
    return bytes(written)
