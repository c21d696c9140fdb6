"""Tensors of the Open Inference Protocol, whatever way they came: from JSON, raw over REST, or over gRPC.

Raw data is little-endian, row-major and without gaps; BOOL is one byte, 0 or 1; a BYTES element is its length as a
4-byte unsigned integer and then its bytes, UTF-8 here. Source: Triton's binary tensor data extension. Pure.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.signature import Signature
from modelkit.serve.batch import (
    Batch,
    Column,
    Features,
    build_matrix,
    build_typed_column,
    join_columns,
    missing_columns,
    show,
    unknown_column,
    wrong_width,
)
from modelkit.serve.body import check_rows
from modelkit.serve.errors import MalformedRequestError, UnprocessableRequestError
from modelkit.serve.model import Answer

DATATYPES = {"float64": "FP64", "int64": "INT64", "bool": "BOOL", "string": "BYTES", "datetime": "BYTES"}
"""The protocol's name of each dtype of a signature."""
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
"""All datatypes of the protocol, and what their values are in NumPy."""
_FLOAT = np.dtype(np.float64)
_PACK_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "f8": "d"}
"""The struct module's names of what JSON numbers become."""
_JSON_KINDS: dict[str, set[type]] = {"b": {bool}, "O": {str}, "f": {int, float}, "i": {int}, "u": {int}}
"""By the kind of a dtype."""
_LENGTH = struct.Struct("<I")
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_MAX_SIZE = 2**31


@dataclass(slots=True, eq=False)
class Tensor:
    """One input. Never changed once made; not frozen, because that costs a microsecond a tensor."""

    name: str
    shape: tuple[int, ...]
    """[rows] or [rows, columns]."""
    datatype: str
    values: NDArray[Any]
    """Flat, row-major: numbers, bool, or objects holding str. Objects also where there is a null, which is None."""
    is_finite: bool = False
    """Is it certain that no number is NaN or infinite, as in JSON?"""


@dataclass(slots=True, eq=False)
class Output:
    """One output of an answer; never changed once made, as Tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any
    """Flat: a list of labels or numbers, or an array of probabilities."""


def check_tensor(name: str, datatype: Any, shape: Sequence[Any] | None, max_rows: int) -> tuple[int, ...]:
    """The shape, when both are what the protocol knows and the rows are within the limit; raises RequestError.

    To be asked before the data is looked at, so that no shape makes the server reserve memory.
    """
    if type(datatype) is not str or datatype not in DTYPES:
        raise MalformedRequestError(f"the input {show(name)} must have one of the datatypes {', '.join(DTYPES)}")
    sizes = () if shape is None else tuple(shape)
    for size in sizes:
        if type(size) is not int or not 0 <= size < _MAX_SIZE:
            sizes = ()
    if not 1 <= len(sizes) <= 2:
        raise MalformedRequestError(f"the input {show(name)} must have a shape of [rows] or [rows, columns]")
    check_rows(sizes[0], max_rows)
    return sizes


def check_count(name: str, shape: tuple[int, ...], found: int) -> None:
    """Raise unless there are as many values as the shape says."""
    if prod(shape) != found:
        raise MalformedRequestError(
            f"the input {show(name)} has the shape {list(shape)}, so {prod(shape)} values; found {found}"
        )


def read_values(name: str, datatype: str, values: list[Any], *, has_booleans: bool = True) -> NDArray[Any]:
    """JSON values as the `Tensor.values` of a datatype; raises MalformedRequestError.

    Numbers of the FP types are kept in the precision of their text. `has_booleans`: see `build_batch`.
    """
    dtype = _FLOAT if datatype in _FLOATS else DTYPES[datatype]
    if dtype.kind in "fiu" and not (has_booleans and bool in set(map(type, values))):
        try:
            # Packing refuses what is no number, or beyond the datatype.
            packed = struct.pack(f"<{len(values)}{_PACK_CODES[dtype.str[1:]]}", *values)
            return np.frombuffer(bytearray(packed), dtype=dtype)
        except (struct.error, OverflowError):
            pass  # Something else than numbers, such as a null: looked at below.
    kinds = set(map(type, values))
    has_null = type(None) in kinds
    kinds.discard(type(None))
    if not kinds <= _JSON_KINDS[dtype.kind]:
        raise MalformedRequestError(f"the input {show(name)} has values that aren't {datatype}")
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if any(value is not None and not low <= value <= high for value in values):
            raise MalformedRequestError(f"the input {show(name)} has values beyond {datatype}")
    return np.array(values, dtype=object if has_null else dtype)


def read_raw(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview, max_text_bytes: int
) -> NDArray[Any]:
    """Raw data as the `Tensor.values` of a datatype; raises RequestError when it doesn't fit the shape."""
    if datatype == "BYTES":
        return _read_texts(name, prod(shape), data, max_text_bytes)
    dtype = DTYPES[datatype]
    expected = prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise MalformedRequestError(
            f"the input {show(name)} of {list(shape)} {datatype} must have {expected} bytes; found {len(data)}"
        )
    if datatype == "BOOL":
        flags = np.frombuffer(data, dtype=np.uint8)
        if np.any(flags > 1):
            raise MalformedRequestError(f"the input {show(name)} must hold bytes of 0 and 1, as BOOL")
        return flags.astype(np.bool_)
    return np.frombuffer(data, dtype=dtype)


