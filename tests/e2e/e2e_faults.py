"""Models that answer their samples, and break at other rows: graphs around a real one that do harm at some inputs.

A harmed model adds a zero to its input. For most rows the zero is a constant; for a row that isn't one of the samples,
and is in the upper part of the first feature, it comes from a computation that fails, is slow, ends the process or
takes all memory. So the version passes every test before it is served, and breaks under real traffic.
"""

import math
import timeit
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Node = Any

DELAY_SECONDS = 0.6
"""How long a slow row takes on one core, at least."""
_SIDE = 192
_TRIALS = 50
_OPSET, _IR_VERSION = 17, 8
_BYTES = 3 * 2**30
_PREFIX = "harm_"


class Harm(StrEnum):
    """What happens at the rows that are chosen."""

    ERROR = "Error"
    """An index that is out of range: ONNX Runtime refuses, and the server answers 500."""
    DELAY = "Delay"
    """DELAY_SECONDS of work."""
    DEATH = "Death"
    """SIGFPE: the smallest integer divided by -1 isn't an integer, and x86 processors trap."""
    MEMORY = "Memory"
    """Three GiB, written to."""


def harm_model(model: bytes, harm: Harm, samples: NDArray[np.float64], threshold: float) -> bytes:
    """`model`, whose one input `X` is [n, features] of float64, with harm at some rows.

    Those rows are in none of `samples` [m, features], and their first feature is above `threshold`.
    """
    whole = onnx.load_from_string(model)
    graph = whole.graph
    for node in graph.node:
        node.input[:] = [f"{_PREFIX}X" if name == "X" else name for name in node.input]
    nodes, constants = _choose_rows(samples, threshold)
    branch, more = _build_branch(harm)
    zero = helper.make_node("Constant", [], ["none"], value=numpy_helper.from_array(np.zeros(1)))
    nodes += [
        helper.make_node(
            "If",
            [f"{_PREFIX}chosen"],
            [f"{_PREFIX}zero"],
            then_branch=helper.make_graph(branch, "harm", [], [_scalar("done")], more),
            else_branch=helper.make_graph([zero], "none", [], [_scalar("none")]),
        ),
        helper.make_node("Add", ["X", f"{_PREFIX}zero"], [f"{_PREFIX}X"]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(constants)
    onnx.checker.check_model(whole)
    content: bytes = whole.SerializeToString()
    return content


def _choose_rows(samples: NDArray[np.float64], threshold: float) -> tuple[list[Node], list[Any]]:
    """`harm_chosen`: is there a row to do harm at? `harm_count` is 1.0 for it."""
    arrays: dict[str, NDArray[Any]] = {
        "samples": samples[np.newaxis],
        "threshold": np.array([threshold]),
        "nothing": np.array(0.0),
        "column": np.array(0, np.int64),
        "second": np.array([1], np.int64),
        "third": np.array([2], np.int64),
    }
    nodes = [
        _node("Unsqueeze", ["X", "=second"], "wide"),
        _node("Sub", ["=wide", "=samples"], "differences"),
        _node("Abs", ["=differences"], "distances"),
        _node("ReduceSum", ["=distances", "=third"], "by_sample", keepdims=0),
        _node("ReduceMin", ["=by_sample"], "nearest", axes=[1], keepdims=0),
        _node("Greater", ["=nearest", "=nothing"], "foreign"),
        _node("Gather", ["X", "=column"], "feature", axis=1),
        _node("Greater", ["=feature", "=threshold"], "above"),
        _node("And", ["=foreign", "=above"], "rows"),
        _node("Cast", ["=rows"], "numbers", to=TensorProto.DOUBLE),
        _node("ReduceMax", ["=numbers"], "count", keepdims=0),
        _node("Greater", ["=count", "=nothing"], "chosen"),
    ]
    return nodes, [numpy_helper.from_array(array, f"{_PREFIX}{name}") for name, array in arrays.items()]


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
    """A node; `=` stands before the names of our own."""
    names = [name.replace("=", _PREFIX) for name in inputs]
    return helper.make_node(kind, names, [f"{_PREFIX}{output}"], **attributes)


def _scalar(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1])


def _build_branch(harm: Harm) -> tuple[list[Node], list[Any]]:
    """Nodes and constants that make `done` [1], a zero. They hang on `harm_count`, so that none is computed early."""
    make = {Harm.ERROR: _fail, Harm.DELAY: _burn, Harm.DEATH: _die, Harm.MEMORY: _fill}[harm]
    nodes, arrays = make()
    arrays = arrays | {"line": np.array([1], np.int64), "naught": np.zeros(1)}
    nodes += [
        helper.make_node("Reshape", ["found", "line"], ["flat"]),
        helper.make_node("Mul", ["flat", "naught"], ["done"]),
    ]
    return nodes, [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _fail() -> tuple[list[Node], dict[str, NDArray[Any]]]:
    nodes = [
        helper.make_node("Cast", [f"{_PREFIX}count"], ["index"], to=TensorProto.INT64),
        helper.make_node("Mul", ["index", "far"], ["outside"]),
        helper.make_node("Gather", ["values", "outside"], ["found"], axis=0),
    ]
    return nodes, {"far": np.array(1_000_000, np.int64), "values": np.zeros(3)}


def _die() -> tuple[list[Node], dict[str, NDArray[Any]]]:
    nodes = [
        helper.make_node("Cast", [f"{_PREFIX}count"], ["index"], to=TensorProto.INT64),
        helper.make_node("Neg", ["index"], ["negative"]),
        helper.make_node("Div", ["smallest", "negative"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["found"], to=TensorProto.DOUBLE),
    ]
    return nodes, {"smallest": np.array(np.iinfo(np.int64).min, np.int64)}


def _fill() -> tuple[list[Node], dict[str, NDArray[Any]]]:
    nodes = [
        helper.make_node("Cast", [f"{_PREFIX}count"], ["index"], to=TensorProto.INT64),
        helper.make_node("Mul", ["index", "many"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["filled"], value=numpy_helper.from_array(np.ones(1))),
        helper.make_node("ReduceMax", ["filled"], ["found"], keepdims=0),
    ]
    return nodes, {"many": np.array([_BYTES // 8], np.int64)}


def _burn() -> tuple[list[Node], dict[str, NDArray[Any]]]:
    matrix = [_SIDE, _SIDE]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "turn"], ["after"]),
            helper.make_node("Identity", ["goes_on"], ["goes_on_too"]),
        ],
        "product",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.DOUBLE, matrix),
        ],
        [
            helper.make_tensor_value_info("goes_on_too", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.DOUBLE, matrix),
        ],
    )
    nodes = [
        helper.make_node("Mul", ["turn", f"{_PREFIX}count"], ["start"]),
        helper.make_node("Loop", ["rounds", "", "start"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["found"], keepdims=0),
    ]
    return nodes, {"turn": np.eye(_SIDE)[::-1].copy(), "rounds": np.array(_count_rounds(), np.int64)}


@cache
def _count_rounds() -> int:
    """How many products of two matrices of _SIDE² this machine's fastest core makes in DELAY_SECONDS."""
    matrix = np.eye(_SIDE)[::-1].copy()
    value = helper.make_tensor_value_info("before", TensorProto.DOUBLE, [_SIDE, _SIDE])
    after = helper.make_tensor_value_info("after", TensorProto.DOUBLE, [_SIDE, _SIDE])
    node = helper.make_node("MatMul", ["before", "turn"], ["after"])
    graph = helper.make_graph([node], "product", [value], [after], [numpy_helper.from_array(matrix, "turn")])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    best = min(timeit.repeat(lambda: session.run(None, {"before": matrix}), number=1, repeat=_TRIALS))
    return math.ceil(DELAY_SECONDS / best)
