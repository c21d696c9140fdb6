"""The Open Inference Protocol, version 2, in JSON.

Source: https://github.com/open-inference/open-inference-protocol (specification/protocol/inference_rest.md).
A request brings either one tensor [rows, features] in the signature's order, or one tensor [rows] or [rows, 1] per
column by name. Data may be flat (row-major) or nested; the answer's is flat. Binary tensors aren't spoken here.
"""

from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from modelkit import __version__
from modelkit.artifact.signature import Signature
from modelkit.serve.batch import (
    Batch,
    Column,
    Features,
    build_column,
    build_matrix,
    join_columns,
    missing_columns,
    show,
    unknown_column,
    wrong_width,
)
from modelkit.serve.body import check_id, check_rows, parse_json
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.model import Answer

_DATATYPES = {"float64": "FP64", "int64": "INT64", "bool": "BOOL", "string": "BYTES", "datetime": "BYTES"}
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(_INTEGERS, frozenset({int})),
    **dict.fromkeys(("FP16", "FP32", "FP64"), frozenset({int, float})),
}
_NUMBERS = frozenset({*_INTEGERS, "FP16", "FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed infer request."""

    id: str | None
    batch: Batch
    outputs: tuple[str, ...]
    """Names of the wanted outputs, in the asked order."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    datatype: str
    values: list[Any]
    """Flat, row-major; null is None."""


def server_metadata() -> bytes:
    """The answer to GET /v2."""
    return orjson.dumps({"name": "modelloop", "version": __version__, "extensions": []})


def model_metadata(signature: Signature, name: str, platform: str) -> bytes:
    """The answer to GET /v2/models/{name}: the columns as tensors [rows, 1]."""
    inputs = [
        {"name": column.name, "datatype": _DATATYPES[column.dtype], "shape": [-1, 1]} for column in signature.inputs
    ]
    outputs = [
        {"name": output.name, "datatype": _DATATYPES[output.dtype], "shape": list(output.shape or (-1,))}
        for output in signature.outputs
    ]
    return orjson.dumps(
        {
            "name": name,
            "versions": [str(signature.number)],
            "platform": platform,
            "inputs": inputs,
            "outputs": outputs,
        }
    )


def parse_infer(features: Features, signature: Signature, body: bytes, max_rows: int) -> InferRequest:
    """An infer body; raises RequestError."""
    plain = parse_json(body)
    if not isinstance(plain, dict) or not isinstance(plain.get("inputs"), list) or not plain["inputs"]:
        raise MalformedRequestError('expected {"inputs": [{"name", "shape", "datatype", "data"}, …]}')
    # An empty id is what some clients send for none.
    request_id = check_id(plain["id"], "the field 'id'") if plain.get("id") else None
    outputs = _wanted_outputs(signature, plain.get("outputs"))
    tensors = [_parse_tensor(item, index, max_rows) for index, item in enumerate(plain["inputs"])]
    first = tensors[0]
    is_column = first.name in features.positions and prod(first.shape[1:]) == 1
    if len(tensors) == 1 and not is_column:
        batch = _matrix_batch(features, first)
    else:
        batch = _columns_batch(features, tensors)
    return InferRequest(request_id, batch, outputs)


def render_infer(signature: Signature, name: str, answer: Answer, outputs: tuple[str, ...], request_id: str) -> bytes:
    """The infer answer with the wanted outputs."""
    datatypes = {output.name: _DATATYPES[output.dtype] for output in signature.outputs}
    rows = len(answer.predictions)
    tensors: list[dict[str, Any]] = []
    for output in outputs:
        if output == "probabilities" and answer.probabilities is not None:
            shape, data = list(answer.probabilities.shape), np.ascontiguousarray(answer.probabilities).ravel()
            tensors.append({"name": output, "shape": shape, "datatype": datatypes[output], "data": data})
        else:
            tensors.append({"name": output, "shape": [rows], "datatype": datatypes[output], "data": answer.predictions})
    plain = {"model_name": name, "model_version": str(signature.number), "id": request_id, "outputs": tensors}
    return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _wanted_outputs(signature: Signature, found: Any) -> tuple[str, ...]:
    known = tuple(output.name for output in signature.outputs)
    if not found:
        return known
    if not isinstance(found, list):
        raise MalformedRequestError("the field 'outputs' must be a list of objects with a 'name'")
    wanted = []
    for item in found:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise MalformedRequestError("the field 'outputs' must be a list of objects with a 'name'")
        if name not in known:
            raise MalformedRequestError(f"unknown output {show(name)}; the model gives {', '.join(map(show, known))}")
        wanted.append(name)
    return tuple(dict.fromkeys(wanted))


def _parse_tensor(item: Any, index: int, max_rows: int) -> _Tensor:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise MalformedRequestError(f"inputs[{index}] must be an object with 'name', 'shape', 'datatype' and 'data'")
    name, datatype, data = item["name"], item.get("datatype"), item.get("data")
    if not isinstance(datatype, str) or datatype not in _JSON_TYPES:
        raise MalformedRequestError(f"the input {show(name)} must have one of the datatypes {', '.join(_JSON_TYPES)}")
    shape = _parse_shape(name, item.get("shape"))
    if not isinstance(data, list):
        raise MalformedRequestError(f"the input {show(name)} must have its values as the list 'data'")
    check_rows(shape[0], max_rows)
    values = _flatten(name, shape, data)
    if len(values) != prod(shape):
        raise MalformedRequestError(
            f"the input {show(name)} has the shape {list(shape)}, so {prod(shape)} values; found {len(values)}"
        )
    if not set(map(type, values)) <= _JSON_TYPES[datatype] | {type(None)}:
        raise MalformedRequestError(f"the input {show(name)} has values that aren't {datatype}")
    return _Tensor(name, shape, datatype, values)


def _parse_shape(name: str, found: Any) -> tuple[int, ...]:
    if (
        not isinstance(found, list)
        or not 1 <= len(found) <= 2
        or not all(type(size) is int and 0 <= size < 2**31 for size in found)
    ):
        raise MalformedRequestError(f"the input {show(name)} must have a shape of [rows] or [rows, columns]")
    return tuple(found)


def _flatten(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """Nested data of a two-dimensional tensor as flat; flat data as it is."""
    if not data or not isinstance(data[0], list):
        return data
    if len(shape) != 2 or set(map(type, data)) != {list} or len(data) != shape[0] or set(map(len, data)) != {shape[1]}:
        raise MalformedRequestError(f"the nested data of the input {show(name)} don't have the shape {list(shape)}")
    return list(chain.from_iterable(data))


def _matrix_batch(features: Features, tensor: _Tensor) -> Batch:
    width = len(features.names)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise MalformedRequestError(
            f"the input {show(tensor.name)} has the shape {list(tensor.shape)}; expected [rows, {width}], "
            "or one input per column by name"
        )
    if tensor.datatype not in _NUMBERS:
        raise MalformedRequestError(
            f"the input {show(tensor.name)} must hold numbers; send text and booleans as one input per column"
        )
    if None in tensor.values:
        null_columns = [
            column.name
            for index, column in enumerate(features.columns)
            if not column.nullable and None in tensor.values[index::width]
        ]
        if null_columns:
            raise MalformedRequestError(f"the column {show(null_columns[0])} must not be null")
    return build_matrix(features, np.array(tensor.values, dtype=np.float64).reshape(tensor.shape))


def _columns_batch(features: Features, tensors: list[_Tensor]) -> Batch:
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise MalformedRequestError("two inputs have the same name")
    for name in by_name:
        if name not in features.positions:
            raise unknown_column(features, name)
    if (error := missing_columns(features, by_name.__contains__)) is not None:
        raise error
    rows = tensors[0].shape[0]
    columns: list[Column] = []
    for column in features.columns:
        tensor = by_name[column.name]
        if prod(tensor.shape[1:]) != 1:
            raise wrong_width(0, tensor.shape[1], 1)
        if tensor.shape[0] != rows:
            raise MalformedRequestError(
                f"the input {show(column.name)} has {tensor.shape[0]} rows; the first input has {rows}"
            )
        columns.append(build_column(column, tensor.values))
    return join_columns(features, tuple(columns))
