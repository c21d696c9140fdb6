"""The first version of the protocol, in the REST forms of TensorFlow Serving and of KServe v1.

Source: https://www.tensorflow.org/tfx/serving/api_rest and KServe's v1 data plane. Row form::

    {"instances": [[1.0, 2.0], …]}  or  [{"a": 1.0, "b": 2.0}, …]  or, of a one-column model, [1.0, …]
    {"predictions": […]}

Column form::

    {"inputs": {"a": [1.0, …], "b": [2.0, …]}}  or  [[1.0, 2.0], …]  or, of a one-column model, [1.0, …]
    {"outputs": […]}

Predictions are what scikit-learn's `predict` gives: class labels in their own type, or numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from modelkit.artifact.signature import OutputColumn, Signature
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import (
    Batch,
    Features,
    build_batch,
    build_column,
    join_columns,
    missing_columns,
    show,
    unknown_column,
)
from modelkit.serve.body import DEFAULT_LIMITS, check_object, check_rows, parse_document
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.model import Answer
from modelkit.serve.plain import parse_rows

SIGNATURE_NAME = "serving_default"
_KEYS = frozenset({"instances", "inputs", "signature_name"})
_EXPECTED = 'expected {"instances": rows or named records} or {"inputs": columns by name, or rows}'
_TYPES = {
    "float64": "DT_DOUBLE",
    "int64": "DT_INT64",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
    "datetime": "DT_STRING",
}


@dataclass(frozen=True, slots=True)
class V1Request:
    """A parsed predict request."""

    batch: Batch
    is_columnar: bool
    """Asked as `inputs`: the answer is called `outputs`."""


def parse_v1(features: Features, body: bytes, limits: LimitsConfig = DEFAULT_LIMITS) -> V1Request:
    """The rows of a v1 predict body; raises RequestError."""
    document = parse_document(body, limits)
    plain = check_object(document.plain, _KEYS)
    if plain.get("signature_name") not in (None, "", SIGNATURE_NAME):
        raise MalformedRequestError(f"the field 'signature_name' must be {SIGNATURE_NAME!r} or left out")
    if ("instances" in plain) == ("inputs" in plain):
        raise MalformedRequestError(_EXPECTED)
    if "instances" in plain:
        return V1Request(parse_instances(features, plain, limits, has_booleans=document.has_booleans), False)
    found = plain["inputs"]
    if isinstance(found, dict):
        return V1Request(_parse_columns(features, found, limits), True)
    return V1Request(_parse_list(features, found, limits, document.has_booleans), True)


def parse_instances(
    features: Features, plain: Mapping[str, Any], limits: LimitsConfig, *, has_booleans: bool = True
) -> Batch:
    """The rows of the field `instances`; raises RequestError. `has_booleans`: see `build_batch`."""
    return _parse_list(features, plain.get("instances"), limits, has_booleans)


def render_v1(answer: Answer, *, is_columnar: bool) -> bytes:
    """The JSON answer."""
    return orjson.dumps({"outputs" if is_columnar else "predictions": answer.predictions})


def model_status(name: str, number: int, *, is_ready: bool) -> bytes:
    """The answer to GET /v1/models/{name}: TensorFlow Serving's version status and KServe's readiness in one object."""
    version = {
        "version": str(number),
        "state": "AVAILABLE" if is_ready else "UNLOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return orjson.dumps({"model_version_status": [version], "name": name, "ready": is_ready})


def model_list(name: str) -> bytes:
    """The answer to GET /v1/models."""
    return orjson.dumps({"models": [name]})


def model_metadata(signature: Signature, name: str) -> bytes:
    """The answer to GET /v1/models/{name}/metadata, as TensorFlow Serving describes a signature."""
    definition = {
        "inputs": {column.name: _tensor_info(column.name, column.dtype, (-1,)) for column in signature.inputs},
        "outputs": {"prediction": _output_info(signature.outputs[0])} if signature.outputs else {},
        "method_name": "tensorflow/serving/predict",
    }
    return orjson.dumps(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(signature.number)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
        }
    )


def _output_info(output: OutputColumn) -> dict[str, Any]:
    return _tensor_info(output.name, output.dtype, output.shape or (-1,))


def _tensor_info(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": _TYPES[dtype], "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}


def _parse_list(features: Features, found: Any, limits: LimitsConfig, has_booleans: bool) -> Batch:
    if not isinstance(found, list):
        raise MalformedRequestError(_EXPECTED)
    check_rows(len(found), limits.max_rows)
    if not isinstance(found[0], list | dict) and len(features.names) == 1:
        return build_batch(features, [[value] for value in found], has_booleans=has_booleans)
    if not set(map(type, found)) <= {list, dict}:
        raise MalformedRequestError(
            f"every row must be a list of {len(features.names)} values or an object by column name"
        )
    return parse_rows(features, found, has_booleans=has_booleans)


def _parse_columns(features: Features, found: Mapping[str, Any], limits: LimitsConfig) -> Batch:
    for name in found:
        if name not in features.positions:
            raise unknown_column(features, name)
    if (error := missing_columns(features, found.__contains__)) is not None:
        raise error
    columns = {name: _column_values(name, values) for name, values in found.items()}
    rows = len(columns[features.names[0]])
    check_rows(rows, limits.max_rows)
    for name, values in columns.items():
        if len(values) != rows:
            raise MalformedRequestError(
                f"the column {show(name)} has {len(values)} rows; the column {show(features.names[0])} has {rows}"
            )
    return join_columns(features, tuple(build_column(column, columns[column.name]) for column in features.columns))


def _column_values(name: str, found: Any) -> list[Any]:
    """One value per row, from [rows] or [rows, 1]."""
    if not isinstance(found, list):
        raise MalformedRequestError(f"the column {show(name)} must be a list with one value per row")
    if found and all(type(value) is list and len(value) == 1 for value in found):
        return [value[0] for value in found]
    return found
