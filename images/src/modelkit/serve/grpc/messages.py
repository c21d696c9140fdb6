"""Inference between protobuf messages and the server's own types. Pure: no calls, no sockets.

Source: the Open Inference Protocol's specification/protocol/inference_grpc.md. Values come in the contents field of
their datatype, or raw (see v2_tensors); the answer comes as the question did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from modelkit import __version__
from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Batch, Features, show
from modelkit.serve.body import check_id
from modelkit.serve.errors import MalformedRequestError, UnknownPathError, UnprocessableRequestError
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.model import Answer
from modelkit.serve.v2_tensors import (
    DATATYPES,
    DTYPES,
    Tensor,
    build_output,
    build_tensor_batch,
    check_count,
    check_tensor,
    read_raw,
    wanted_output,
    write_raw,
)

_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents that holds a datatype's values; FP16 has none."""
_WIDE = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}
"""Fields that hold datatypes of fewer bits too."""

_ID, _RAW = (pb.ModelInferResponse.DESCRIPTOR.fields_by_name[name].number for name in ("id", "raw_output_contents"))


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed ModelInferRequest."""

    id: str | None
    batch: Batch
    outputs: tuple[str, ...]
    """In the asked order."""
    is_raw: bool
    """Did the values come raw? Then the answer's are raw too: clients look for them where they put theirs."""


def parse_infer(
    features: Features, signature: Signature, name: str, message: bytes, limits: LimitsConfig
) -> InferRequest:
    """A serialized ModelInferRequest; raises RequestError, UnknownPathError for another model or version.

    `name` is the model's. Parameters that mean nothing here, such as a priority, are ignored.
    """
    try:
        request = pb.ModelInferRequest.FromString(message)
    except DecodeError:
        # `from None`: nothing of the message may get into a traceback.
        raise MalformedRequestError("the message isn't a ModelInferRequest") from None
    check_model(signature, name, request.model_name, request.model_version)
    # An empty id is what clients send for none.
    request_id = check_id(request.id, "the field 'id'") if request.id else None
    if not request.inputs:
        raise MalformedRequestError("expected at least one input; found none")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise MalformedRequestError(
            f"raw_input_contents must have one element per input, so {len(request.inputs)}; found {len(raw)}"
        )
    tensors = [_parse_tensor(found, raw[index] if raw else None, limits) for index, found in enumerate(request.inputs)]
    outputs = _wanted_outputs(signature, request.outputs)
    return InferRequest(request_id, build_tensor_batch(features, tensors), outputs, bool(raw))


def render_infer(signature: Signature, name: str, answer: Answer, request: InferRequest, request_id: str) -> bytes:
    """The serialized ModelInferResponse with the wanted outputs."""
    outputs = [build_output(signature, wanted, answer) for wanted in request.outputs]
    if request.is_raw:
        shapes = tuple((output.name, output.datatype, output.shape) for output in outputs)
        # Serialized messages that follow each other are one message with the fields of all.
        parts = [_render_shapes(name, str(signature.number), shapes), _field(_ID, request_id.encode())]
        parts += [_field(_RAW, write_raw(output.datatype, output.values)) for output in outputs]
        return b"".join(parts)
    response = pb.ModelInferResponse(model_name=name, model_version=str(signature.number), id=request_id)
    for output in outputs:
        values = output.values.tolist() if isinstance(output.values, np.ndarray) else output.values
        if output.datatype == "BYTES":
            values = [str(value).encode() for value in values]
        tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        getattr(tensor.contents, _FIELDS[output.datatype]).extend(values)
    return response.SerializeToString()


