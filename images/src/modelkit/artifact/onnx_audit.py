"""Refuse ONNX models whose weights lie in other files, before ONNX Runtime sees them.

A tensor of an ONNX model may name a file (`external_data`) instead of holding its numbers. ONNX Runtime reads such a
file relative to the process's folder when a model is given to it as bytes: a hostile model could put any file of the
pod into its answers. A version's model holds everything itself.

The model is looked at in protobuf's wire format (https://protobuf.dev/programming-guides/encoding/, message and field
numbers from onnx.proto), because neither the server's image has the `onnx` package nor should anything be built from
it before the look.
"""

from types import MappingProxyType

from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_ONNX

_LOCATION = b"location"
"""The key of a file's name, without which a tensor can't be in one."""
_TENSOR = "TensorProto"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_PARTS = MappingProxyType(
    {
        "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
        "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
        "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
        "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
        "NodeProto": {5: "AttributeProto"},
        "AttributeProto": {
            5: _TENSOR,
            6: "GraphProto",
            10: _TENSOR,
            11: "GraphProto",
            22: "SparseTensorProto",
            23: "SparseTensorProto",
        },
        "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    }
)
"""Of each message that can hold a tensor, the fields through which it does."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def check_onnx(model: bytes) -> None:
    """Raise ArtifactError when a tensor of `model` is said to lie in another file, or the bytes aren't protobuf."""
    if _LOCATION not in model:
        return  # Nearly every model: the look at each field takes a second for a large forest.
    waiting = [("ModelProto", 0, len(model))]
    try:
        while waiting:
            kind, start, end = waiting.pop()
            _look(model, kind, start, end, waiting)
    except IndexError as exc:
        raise ArtifactError(f"{MODEL_ONNX} doesn't load: it ends in the middle of a field") from exc


def _look(model: bytes, kind: str, at: int, end: int, waiting: list[tuple[str, int, int]]) -> None:
    """Go through the fields of one message; what may hold tensors is put to `waiting`."""
    parts = _PARTS.get(kind, {})
    while at < end:
        tag, at = _varint(model, at)
        field, wire = tag >> 3, tag & 7
        if kind == _TENSOR and field in (_EXTERNAL_DATA, _DATA_LOCATION):
            _check_tensor(model, field, at)
        if wire == _VARINT:
            _, at = _varint(model, at)
        elif wire == _BYTES:
            size, at = _varint(model, at)
            if field in parts:
                waiting.append((parts[field], at, at + size))
            at += size
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ArtifactError(f"{MODEL_ONNX} doesn't load: it holds a field of a kind that ONNX doesn't have")
    if at > end:
        raise IndexError(at)


def _check_tensor(model: bytes, field: int, at: int) -> None:
    # A location of 0 says that the numbers are here.
    if field == _EXTERNAL_DATA or _varint(model, at)[0] != 0:
        raise ArtifactError(
            f"{MODEL_ONNX} isn't loaded: it keeps weights in another file, which isn't part of the version; save the "
            "model with its weights in one file"
        )


def _varint(model: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the place behind it; raises IndexError for one that doesn't end."""
    value = shift = 0
    while shift < 70:
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError(at)