def write_raw(datatype: str, values: Any) -> bytes:
    """The values of an output as raw data."""
    if datatype != "BYTES":
        return np.ascontiguousarray(values, dtype=DTYPES[datatype]).tobytes()
    texts = [str(value).encode() for value in values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def build_tensor_batch(features: Features, tensors: Sequence[Tensor]) -> Batch:
    """One tensor [rows, features] in the signature's order, or one [rows] or [rows, 1] per column by name, as a batch.

    Raises MalformedRequestError naming the input or the column.
    """
    first = tensors[0]
    if len(tensors) == 1 and not (first.name in features.positions and prod(first.shape[1:]) == 1):
        return _matrix_batch(features, first)
    return _columns_batch(features, tensors)


def read_plain_columns(features: Features, items: Sequence[Any], max_rows: int) -> Batch | None:
    """JSON inputs as a batch at once, when each is a column of plain numbers; None when any needs a closer look.

    For models of float64 columns, and a text without booleans. A tensor by itself takes several times as long.
    """
    data: list[Any] = [None] * len(features.names)
    try:
        for item in items:
            values, shape = item["data"], item["shape"]
            rows = len(values)
            if shape not in ([rows], [rows, 1]) or type(shape[0]) is not int or type(shape[-1]) is not int:
                return None
            if item["datatype"] not in _FLOATS or "parameters" in item:
                return None
            data[features.positions[item["name"]]] = values
        rows = len(data[0])
        if not 1 <= rows <= max_rows:
            return None
        # Packing refuses columns of another length and whatever is no number.
        packed = bytearray().join(starmap(struct.Struct(f"{rows}d").pack, data))
    except (KeyError, TypeError, struct.error):
        return None
    return Batch(rows, np.ascontiguousarray(np.frombuffer(packed).reshape(len(data), rows).T), ())


def wanted_output(signature: Signature, name: str) -> str:
    """`name` when it is an output of the model; raises MalformedRequestError."""
    known = [output.name for output in signature.outputs]
    if name not in known:
        raise MalformedRequestError(f"unknown output {show(name)}; the model gives {', '.join(map(show, known))}")
    return name


def build_output(signature: Signature, name: str, answer: Answer) -> Output:
    """An output of the signature as the protocol knows it."""
    datatype = {output.name: DATATYPES[output.dtype] for output in signature.outputs}[name]
    if name == "probabilities" and answer.probabilities is not None:
        return Output(name, datatype, answer.probabilities.shape, answer.probabilities.reshape(-1))
    return Output(name, datatype, (len(answer.predictions),), answer.predictions)


def _read_texts(name: str, count: int, data: bytes | memoryview, max_text_bytes: int) -> NDArray[Any]:
    content = bytes(data)
    if len(content) < count * _LENGTH.size:
        raise MalformedRequestError(f"the input {show(name)} must have {count} texts, each after its length")
    texts: list[str] = []
    position = 0
    try:
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(content, position)
            if length > max_text_bytes:
                raise UnprocessableRequestError(
                    f"the input {show(name)} has a text of more than {max_text_bytes} bytes, which is the limit"
                )
            position += _LENGTH.size + length
            if position > len(content):
                break
            texts.append(content[position - length : position].decode())
    except struct.error:
        pass  # The data ends within a length, so the count doesn't fit.
    except UnicodeDecodeError:
        raise MalformedRequestError(f"the input {show(name)} has a text that isn't UTF-8") from None
    if len(texts) != count or position != len(content):
        raise MalformedRequestError(f"the input {show(name)} must have {count} texts, each after its length")
    return np.array(texts, dtype=object)


def _matrix_batch(features: Features, tensor: Tensor) -> Batch:
    width = len(features.names)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise MalformedRequestError(
            f"the input {show(tensor.name)} has the shape {list(tensor.shape)}; expected [rows, {width}], "
            "or one input per column by name"
        )
    if DTYPES[tensor.datatype].kind not in "fiu":
        raise MalformedRequestError(
            f"the input {show(tensor.name)} must hold numbers; send text and booleans as one input per column"
        )
    is_finite = tensor.is_finite and tensor.values.dtype.kind != "O"
    matrix = tensor.values.astype(np.float64, copy=False).reshape(tensor.shape)
    return build_matrix(features, matrix, is_finite=is_finite)


def _columns_batch(features: Features, tensors: Sequence[Tensor]) -> Batch:
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise MalformedRequestError("two inputs have the same name")
    for name in by_name:
        if name not in features.positions:
            raise unknown_column(features, name)
    if len(by_name) != len(features.names):
        error = missing_columns(features, by_name.__contains__)
        assert error is not None, "fewer names than columns, all of them known"
        raise error
    ordered = [by_name[name] for name in features.names]
    rows = tensors[0].shape[0]
    for tensor in ordered:
        if len(tensor.shape) == 2 and tensor.shape[1] != 1:
            raise wrong_width(0, tensor.shape[1], 1)
        if tensor.shape[0] != rows:
            raise MalformedRequestError(
                f"the input {show(tensor.name)} has {tensor.shape[0]} rows; the first input has {rows}"
            )
    if features.plain and all(tensor.values.dtype == _FLOAT for tensor in ordered):
        # All at once: a look at each column takes longer than the model.
        joined = np.concatenate([tensor.values for tensor in ordered]).reshape(len(ordered), rows)
        is_finite = all(tensor.is_finite for tensor in ordered)
        return build_matrix(features, np.ascontiguousarray(joined.T), is_finite=is_finite)
    columns: tuple[Column, ...] = tuple(
        build_typed_column(column, tensor.values) for column, tensor in zip(features.columns, ordered, strict=True)
    )
    return join_columns(features, columns)
