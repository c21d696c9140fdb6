"""signature.json: what a version takes and gives, read by server, monitor and the next training run.

The boundary's rule for missing values holds in every reader: a missing number is NaN, a missing text is the empty
string. Whole numbers and booleans enter the model as floating point, a moment as seconds since 1970 UTC. A category
that is a whole number or a boolean outside (its dtype) is text to the model: `3` or `true`.
"""

import json
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from modelkit.artifact.version import ArtifactError
from modelkit.contract.codec import ContractError, from_plain

DTYPES = frozenset({"float64", "int64", "bool", "string", "datetime"})
KINDS = frozenset({"numeric", "categorical", "text"})
MISSING_TEXT = ""
"""What a missing value of a categorical or text input is to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputColumn:
    """One feature."""

    name: str
    dtype: str
    """What a client sends: float64, int64, bool, string or datetime (ISO 8601 text, or seconds since 1970 UTC)."""
    kind: str
    """What the model sees: numeric (float64), categorical (text that names a category) or text (words)."""
    nullable: bool
    """May the value be missing? False: the training data had none missing and the model doesn't expect any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputColumn:
    """One answer per row: `prediction`, and `probabilities` of classifiers that have them."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None
    """[-1, number of classes] for probabilities, in the order of `Signature.classes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLayout:
    """How model.onnx is called."""

    layout: str
    """Matrix: one input `X` of [n, features] in the order of the inputs. Columns: one input of [n, 1] per column,
    named `c0`, `c1`, … in that order; numbers in `dtype`, categorical columns as strings."""
    dtype: str
    """float64 or float32."""
    label_output: str
    """[n] labels, or [n, 1] numbers for regression."""
    probability_output: str | None = None
    """[n, classes], in `dtype` or float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Inputs and outputs of one version."""

    model: str
    number: int
    task: str
    target: str
    metric: str
    """The primary metric."""
    classes: tuple[Any, ...] | None = None
    """Sorted; None for regression."""
    inputs: tuple[InputColumn, ...]
    outputs: tuple[OutputColumn, ...]
    onnx: OnnxLayout | None = None
    """None: the version is served from model.skops."""


def dump_signature(signature: Signature) -> bytes:
    """signature.json; `classes` and `onnx` are written as null when there are none, so readers find the keys."""
    plain = asdict(signature)
    for output in plain["outputs"]:
        if output["shape"] is None:
            del output["shape"]
    return json.dumps(plain, indent=1, allow_nan=False).encode()


def load_signature(data: bytes) -> Signature:
    """Parse signature.json; raises ArtifactError saying which key doesn't fit."""
    try:
        signature: Signature = from_plain(Signature, json.loads(data))
        if problem := _problem(signature):
            raise ValueError(problem)
    except (ContractError, ValueError, RecursionError) as exc:
        raise ArtifactError(f"signature.json doesn't fit: {exc}") from exc
    return signature


def _problem(signature: Signature) -> str | None:
    """What no reader could work with, in words; None when there is nothing."""
    names = [column.name for column in signature.inputs]
    if not names or len(set(names)) != len(names):
        return "there must be at least one input, and no name of one twice"
    for column in signature.inputs:
        if column.dtype not in DTYPES or column.kind not in KINDS:
            return f"the input {column.name[:64]!r} has an unknown dtype or kind"
    if signature.classes is not None and not _are_classes(signature.classes):
        return "classes must be different texts, booleans or finite numbers"
    onnx = signature.onnx
    if onnx is not None and (onnx.layout not in ("Matrix", "Columns") or onnx.dtype not in ("float64", "float32")):
        return "onnx has an unknown layout or dtype"
    return None


def _are_classes(classes: tuple[Any, ...]) -> bool:
    # Types first: a list has no hash.
    if not classes or not {type(label) for label in classes} <= {str, bool, int, float}:
        return False
    return len(set(classes)) == len(classes) and all(isfinite(label) for label in classes if isinstance(label, float))
