"""model.onnx of a custom image: kept when our server can call it and it answers as the image's predictions say."""

from collections.abc import Sequence
from typing import Any

from modelkit.artifact.model import onnx_answers, open_onnx
from modelkit.artifact.signature import InputColumn, OnnxLayout
from modelkit.artifact.version import ArtifactError
from modelkit.contract.exchange import MODEL_FOLDER
from modelkit.contract.files import MODEL_ONNX
from modelkit.data.columns import Rows, as_array
from modelkit.evaluate.answers import Answers
from modelkit.train.export import Export, find_disagreement

_NUMBERS = {"tensor(float)": "float32", "tensor(double)": "float64"}


def adopt_onnx(model: bytes | None, columns: Sequence[InputColumn], rows: Rows, answers: Answers) -> Export:
    """The image's model.onnx with how it is called; without a model, the message says why it isn't served.

    `answers` are the image's to `rows`. Inputs: one `X` [n, features] when every column is numeric, else one [n, 1] for
    each column, named c0, c1, …; numbers in float or double, all alike. Outputs, in this order: labels or values, then
    the probabilities [n, classes] when the predictions have some.
    """
    if model is None:
        return Export(message=f"the custom image wrote no {MODEL_ONNX}; its files are below {MODEL_FOLDER}")
    try:
        session = open_onnx(model)
        layout = _layout(session, columns, answers)
        _check_shapes(session, layout, columns, rows, answers)
        problem = find_disagreement(session, layout, columns, rows, answers)
    except ArtifactError as exc:
        problem = str(exc)
    if problem is not None:
        return Export(message=f"the custom image's {MODEL_ONNX} isn't used: {problem}")
    return Export(model, layout, session)


def _layout(session: Any, columns: Sequence[InputColumn], answers: Answers) -> OnnxLayout:
    numeric = all(column.kind == "numeric" for column in columns)
    expected = ["X"] if numeric else [f"c{index}" for index in range(len(columns))]
    kinds = {entry.name: entry.type for entry in session.get_inputs()}
    if list(kinds) != expected:
        found = ", ".join(list(kinds)[:5])
        raise ArtifactError(f"its inputs must be named {', '.join(expected[:5])}; found {found}")
    of_numbers = {
        kinds[name] for name, column in zip(expected, columns, strict=False) if numeric or column.kind == "numeric"
    }
    of_texts = {
        kinds[name] for name, column in zip(expected, columns, strict=False) if not numeric and column.kind != "numeric"
    }
    if not of_numbers <= set(_NUMBERS) or len(of_numbers) > 1 or not of_texts <= {"tensor(string)"}:
        raise ArtifactError("its inputs must be float or double, all alike, for numbers and string for text")
    outputs = session.get_outputs()
    wanted = 1 if answers.probabilities is None else 2
    if len(outputs) < wanted:
        raise ArtifactError(f"it has {len(outputs)} outputs; expected the predictions and then the probabilities")
    if answers.classes is not None:
        label = "tensor(int64)" if all(isinstance(entry, int) for entry in answers.classes) else "tensor(string)"
        if outputs[0].type != label:
            raise ArtifactError(f"its first output is {outputs[0].type}; expected the labels as {label}")
    return OnnxLayout(
        layout="Matrix" if numeric else "Columns",
        dtype=_NUMBERS[next(iter(of_numbers))] if of_numbers else "float32",
        label_output=outputs[0].name,
        probability_output=outputs[1].name if wanted == 2 else None,
    )


def _check_shapes(
    session: Any, layout: OnnxLayout, columns: Sequence[InputColumn], rows: Rows, answers: Answers
) -> None:
    predictions, probabilities = onnx_answers(session, layout, columns, as_array(rows))
    expected = None if answers.probabilities is None else answers.probabilities.shape
    found = getattr(probabilities, "shape", None)
    if predictions.shape != answers.predictions.shape or found != expected:
        raise ArtifactError(f"its answers have the shapes {predictions.shape} and {found}; expected one for each row")
