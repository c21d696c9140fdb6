"""TensorFlow Serving's REST form, which KServe calls its version 1, towards the runtime. Pure.

Rows are sent in the row form, {"instances": […]}: as named values when the runtime's metadata (GET
/v1/models/<name>/metadata) lists inputs by the columns' names, or when there is no metadata and columns are text;
otherwise each row as a list in the signature's order. A missing number is null, a missing text the empty string.
Answers are {"predictions": […]}: a value, a list of scores, or an object of named outputs for each row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from modelkit.artifact.signature import Signature
from modelkit.serve.batch import Batch, show
from modelkit.serve.errors import RuntimeAnswerError
from modelkit.serve.runtime.columns import Cells, narrow
from modelkit.serve.runtime.forms import Form, mismatch, parse_answer
from modelkit.serve.runtime.outputs import Output
from modelkit.serve.v2_tensors import DATATYPES as OWN_DATATYPES

_DATATYPES = {
    "DT_FLOAT": "FP32",
    "DT_DOUBLE": "FP64",
    "DT_HALF": "FP16",
    "DT_INT8": "INT8",
    "DT_INT16": "INT16",
    "DT_INT32": "INT32",
    "DT_INT64": "INT64",
    "DT_UINT8": "UINT8",
    "DT_UINT16": "UINT16",
    "DT_UINT32": "UINT32",
    "DT_UINT64": "UINT64",
    "DT_BOOL": "BOOL",
    "DT_STRING": "BYTES",
}
_DEFAULT = "serving_default"
_SCALARS = frozenset({int, float, bool, str})


@dataclass(frozen=True, slots=True)
class RowsForm:
    """Each row as a list of numbers."""

    target: bytes
    datatype: str
    names: tuple[str, ...]
    """Of the columns, for messages."""

    def render(self, batch: Batch) -> bytes:
        """See Form."""
        assert batch.matrix is not None, "columns of text are sent by name"
        values = np.ascontiguousarray(narrow(batch.matrix, self.datatype, self.names))
        return orjson.dumps({"instances": values}, option=orjson.OPT_SERIALIZE_NUMPY)

    def parse(self, body: bytes) -> list[Output]:
        """See Form."""
        return parse_predictions(body)


@dataclass(frozen=True, slots=True)
class NamedValue:
    """One column in each row's object."""

    index: int
    is_nested: bool
    """As [value], for an input of shape [rows, 1]."""
    cells: Cells


@dataclass(frozen=True, slots=True)
class RecordsForm:
    """Each row as an object by column name."""

    target: bytes
    values: tuple[NamedValue, ...]

    def render(self, batch: Batch) -> bytes:
        """See Form."""
        names = [value.cells.column.name for value in self.values]
        columns = [_listed(value, batch) for value in self.values]
        instances = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return orjson.dumps({"instances": instances})

    def parse(self, body: bytes) -> list[Output]:
        """See Form."""
        return parse_predictions(body)


def build_v1_form(signature: Signature, model_name: str, metadata: Any) -> Form:
    """The form for a runtime with that metadata (None: it has none); raises ModelUnusableError."""
    target = f"/v1/models/{quote(model_name, safe='')}:predict".encode()
    names = [column.name for column in signature.inputs]
    is_textual = any(column.kind != "numeric" for column in signature.inputs)
    inputs = _read_inputs(metadata)
    if inputs is None:
        if is_textual:
            cells = [Cells(column, OWN_DATATYPES[column.dtype]) for column in signature.inputs]
            return RecordsForm(target, tuple(NamedValue(index, False, cell) for index, cell in enumerate(cells)))
        return RowsForm(target, "FP64", tuple(names))
    if set(inputs) <= set(names) and all(len(item.sizes) <= 2 and item.width == 1 for item in inputs.values()):
        found = [(index, inputs[name]) for index, name in enumerate(names) if name in inputs]
        return RecordsForm(target, tuple(_named_value(signature, index, item) for index, item in found))
    if len(inputs) != 1:
        shown = ", ".join(map(show, sorted(inputs)[:5])) + (", …" if len(inputs) > 5 else "")
        raise mismatch(f"the runtime's inputs {shown} aren't named as the version's columns")
    ((name, only),) = inputs.items()
    if len(only.sizes) != 2 or only.width not in (-1, len(names)) or is_textual or only.datatype in ("BYTES", "BOOL"):
        raise mismatch(
            f"the runtime's input {show(name)} is {only.datatype} with the shape {list(only.sizes[:8])}; rows have "
            f"{len(names)} {'values, some of them text' if is_textual else 'numbers'}"
        )
    return RowsForm(target, only.datatype, tuple(names))


def parse_predictions(body: bytes) -> list[Output]:
    """The outputs of a predict answer in row form; raises RuntimeAnswerError."""
    plain = parse_answer(body)
    found = plain.get("predictions") if isinstance(plain, dict) else None
    if not isinstance(found, list) or not found:
        raise RuntimeAnswerError('the runtime\'s answer must be {"predictions": [one for each row]}')
    if set(map(type, found)) != {dict}:
        return [_stack("predictions", found)]
    names = list(found[0])
    if any(item.keys() != found[0].keys() for item in found):
        raise RuntimeAnswerError("the runtime's predictions must have the same names in every row")
    return [_stack(name, [item[name] for item in found]) for name in names]


@dataclass(frozen=True, slots=True)
class _Input:
    datatype: str
    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        return -1 if any(size < 0 for size in self.sizes[1:]) else int(np.prod(self.sizes[1:], dtype=np.int64))


def _read_inputs(metadata: Any) -> dict[str, _Input] | None:
    """The inputs of the default signature; None when nothing is listed."""
    try:
        definitions = metadata["metadata"]["signature_def"]["signature_def"]
        listed: Mapping[str, Any] = definitions[_DEFAULT if _DEFAULT in definitions else next(iter(definitions))]
        inputs = {
            name: _Input(
                _DATATYPES.get(item["dtype"], item["dtype"]),
                tuple(int(dim["size"]) for dim in item["tensor_shape"]["dim"]),
            )
            for name, item in listed["inputs"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return None
    return inputs or None


def _named_value(signature: Signature, index: int, item: _Input) -> NamedValue:
    column = signature.inputs[index]
    if item.datatype not in _DATATYPES.values() or (column.dtype == "string" and item.datatype != "BYTES"):
        raise mismatch(f"the runtime's input {show(column.name)} is {item.datatype}; the column is {column.dtype}")
    return NamedValue(index, len(item.sizes) == 2, Cells(column, item.datatype))


def _listed(value: NamedValue, batch: Batch) -> list[Any]:
    written = value.cells.write(batch.column(value.index))
    listed = [_null(cell) for cell in (written.tolist() if isinstance(written, np.ndarray) else written)]
    return [[cell] for cell in listed] if value.is_nested else listed


def _null(cell: Any) -> Any:
    return None if cell != cell else cell


def _stack(name: str, items: Sequence[Any]) -> Output:
    """Values, or lists of as many values, of each row as one output."""
    rows, values = len(items), list(items)
    while set(map(type, values)) == {list}:
        if len(set(map(len, values))) != 1:
            raise RuntimeAnswerError(f"the runtime's output {show(name)} has rows of several lengths")
        values = list(chain.from_iterable(values))
    if not set(map(type, values)) <= _SCALARS:
        raise RuntimeAnswerError(f"the runtime's output {show(name)} must hold numbers, booleans or texts")
    nested = bool(items) and isinstance(items[0], list)
    return Output(name, (rows, len(values) // rows) if nested else (rows,), values)
