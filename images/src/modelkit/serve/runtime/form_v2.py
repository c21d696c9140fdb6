"""The Open Inference Protocol, version 2, in JSON, towards the runtime. Pure.

Which tensors the runtime wants is read from its own metadata (GET /v2/models/<name>): one per column by the columns'
names; one per column named `c0`, `c1`, … as the version's model.onnx has them; or one matrix [rows, features] in the
signature's order. A runtime that lists no inputs (as MLServer does without model metadata) is sent the matrix, or, when
columns are text, one tensor per column with the content type `pd`. All outputs that it lists are asked for: MLServer
gives `predict_proba` only to who asks for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from modelkit.artifact.signature import Signature
from modelkit.serve.batch import Batch, show
from modelkit.serve.errors import RuntimeAnswerError
from modelkit.serve.runtime.columns import DATATYPES, FLOATS, INTEGERS, Cells, narrow
from modelkit.serve.runtime.forms import Form, mismatch, parse_answer
from modelkit.serve.runtime.outputs import Output
from modelkit.serve.v2_tensors import DATATYPES as OWN_DATATYPES

Outputs = tuple[str, ...]

_MATRIX = "X"
_MAX_RANK = 8


@dataclass(frozen=True, slots=True)
class MatrixForm:
    """One tensor [rows, features]."""

    target: bytes
    input: str
    datatype: str
    names: tuple[str, ...]
    """Of the columns, for messages."""
    outputs: Outputs = ()

    def render(self, batch: Batch) -> bytes:
        """See Form."""
        assert batch.matrix is not None, "columns of text have tensors of their own"
        values = narrow(batch.matrix, self.datatype, self.names)
        data = np.ascontiguousarray(values).ravel()
        tensor = {"name": self.input, "shape": list(values.shape), "datatype": self.datatype, "data": data}
        return _render({"inputs": [tensor]}, self.outputs)

    def parse(self, body: bytes) -> list[Output]:
        """See Form."""
        return parse_outputs(body)


@dataclass(frozen=True, slots=True)
class ColumnTensor:
    """One column as a tensor."""

    index: int
    """Of the column in the signature."""
    name: str
    rank: int
    """1: [rows], 2: [rows, 1]."""
    cells: Cells


@dataclass(frozen=True, slots=True)
class ColumnsForm:
    """One tensor per column."""

    target: bytes
    tensors: tuple[ColumnTensor, ...]
    outputs: Outputs = ()
    parameters: Mapping[str, Any] | None = None

    def render(self, batch: Batch) -> bytes:
        """See Form."""
        inputs = [
            {
                "name": tensor.name,
                "shape": [batch.rows, 1][: tensor.rank],
                "datatype": tensor.cells.datatype,
                "data": tensor.cells.write(np.ascontiguousarray(batch.column(tensor.index))),
            }
            for tensor in self.tensors
        ]
        plain: dict[str, Any] = {"inputs": inputs}
        if self.parameters is not None:
            plain["parameters"] = self.parameters
        return _render(plain, self.outputs)

    def parse(self, body: bytes) -> list[Output]:
        """See Form."""
        return parse_outputs(body)


def build_v2_form(signature: Signature, model_name: str, metadata: Any) -> Form:
    """The form for a runtime with that model metadata; raises ModelUnusableError when rows can't be put so."""
    target = f"/v2/models/{quote(model_name, safe='')}/infer".encode()
    inputs, outputs = _read_inputs(metadata), _read_outputs(metadata)
    if not inputs:
        return _unlisted(signature, target, outputs)
    names = [column.name for column in signature.inputs]
    by_name = {item["name"]: index for index, item in enumerate(inputs)}
    for known in (names, [f"c{index}" for index in range(len(names))]):
        if set(by_name) <= set(known) and all(_width(item) == 1 for item in inputs):
            pairs = [(index, inputs[by_name[name]]) for index, name in enumerate(known) if name in by_name]
            # One input named as one column of several is that column, not a matrix: a model may use no other.
            return ColumnsForm(target, tuple(_tensor(signature, index, item) for index, item in pairs), outputs)
    return _matrix(signature, target, inputs, outputs)


def parse_outputs(body: bytes) -> list[Output]:
    """The outputs of an infer answer; raises RuntimeAnswerError."""
    plain = parse_answer(body)
    found = plain.get("outputs") if isinstance(plain, dict) else None
    if not isinstance(found, list):
        raise RuntimeAnswerError(
            'the runtime\'s answer must be {"outputs": [{"name", "shape", "datatype", "data"}, …]}'
        )
    return [_parse_output(item, index) for index, item in enumerate(found)]


