"""The Open Inference Protocol, version 2, over REST, with the binary tensor data extension.

Source: https://github.com/open-inference/open-inference-protocol (specification/protocol/inference_rest.md) and
Triton's extension_binary_data.md. A request brings either one tensor [rows, features] in the signature's order, or one
tensor [rows] or [rows, 1] per column by name. JSON data may be flat (row-major) or nested; the answer's is flat.
Parameters that mean nothing here, such as a priority, are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from modelkit import __version__
from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Batch, Features, show
from modelkit.serve.body import DEFAULT_LIMITS, check_id, parse_document
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.model import Answer
from modelkit.serve.question import JSON, Reply
from modelkit.serve.v2_tensors import (
    DATATYPES,
    Tensor,
    build_output,
    build_tensor_batch,
    check_count,
    check_tensor,
    read_plain_columns,
    read_raw,
    read_values,
    wanted_output,
    write_raw,
)

EXTENSIONS = ("binary_tensor_data",)
BINARY = b"application/octet-stream"
JSON_LENGTH_HEADER = b"inference-header-content-length"
_EXPECTED = 'expected {"inputs": [{"name", "shape", "datatype", "data"}, …]}'
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that the answer carries."""

    name: str
    is_binary: bool
    """After the JSON, as raw data."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed infer request."""

    id: str | None
    batch: Batch
    outputs: tuple[WantedOutput, ...]
    """In the asked order."""


@dataclass(slots=True)
class _RawData:
    """What follows the JSON; each binary tensor takes its bytes off the front."""

    data: memoryview
    is_announced: bool
    """Did the request say where the JSON ends?"""

    def take(self, name: str, size: Any) -> memoryview:
        """The next `size` bytes."""
        if type(size) is not int or size < 0:
            raise MalformedRequestError(f"the input {show(name)} must have a whole number as binary_data_size")
        if not self.is_announced:
            raise MalformedRequestError(
                f"the input {show(name)} has binary data; the header Inference-Header-Content-Length must say how many "
                "bytes of JSON come before it"
            )
        if size > len(self.data):
            raise MalformedRequestError(
                f"the input {show(name)} must have {size} bytes of binary data; found {len(self.data)}"
            )
        taken, self.data = self.data[:size], self.data[size:]
        return taken


def server_metadata() -> bytes:
    """The answer to GET /v2."""
    return orjson.dumps({"name": "modelloop", "version": __version__, "extensions": EXTENSIONS})


