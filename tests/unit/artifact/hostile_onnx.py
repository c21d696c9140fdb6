"""ONNX models that want to read other files, take all memory or never answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def onnx_model(
    nodes_: Sequence[Any],
    constants: Sequence[Any] = (),
    *,
    name: str = "X",
    opset: int = 18,
    ir: int = 9,
    domain: str = "",
    shape: Sequence[int | None] = (None, 10),
) -> bytes:
    """A regression on 10 numbers that answers whatever the nodes make of X."""
    graph = helper.make_graph(
        list(nodes_),
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("variable", TensorProto.FLOAT, None)],
        initializer=list(constants),
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = ir
    data: bytes = model.SerializeToString()
    return data


def external(location: str, *, offset: int = 0) -> bytes:
    """A model whose weights lie in another file."""
    return onnx_model([helper.make_node("MatMul", ["X", "w"], ["variable"])], [elsewhere(location, offset)])


def elsewhere(location: str, offset: int = 0) -> TensorProto:
    """[10, 1] weights in another file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", "40")):
        weights.external_data.add(key=key, value=value)
    return weights


def external_constant(location: str) -> bytes:
    """The same, with the weights in the attribute of a node."""
    weights = helper.make_node("Constant", [], ["w"], value=elsewhere(location))
    return onnx_model([weights, helper.make_node("MatMul", ["X", "w"], ["variable"])])


def external_branch(location: str) -> bytes:
    """The same, with the weights in the graph of a branch."""
    info = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    product = helper.make_node("MatMul", ["X", "w"], ["y"])
    branch = helper.make_graph([product], "branch", [], info, initializer=[elsewhere(location)])
    choice = helper.make_node("If", ["t"], ["variable"], then_branch=branch, else_branch=branch)
    return onnx_model([choice], [constant(True, np.bool_, "t")])


def constant(values: Any, dtype: Any = np.int64, name: str = "n") -> Any:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def filled(size: int) -> bytes:
    """Makes a tensor of 10 × `size` numbers when it is asked."""
    made = [
        helper.make_node("ConstantOfShape", ["n"], ["w"]),
        helper.make_node("MatMul", ["X", "w"], ["y"]),
        helper.make_node("ReduceSum", ["y"], ["variable"]),
    ]
    return onnx_model(made, [constant([10, size])])


def endless() -> bytes:
    """Answers after 2**62 turns of a loop."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["n", "t", "X"], ["variable"], body=body)
    return onnx_model([loop], [constant(2**62), constant(True, np.bool_, "t")])


def nested_ifs(levels: int) -> bytes:
    """If in If, as protobuf bytes put together from inside, deeper than a parser's stack may be."""
    inner = b""
    for _ in range(levels):
        # NodeProto{op_type: "If", attribute{name, type: GRAPH, g: GraphProto{node: inner}}}, by wire format.
        graph = _field(1, inner) if inner else b""
        attribute = _field(1, b"then_branch") + b"\xa0\x01\x05" + _field(6, graph)
        inner = _field(4, b"If") + _field(5, attribute)
    return b"\x08\x09" + _field(7, _field(1, inner)) + _field(8, b"\x10\x12")


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def hostile_models(outside: Path) -> dict[str, bytes]:
    """ONNX files that don't load, or don't answer like the version they are in."""
    relu = helper.make_node("Relu", ["X"], ["variable"])
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10, 250_000_000])
    short = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10, 250_000_000], raw_data=bytes(40))
    product = helper.make_node("MatMul", ["X", "w"], ["variable"])
    return {
        "weights in the folder": external(outside.name),
        "weights above the folder": external(f"../{outside.name}"),
        "weights at an absolute path": external(str(outside)),
        "weights at a memory address": external("*/_ORT_MEM_ADDR_/*", offset=4096),
        "weights of /etc/passwd": external("/etc/passwd"),
        "weights of a constant node": external_constant(outside.name),
        "weights of a branch": external_branch(outside.name),
        "10 GB declared": onnx_model([product], [huge]),
        "10 GB declared with 40 bytes": onnx_model([product], [short]),
        "an operator of another library": onnx_model(
            [helper.make_node("Run", ["X"], ["variable"], domain="evil.example")], domain="evil.example"
        ),
        "an operator that nobody knows": onnx_model([helper.make_node("Shell", ["X"], ["variable"])]),
        "an opset of the future": onnx_model([relu], opset=9999),
        "a format of the future": onnx_model([relu], ir=9999),
        "a tensor of 2**63 numbers when asked": filled(2**59),
        "another name for the input": onnx_model([helper.make_node("Relu", ["Y"], ["variable"])], name="Y"),
        "another width": onnx_model([relu], shape=(None, 3)),
        "a cycle": onnx_model([helper.make_node("Add", ["X", "variable"], ["variable"])]),
        "a missing constant": onnx_model([product]),
        "as many answers as numbers": onnx_model([relu]),
        "answers that are no number": onnx_model(
            [helper.make_node("ReduceSum", ["X"], ["s"]), helper.make_node("Log", ["m"], ["variable"])],
            [constant([[-1.0]] * 8, np.float32, "m")],
        ),
        "If in If": nested_ifs(2000),
        "cut short": onnx_model([product], [constant(np.ones((10, 1)), np.float32, "w")])[:-20],
        "random bytes": bytes(np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)),
    }