@lru_cache(maxsize=256)
def _render_shapes(name: str, version: str, shapes: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """What raw answers of as many rows have in common."""
    response = pb.ModelInferResponse(model_name=name, model_version=version)
    for output, datatype, shape in shapes:
        response.outputs.add(name=output, datatype=datatype, shape=shape)
    return response.SerializeToString()


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes or text in protobuf's wire format: its tag, its length in groups of seven bits, itself."""
    head, size = bytearray((number << 3 | 2,)), len(content)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + content


def server_metadata() -> bytes:
    """The serialized ServerMetadataResponse."""
    return pb.ServerMetadataResponse(name="modelloop", version=__version__).SerializeToString()


def model_metadata(signature: Signature, name: str, platform: str) -> bytes:
    """The serialized ModelMetadataResponse: the columns as tensors [rows, 1]."""
    response = pb.ModelMetadataResponse(name=name, versions=[str(signature.number)], platform=platform)
    for column in signature.inputs:
        response.inputs.add(name=column.name, datatype=DATATYPES[column.dtype], shape=[-1, 1])
    for output in signature.outputs:
        response.outputs.add(name=output.name, datatype=DATATYPES[output.dtype], shape=output.shape or (-1,))
    return response.SerializeToString()


def check_model(signature: Signature, name: str, asked: str, version: str) -> None:
    """Raise UnknownPathError unless `asked` and `version` (empty: any) are what is served under `name`."""
    if asked != name or version not in ("", str(signature.number)):
        raise UnknownPathError(f"this server has the model {name!r} in version '{signature.number}' and nothing else")


def _parse_tensor(found: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, limits: LimitsConfig) -> Tensor:
    name, datatype = found.name, found.datatype
    shape = check_tensor(name, datatype, found.shape, limits.max_rows)
    if "shared_memory_region" in found.parameters:
        raise MalformedRequestError(
            f"the input {show(name)} asks for shared memory, which isn't spoken here; send the data"
        )
    if raw is None:
        return Tensor(name, shape, datatype, _read_contents(name, datatype, shape, found.contents, limits))
    if found.HasField("contents"):
        raise MalformedRequestError(f"the input {show(name)} must have contents or raw_input_contents, not both")
    return Tensor(name, shape, datatype, read_raw(name, datatype, shape, raw, limits.max_text_bytes))


def _read_contents(
    name: str, datatype: str, shape: tuple[int, ...], contents: pb.InferTensorContents, limits: LimitsConfig
) -> NDArray[Any]:
    """The values in the datatype's field, as `Tensor.values`."""
    field = _FIELDS.get(datatype)
    if field is None:
        raise MalformedRequestError(f"the input {show(name)} must come in raw_input_contents, as all of {datatype} do")
    values = getattr(contents, field)
    check_count(name, shape, len(values))
    if datatype == "BYTES":
        return _read_texts(name, values, limits.max_text_bytes)
    dtype = DTYPES[datatype]
    wide = np.fromiter(values, dtype=_WIDE.get(field, dtype), count=len(values))
    narrow = wide.astype(dtype, copy=False)
    if narrow is not wide and np.any(narrow != wide):
        raise MalformedRequestError(f"the input {show(name)} has values beyond {datatype}")
    return narrow


def _read_texts(name: str, values: Sequence[bytes], max_text_bytes: int) -> NDArray[Any]:
    if max(map(len, values), default=0) > max_text_bytes:
        raise UnprocessableRequestError(
            f"the input {show(name)} has a text of more than {max_text_bytes} bytes, which is the limit"
        )
    try:
        return np.array([value.decode() for value in values], dtype=object)
    except UnicodeDecodeError:
        raise MalformedRequestError(f"the input {show(name)} has a text that isn't UTF-8") from None


def _wanted_outputs(
    signature: Signature, found: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]
) -> tuple[str, ...]:
    if not found:
        return tuple(output.name for output in signature.outputs)
    for output in found:
        if "classification" in output.parameters:
            raise MalformedRequestError(
                f"the output {show(output.name)} can't be asked as a classification; ask for it without that parameter"
            )
        if "shared_memory_region" in output.parameters:
            raise MalformedRequestError(
                f"the output {show(output.name)} asks for shared memory, which isn't spoken here"
            )
    return tuple(dict.fromkeys(wanted_output(signature, output.name) for output in found))