def model_metadata(signature: Signature, name: str, platform: str) -> bytes:
    """The answer to GET /v2/models/{name}: the columns as tensors [rows, 1]."""
    inputs = [
        {"name": column.name, "datatype": DATATYPES[column.dtype], "shape": [-1, 1]} for column in signature.inputs
    ]
    outputs = [
        {"name": output.name, "datatype": DATATYPES[output.dtype], "shape": list(output.shape or (-1,))}
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


def parse_infer(
    features: Features,
    signature: Signature,
    body: bytes,
    limits: LimitsConfig = DEFAULT_LIMITS,
    json_length: int | None = None,
) -> InferRequest:
    """An infer body, whose first `json_length` bytes are the JSON when it is given; raises RequestError."""
    text, raw = _split(body, json_length)
    document = parse_document(text, limits)
    plain = document.plain
    if type(plain) is not dict or type(plain.get("inputs")) is not list or not plain["inputs"]:
        raise MalformedRequestError(_EXPECTED)
    # An empty id is what some clients send for none.
    request_id = None if plain.get("id") in (None, "") else check_id(plain["id"], "the field 'id'")
    outputs = _wanted_outputs(signature, plain)
    inputs = plain["inputs"]
    if features.plain and len(inputs) == len(features.names) > 1 and not (document.has_booleans or len(raw.data)):
        batch = read_plain_columns(features, inputs, limits.max_rows)
        if batch is not None:
            return InferRequest(request_id, batch, outputs)
    tensors = [_parse_tensor(item, index, raw, limits, document.has_booleans) for index, item in enumerate(inputs)]
    if len(raw.data):
        raise MalformedRequestError(f"{len(raw.data)} bytes of binary data belong to no input (binary_data_size)")
    return InferRequest(request_id, build_tensor_batch(features, tensors), outputs)


def render_infer(
    signature: Signature, name: str, answer: Answer, outputs: tuple[WantedOutput, ...], request_id: str
) -> Reply:
    """The infer answer with the wanted outputs."""
    tensors: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for wanted in outputs:
        output = build_output(signature, wanted.name, answer)
        tensor: dict[str, Any] = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        if wanted.is_binary:
            raw.append(write_raw(output.datatype, output.values))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = output.values
        tensors.append(tensor)
    plain = {"model_name": name, "model_version": str(signature.number), "id": request_id, "outputs": tensors}
    text = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return Reply(text, JSON)
    return Reply(b"".join((text, *raw)), BINARY, ((JSON_LENGTH_HEADER, b"%d" % len(text)),))


def _split(body: bytes, json_length: int | None) -> tuple[bytes, _RawData]:
    if json_length is None:
        return body, _RawData(memoryview(b""), False)
    if not 0 <= json_length <= len(body):
        raise MalformedRequestError(
            f"the header Inference-Header-Content-Length says {json_length} bytes of JSON; the body has {len(body)}"
        )
    return body[:json_length], _RawData(memoryview(body)[json_length:], True)


def _wanted_outputs(signature: Signature, plain: Mapping[str, Any]) -> tuple[WantedOutput, ...]:
    found = plain.get("outputs")
    is_binary = _flag(_parameters(plain, "the request"), "binary_data_output", False)
    if found is None or found == []:
        return tuple(WantedOutput(output.name, is_binary) for output in signature.outputs)
    wanted: dict[str, WantedOutput] = {}
    for item in found if isinstance(found, list) else [None]:
        if not isinstance(item, dict) or not isinstance(name := item.get("name"), str):
            raise MalformedRequestError("the field 'outputs' must be a list of objects with a 'name'")
        parameters = _parameters(item, f"the output {show(name)}")
        if parameters.get("classification"):
            raise MalformedRequestError(
                f"the output {show(name)} can't be asked as a classification; ask for it without that parameter"
            )
        _refuse_shared_memory(parameters, f"the output {show(name)}")
        output = WantedOutput(wanted_output(signature, name), _flag(parameters, "binary_data", is_binary))
        wanted.setdefault(name, output)
    return tuple(wanted.values())


def _parse_tensor(item: Any, index: int, raw: _RawData, limits: LimitsConfig, has_booleans: bool) -> Tensor:
    if not isinstance(item, dict) or not isinstance(name := item.get("name"), str):
        raise MalformedRequestError(f"inputs[{index}] must be an object with 'name', 'shape', 'datatype' and 'data'")
    datatype: Any = item.get("datatype")
    data, sizes = item.get("data"), item.get("shape")
    shape = check_tensor(name, datatype, sizes if isinstance(sizes, list) else None, limits.max_rows)
    parameters = _parameters(item, f"the input {show(name)}") if "parameters" in item else _NONE
    if parameters:
        _refuse_shared_memory(parameters, f"the input {show(name)}")
        if (size := parameters.get("binary_data_size")) is not None:
            if data is not None:
                raise MalformedRequestError(f"the input {show(name)} must have 'data' or binary data, not both")
            values = read_raw(name, datatype, shape, raw.take(name, size), limits.max_text_bytes)
            return Tensor(name, shape, datatype, values)
    if not isinstance(data, list):
        raise MalformedRequestError(f"the input {show(name)} must have its values as the list 'data'")
    flat = _flatten(name, shape, data)
    check_count(name, shape, len(flat))
    values = read_values(name, datatype, flat, has_booleans=has_booleans)
    return Tensor(name, shape, datatype, values, is_finite=True)


def _flatten(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """Nested data of a two-dimensional tensor as flat; flat data as it is."""
    if not data or type(data[0]) is not list:
        return data
    if len(shape) != 2 or set(map(type, data)) != {list} or len(data) != shape[0] or set(map(len, data)) != {shape[1]}:
        raise MalformedRequestError(f"the nested data of the input {show(name)} don't have the shape {list(shape)}")
    return list(chain.from_iterable(data))


def _parameters(item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = item.get("parameters")
    if found is None:
        return _NONE
    if type(found) is not dict:
        raise MalformedRequestError(f"the field 'parameters' of {where} must be an object")
    return found


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    found = parameters.get(name)
    if found is None:
        return default
    if type(found) is not bool:
        raise MalformedRequestError(f"the parameter {show(name)} must be true or false")
    return found


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise MalformedRequestError(f"{where} asks for shared memory, which isn't spoken here; send the data")
