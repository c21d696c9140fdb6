"""The version as something that answers: ONNX Runtime where there is an ONNX file, the native model otherwise.

Loading is the only I/O. `predict` is thread-safe and knows nothing of protocols.
"""

import warnings
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from modelkit.artifact.onnx_audit import check_onnx
from modelkit.artifact.signature import OnnxLayout, Signature
from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_ONNX
from modelkit.serve.batch import Batch, show
from modelkit.serve.errors import ModelUnusableError, UnprocessableRequestError
from modelkit.serve.record import record

_QUIET = 3
"""ONNX Runtime's log level for errors: its warnings about models say nothing that a user could act on."""


@record
class Answer:
    """What the model says to a batch."""

    predictions: list[Any]
    """[rows] class labels in their original type, or numbers."""
    probabilities: NDArray[np.floating[Any]] | None
    """[rows, classes] in the order of the signature's classes; None when the model has none."""


class Model(Protocol):
    """One loaded version."""

    platform: str
    """The protocol's name of what runs it."""

    def predict(self, batch: Batch) -> Answer:
        """Answer every row; raises UnprocessableRequestError when an answer isn't a finite number."""


def load_model(directory: Path, signature: Signature, threads: int) -> Model:
    """The model in a verified version's directory; raises ModelUnusableError when it doesn't load."""
    if signature.onnx is not None:
        return OnnxModel(directory / MODEL_ONNX, signature, signature.onnx, threads)
    return NativeModel(directory, signature)


class OnnxModel:
    """model.onnx in ONNX Runtime."""

    platform = "onnxruntime_onnx"

    def __init__(self, path: Path, signature: Signature, layout: OnnxLayout, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        # Waiting threads that spin would take the processor from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            content = path.read_bytes()
            check_onnx(content)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except ArtifactError as exc:
            raise ModelUnusableError("ModelNotLoadable", str(exc)) from exc
        except Exception as exc:  # ONNX Runtime's own classes share no other base.
            raise ModelUnusableError(
                "ModelNotLoadable", f"{MODEL_ONNX} doesn't load ({type(exc).__name__}); train again"
            ) from exc
        self._names = [column.name for column in signature.inputs]
        self._dtype = np.dtype(layout.dtype)
        self._matrix = layout.layout == "Matrix"
        # An ONNX model drops the inputs that it doesn't use, such as a column that no tree splits on.
        used = {entry.name for entry in self._session.get_inputs()}
        self._columns = [(index, f"c{index}") for index in range(len(self._names)) if f"c{index}" in used]
        self._outputs = [layout.label_output]
        if layout.probability_output is not None:
            self._outputs.append(layout.probability_output)
        self._is_regression = signature.classes is None
        self._labels = _label_names(signature)

    def predict(self, batch: Batch) -> Answer:
        """See Model."""
        outputs = self._session.run(self._outputs, self._feeds(batch))
        labels = outputs[0].ravel()
        if self._is_regression:
            _check_finite(labels)
        predictions = labels.tolist()
        if self._labels is not None:
            predictions = [self._labels[label] for label in predictions]
        return Answer(predictions, _checked(outputs[1]) if len(outputs) > 1 else None)

    def _feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        if self._matrix:
            assert batch.matrix is not None, "a Matrix layout has no text columns"
            return {"X": self._narrowed(batch.matrix, self._names)}
        feeds = {}
        for index, name in self._columns:
            values = batch.column(index).reshape(-1, 1)
            feeds[name] = values if values.dtype == object else self._narrowed(values, [self._names[index]])
        return feeds

    def _narrowed(self, values: NDArray[Any], names: list[str]) -> NDArray[Any]:
        """Numbers in the dtype that the model takes; a number beyond float32 would silently become infinite."""
        if self._dtype == np.float64:
            return values
        with np.errstate(over="ignore"):
            narrowed = values.astype(self._dtype)
        infinite = np.isinf(narrowed)
        if infinite.any():
            name = names[int(np.argmax(infinite.any(axis=0)))]
            raise UnprocessableRequestError(f"the column {show(name)} holds a number beyond the model's float32")
        return narrowed


class NativeModel:
    """model.skops through scikit-learn; imported here only, so that the ONNX path never pays for it."""

    platform = "sklearn_skops"

    def __init__(self, directory: Path, signature: Signature) -> None:
        from modelkit.artifact.native import load_native

        try:
            self._pipeline = load_native(directory)
        except ArtifactError as exc:
            raise ModelUnusableError("ModelNotLoadable", str(exc)) from exc
        self._is_regression = signature.classes is None
        self._has_probabilities = any(output.name == "probabilities" for output in signature.outputs)

    def predict(self, batch: Batch) -> Answer:
        """See Model."""
        # As the pipeline was fitted: a float matrix, or an object matrix of floats and texts.
        rows = batch.matrix
        if rows is None:
            rows = np.stack([column.astype(object) for column in batch.columns], axis=1)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # What overflows is found in the answer; a warning could show values.
            warnings.simplefilter("ignore")
            labels = np.asarray(self._pipeline.predict(rows)).ravel()
            # Row after row in memory: gradient boosting gives columns, which nobody can write as JSON.
            probabilities = (
                np.ascontiguousarray(self._pipeline.predict_proba(rows)) if self._has_probabilities else None
            )
        if self._is_regression:
            _check_finite(labels)
        return Answer(labels.tolist(), None if probabilities is None else _checked(probabilities))


def _label_names(signature: Signature) -> dict[Any, Any] | None:
    """For classes that ONNX has no type for (true is 1 there): its label to ours. None where they are the same."""
    if signature.classes is None or {type(label) for label in signature.classes} <= {int, str}:
        return None
    return {label: label for label in signature.classes}


def _checked(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Finite probabilities, none above 1: sums in float32 may be 1.0000001."""
    # The largest is NaN if any is, so one look finds both kinds of trouble.
    if not probabilities.max() <= 1:
        _check_finite(probabilities)
        np.minimum(probabilities, 1, out=probabilities)
    return probabilities


def _check_finite(values: NDArray[Any]) -> None:
    # A finite sum has finite terms, and is quicker to have than a look at each.
    if isfinite(values.sum()):
        return
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        raise UnprocessableRequestError(f"the model has no finite answer to row {row}")
