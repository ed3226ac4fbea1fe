"""An encoder's file with its table of word pieces left in integers: a piece's row is made floats when it is looked up.

onnxruntime makes floats of whole integer tables as it loads a model: of all-MiniLM-L6-v2's 30,522 rows 47 MB, of which
a prompt reads a few. Looked up first and made floats then, each number is the same to the last bit, and the table is
12 MB. The file is rewritten as the bytes it is (a protobuf message), as the package `onnx` would take 19 MB for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

GRAPH, NODE, INITIALIZER = 7, 1, 5  # fields of ModelProto and GraphProto (onnx.proto3)
INPUT, OUTPUT, NODE_NAME, OP_TYPE = 1, 2, 3, 4  # of NodeProto
DIMS, TENSOR_NAME = 1, 8  # of TensorProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True, slots=True)
class Node:
    """Hold a node of the graph; `rest`: its attributes and domain, as they are written."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rest: bytes

    @classmethod
    def read(cls, data: memoryview) -> Node:
        """Read a NodeProto; its name is left out."""
        texts: dict[int, list[str]] = {INPUT: [], OUTPUT: [], OP_TYPE: []}
        rest = bytearray()
        for number, _, value, raw in message_fields(data):
            if number in texts:
                texts[number].append(bytes(value).decode())
            elif number != NODE_NAME:
                rest += raw
        return cls(texts[OP_TYPE][0], tuple(texts[INPUT]), tuple(texts[OUTPUT]), bytes(rest))

    def written(self) -> bytes:
        """Return the NodeProto as a field of its graph."""
        named = [*((INPUT, text) for text in self.inputs), *((OUTPUT, text) for text in self.outputs)]
        texts = b"".join(model_field(number, text.encode()) for number, text in (*named, (OP_TYPE, self.kind)))
        return model_field(NODE, texts + self.rest)


def rows_of_integers(model: bytes) -> bytes | None:
    """Return the model with lookups in integer tables; None where it has none of the form that is known here.

    That is Gather(Mul(Cast(table), scale), ids) with a scale for each row, where nothing else reads what lies between.
    """
    top = list(message_fields(memoryview(model)))
    graph = next(value for number, _, value, _ in top if number == GRAPH)
    parts = list(message_fields(graph))
    nodes = [Node.read(value) for number, _, value, _ in parts if number == NODE]
    shapes = dict(tensor_shape(value) for number, _, value, _ in parts if number == INITIALIZER)
    made_by = {output: node for node in nodes for output in node.outputs}
    readers = Counter(name for node in nodes for name in node.inputs)
    replaced: dict[Node, tuple[Node, ...]] = {}
    for node in nodes:
        multiplied = made_by.get(node.inputs[0]) if node.kind == "Gather" else None
        if multiplied is None or multiplied.kind != "Mul" or readers[node.inputs[0]] != 1:
            continue
        floats, scale = multiplied.inputs
        cast = made_by.get(floats)
        if cast is None or cast.kind != "Cast" or readers[floats] != 1:
            continue
        table = shapes.get(cast.inputs[0], ())
        if len(table) != 2 or shapes.get(scale) != (table[0], 1):
            continue
        ids, (out,) = node.inputs[1], node.outputs
        found, found_scale, found_floats = f"{out}_integers", f"{out}_scale", f"{out}_floats"
        replaced[cast] = replaced[multiplied] = ()
        replaced[node] = (
            Node("Gather", (cast.inputs[0], ids), (found,), node.rest),
            Node("Gather", (scale, ids), (found_scale,), node.rest),
            Node("Cast", (found,), (found_floats,), cast.rest),
            Node("Mul", (found_floats, found_scale), (out,), multiplied.rest),
        )
    if not replaced:
        return None
    written, left = bytearray(), iter(nodes)
    for number, _, _, raw in parts:
        if number == NODE and (node := next(left)) in replaced:
            written += b"".join(new.written() for new in replaced[node])
        else:
            written += raw
    return b"".join(model_field(GRAPH, bytes(written)) if number == GRAPH else bytes(raw) for number, _, _, raw in top)


def message_fields(data: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Yield the fields of a message: number, wire type, value, and the whole field as it is written."""
    at = 0
    while at < len(data):
        begun = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind == VARINT:
            size = _varint(data, at)[1] - at
        else:
            size = {FIXED64: 8, FIXED32: 4}[kind]
        yield tag >> 3, kind, data[at : at + size], data[begun : at + size]
        at += size


def tensor_shape(tensor: memoryview) -> tuple[str, tuple[int, ...]]:
    """Return the name and shape of a TensorProto."""
    dims: list[int] = []
    name = ""
    for number, _, value, _ in message_fields(tensor):
        if number == DIMS:  # one, or several in a row
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                dims.append(size)
        elif number == TENSOR_NAME:
            name = bytes(value).decode()
    return name, tuple(dims)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
        shift += 7


def model_field(number: int, content: bytes) -> bytes:
    """Return a field of bytes as it is written."""
    size, head = len(content), bytearray([number << 3 | BYTES])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + content
