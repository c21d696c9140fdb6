"""An exported model's bytes depend on what it computes, not on what the process exported before."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from modelkit.train.canonical import rename


def _model(prefix: str) -> onnx.ModelProto:
    """y = 2 * x where x > 0 is asked in a subgraph that uses a value of the outer graph."""

    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])

    def branch(name: str, operation: str) -> onnx.GraphProto:
        out = f"{prefix}{name}"
        node = helper.make_node(operation, [f"{prefix}doubled"], [out], name=f"{prefix}{name}")
        return helper.make_graph([node], name, [], [info(out)])

    nodes = [
        helper.make_node("Mul", ["X", f"{prefix}two"], [f"{prefix}doubled"], name=f"{prefix}Mul"),
        helper.make_node("ReduceSum", ["X"], [f"{prefix}sum"], keepdims=0),
        helper.make_node("Greater", [f"{prefix}sum", f"{prefix}zero"], [f"{prefix}positive"]),
        helper.make_node(
            "If",
            [f"{prefix}positive"],
            ["Y"],
            then_branch=branch("then", "Identity"),
            else_branch=branch("else", "Neg"),
        ),
    ]
    constants = [
        helper.make_tensor(f"{prefix}two", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor(f"{prefix}zero", TensorProto.FLOAT, [], [0.0]),
    ]
    graph = helper.make_graph(nodes, "model", [info("X")], [info("Y")], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_names_do_not_tell_models_apart() -> None:
    one, two = _model("a"), _model("UU00")
    assert one.SerializeToString() != two.SerializeToString()
    rename(one)
    rename(two)
    assert one.SerializeToString() == two.SerializeToString()


@pytest.mark.parametrize("row", [[1.0, 2.0], [-1.0, -2.0]])
def test_a_renamed_model_computes_the_same_and_keeps_its_interface(row: list[float]) -> None:
    model = _model("a")
    feeds = {"X": np.array(row, dtype=np.float32)}
    before = InferenceSession(model.SerializeToString()).run(["Y"], feeds)[0]
    rename(model)
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(InferenceSession(model.SerializeToString()).run(["Y"], feeds)[0], before)
    np.testing.assert_array_equal(before, np.abs(feeds["X"]) * 2)
