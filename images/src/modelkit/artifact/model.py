"""A stored version as something that answers rows, for the trainer: the champion, and the files just written.

The server has its own, built for single requests; both follow the signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.native import load_native
from modelkit.artifact.onnx_audit import check_onnx
from modelkit.artifact.signature import InputColumn, OnnxLayout, Signature, load_signature
from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_ONNX, MODEL_SKOPS, SIGNATURE

Array = NDArray[Any]

_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True, eq=False)
class StoredModel:
    """A version that was fetched and verified."""

    signature: Signature
    _native: Any
    _session: Any

    @classmethod
    def open(cls, directory: Path) -> "StoredModel":
        """Load what a server would load: model.onnx when the signature has a layout for it, else model.skops.

        Raises ArtifactError for files that don't fit or don't load.
        """
        signature = load_signature((directory / SIGNATURE).read_bytes())
        if signature.onnx is None and not (directory / MODEL_SKOPS).exists():
            raise ArtifactError(
                f"version {signature.number} is of a custom training without {MODEL_ONNX}, which is all that runs here "
                "of other frameworks"
            )
        if signature.onnx is None:
            return cls(signature, load_native(directory), None)
        return cls(signature, None, open_onnx((directory / MODEL_ONNX).read_bytes()))

    def answer(self, rows: Array) -> tuple[Array, Array | None]:
        """Predictions [n] and, where the version has them, probabilities [n, classes].

        `rows`: [n, inputs], float64 when every input is numeric, else objects (see `artifact.native`).
        """
        if self.signature.onnx is not None:
            return onnx_answers(self._session, self.signature.onnx, self.signature.inputs, rows)
        probable = any(output.name == "probabilities" for output in self.signature.outputs)
        probabilities = self._native.predict_proba(rows) if probable else None
        return np.asarray(self._native.predict(rows)), probabilities


def open_onnx(model: bytes) -> Any:
    """An ONNX Runtime session; raises ArtifactError when the bytes aren't a model that it runs."""
    import onnxruntime

    check_onnx(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's exceptions have no common base of their own
        raise ArtifactError(f"{MODEL_ONNX} doesn't load in ONNX Runtime ({type(exc).__name__})") from exc


def onnx_feeds(layout: OnnxLayout, inputs: Sequence[InputColumn], rows: Array) -> dict[str, Array]:
    """`rows` [n, inputs] as the named inputs that `layout` describes."""
    if layout.layout == "Matrix":
        return {"X": rows.astype(layout.dtype)}
    return {
        f"c{index}": rows[:, [index]].astype(layout.dtype if column.kind == "numeric" else object)
        for index, column in enumerate(inputs)
    }


def onnx_answers(
    session: Any, layout: OnnxLayout, inputs: Sequence[InputColumn], rows: Array
) -> tuple[Array, Array | None]:
    """Run `rows` [n, inputs] through a session as `layout` says; predictions [n] and probabilities [n, classes].

    Raises ArtifactError when the model doesn't take the rows.
    """
    # An ONNX model may have dropped inputs that it doesn't use, such as a column that no tree splits on.
    used = {entry.name for entry in session.get_inputs()}
    feeds = {name: values for name, values in onnx_feeds(layout, inputs, rows).items() if name in used}
    names = [layout.label_output]
    if layout.probability_output is not None:
        names.append(layout.probability_output)
    try:
        outputs = session.run(names, feeds)
    except Exception as exc:
        raise ArtifactError(f"{MODEL_ONNX} doesn't answer ({type(exc).__name__})") from exc
    return outputs[0].reshape(-1), outputs[1] if len(outputs) > 1 else None