def _parse_output(item: Any, index: int) -> Output:
    name, shape, data = (item.get(key) for key in ("name", "shape", "data")) if isinstance(item, dict) else (None,) * 3
    if not isinstance(name, str) or not isinstance(shape, list) or not isinstance(data, list):
        raise RuntimeAnswerError(f"the runtime's outputs[{index}] must have 'name', 'shape' and 'data' as a list")
    if not 1 <= len(shape) <= _MAX_RANK or not all(type(size) is int and size >= 0 for size in shape):
        raise RuntimeAnswerError(f"the runtime's output {show(name)} must have a shape of whole numbers")
    for _ in range(len(shape) - 1):
        if not data or not isinstance(data[0], list):
            break
        if set(map(type, data)) != {list}:
            raise RuntimeAnswerError(f"the nested data of the runtime's output {show(name)} don't have its shape")
        data = list(chain.from_iterable(data))
    if len(data) != prod(shape) or not set(map(type, data)) <= {int, float, bool, str}:
        raise RuntimeAnswerError(
            f"the runtime's output {show(name)} must have {prod(shape)} numbers, booleans or texts; "
            f"found {len(data)} values"
        )
    return Output(name, tuple(shape), data)


def _read_inputs(metadata: Any) -> list[dict[str, Any]]:
    """The inputs of model metadata, checked; none when nothing is listed."""
    found = metadata.get("inputs") if isinstance(metadata, dict) else None
    if not found:
        return []
    if not isinstance(found, list) or not all(_is_input(item) for item in found):
        raise mismatch("the runtime's metadata lists inputs without 'name', 'datatype' and 'shape'")
    return found


def _read_outputs(metadata: Any) -> Outputs:
    """The names of the outputs that are listed."""
    found = metadata.get("outputs") if isinstance(metadata, dict) else None
    if not isinstance(found, list):
        return ()
    return tuple(item["name"] for item in found if isinstance(item, dict) and isinstance(item.get("name"), str))


def _is_input(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("datatype"), str)
        and isinstance(item.get("shape"), list)
        and all(type(size) is int for size in item["shape"])
    )


def _width(item: Mapping[str, Any]) -> int:
    """Values per row; -1 for any number."""
    sizes: Sequence[int] = item["shape"][1:]
    return -1 if any(size < 0 for size in sizes) else prod(sizes)


def _tensor(signature: Signature, index: int, item: Mapping[str, Any]) -> ColumnTensor:
    column, datatype, rank = signature.inputs[index], item["datatype"], len(item["shape"])
    if datatype not in DATATYPES or rank not in (1, 2):
        raise mismatch(f"the runtime's input {show(item['name'])} is {datatype} of rank {rank}")
    if datatype != "BYTES" and column.dtype == "string":
        raise mismatch(f"the runtime's input {show(item['name'])} is {datatype}; the column holds text")
    return ColumnTensor(index, item["name"], rank, Cells(column, datatype))


def _matrix(signature: Signature, target: bytes, inputs: Sequence[Mapping[str, Any]], outputs: Outputs) -> Form:
    first, features = inputs[0], len(signature.inputs)
    shown = ", ".join(show(item["name"]) for item in inputs[:5]) + (", …" if len(inputs) > 5 else "")
    if len(inputs) > 1:
        raise mismatch(f"the runtime's inputs {shown} aren't named as the version's columns")
    if len(first["shape"]) != 2 or _width(first) not in (-1, features):
        raise mismatch(f"the runtime's input {shown} has the shape {first['shape'][:8]}; rows have {features} values")
    if any(column.kind != "numeric" for column in signature.inputs):
        raise mismatch(f"the runtime's one input {shown} can't hold the version's columns of text")
    if first["datatype"] not in {*FLOATS, *INTEGERS}:
        raise mismatch(f"the runtime's input {shown} is {first['datatype']}; the version's columns are numbers")
    names = tuple(column.name for column in signature.inputs)
    return MatrixForm(target, first["name"], first["datatype"], names, outputs)


def _unlisted(signature: Signature, target: bytes, outputs: Outputs) -> Form:
    if all(column.kind == "numeric" for column in signature.inputs):
        return MatrixForm(target, _MATRIX, "FP64", tuple(column.name for column in signature.inputs), outputs)
    tensors = tuple(
        ColumnTensor(index, column.name, 2, Cells(column, OWN_DATATYPES[column.dtype]))
        for index, column in enumerate(signature.inputs)
    )
    return ColumnsForm(target, tensors, outputs, {"content_type": "pd"})


def _render(plain: dict[str, Any], outputs: Outputs) -> bytes:
    if outputs:
        plain["outputs"] = [{"name": name} for name in outputs]
    return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
