"""The fitted pipeline as ONNX, kept only when it answers the test rows as the pipeline itself does.

Parity rule: labels equal on every row, probabilities within 1e-5, regression values within 1e-4 of the larger of their
size and 1e-4 of the answers' spread. Where a pipeline's two best probabilities are within 1e-5 of each other, either
label is right.

Two things make parity possible where a plain conversion to float32 fails. Preprocessing runs in float64, as in
scikit-learn. Trees get its result rounded to float32, because scikit-learn rounds there as well.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.model import onnx_answers, open_onnx
from modelkit.artifact.signature import InputColumn, OnnxLayout
from modelkit.artifact.version import ArtifactError
from modelkit.data.columns import Rows, as_array
from modelkit.evaluate.answers import Answers
from modelkit.train.canonical import rename

logger = logging.getLogger(__name__)

PROBABILITY_TOLERANCE = 1e-5
VALUE_TOLERANCE = 1e-4

_MOST_NEIGHBOURS = 5_000
"""Training rows of a KNN imputation that a model.onnx may hold: they are converted and searched one by one."""
_TREES = ("Tree", "Forest", "Boost", "Bagging")
_CONVERSION_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    NotImplementedError,
    KeyError,
    AttributeError,
    IndexError,
    NameError,  # skl2onnx: an option that a converter doesn't have
    ArtifactError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """model.onnx, or why there is none."""

    model: bytes | None = None
    layout: OnnxLayout | None = None
    session: Any = None
    """The model, loaded in ONNX Runtime."""
    message: str | None = None
    """Without a model: what didn't fit."""


@dataclass(frozen=True, slots=True)
class _Variant:
    dtype: str
    """Of the numeric inputs."""
    narrow_model: bool
    """Round what the estimator gets to float32."""


def export_onnx(name: str, pipeline: Any, columns: Sequence[InputColumn], rows: Rows, native: Answers) -> Export:
    """Convert `pipeline`, whose answers to `rows` are `native`; the first variant with parity wins."""
    trees = any(part in name for part in _TREES)
    variants = [_Variant("float64", True), _Variant("float32", False)]
    if not trees:
        variants.insert(0, _Variant("float64", False))
    if unknown := _find_unknown(pipeline):
        return Export(message=f"no ONNX for {name}: {unknown}; served from model.skops instead")
    problems = []
    for variant in variants:
        try:
            model = _convert(pipeline, columns, variant)
            session = open_onnx(model)
            layout = _layout(session, columns, variant, native)
            problem = find_disagreement(session, layout, columns, rows, native)
        except _CONVERSION_ERRORS as exc:
            problem = f"the conversion failed with {type(exc).__name__}"
            logger.info("no ONNX", extra={"variant": str(variant), "error": type(exc).__name__})
        else:
            if problem is None:
                return Export(model, layout, session)
        problems.append(problem)
    return Export(message=f"no ONNX for {name}: {problems[0]}; served from model.skops instead")


def export_in_float32(pipeline: Any, columns: Sequence[InputColumn], native: Answers) -> Export:
    """The pipeline in 32-bit numbers all through, without a look at parity: what quantization starts from.

    `native` are any of its answers; they tell which outputs it has.
    """
    variant = _Variant("float32", False)
    try:
        model = _convert(pipeline, columns, variant)
        session = open_onnx(model)
        return Export(model, _layout(session, columns, variant, native), session)
    except _CONVERSION_ERRORS as exc:
        return Export(message=f"the conversion failed with {type(exc).__name__}")


def _convert(pipeline: Any, columns: Sequence[InputColumn], variant: _Variant) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    from modelkit.train.converters import find_converters

    number = DoubleTensorType if variant.dtype == "float64" else FloatTensorType
    if all(column.kind == "numeric" for column in columns):
        inputs = [("X", number([None, len(columns)]))]
    else:
        inputs = [
            (f"c{index}", (number if column.kind == "numeric" else StringTensorType)([None, 1]))
            for index, column in enumerate(columns)
        ]
    converters, shapes = find_converters()
    model = convert_sklearn(
        _narrowed(pipeline) if variant.narrow_model else pipeline,
        name="model",  # the default is random
        initial_types=inputs,
        options=_options(pipeline),
        custom_conversion_functions=converters,
        custom_shape_calculators=shapes,
    )
    rename(model)
    content: bytes = model.SerializeToString()
    return content


def _options(pipeline: Any) -> Any:
    if not hasattr(pipeline, "classes_"):
        return None
    model = type(pipeline.steps[-1][1])
    # The converter of LinearSVC has no option `zipmap`, and a pipeline hands it on to what has no entry of its own.
    return {model: {}} if model.__name__ == "LinearSVC" else {"zipmap": False}


def _find_unknown(pipeline: Any) -> str | None:
    """What of `pipeline` certainly has no ONNX form, or one that is too large to serve; None when nothing is known."""
    columns = pipeline.named_steps.get("columns")
    parts = [pipeline] if columns is None else [part for _, part, _ in columns.transformers_]
    steps = {type(step).__name__: step for part in parts for _, step in getattr(part, "steps", ())}
    if "HashingVectorizer" in steps:
        return "hashed text has no ONNX form (preprocessing.text TfIdf has)"
    neighbours = steps.get("KNNImputer")
    if neighbours is None:
        return None
    if "TimeFeatures" in steps:
        return "imputation KNN is converted in float32, in which times lose their minutes"
    rows = len(neighbours._fit_X)
    if rows > _MOST_NEIGHBOURS:
        return f"imputation KNN looks at {rows} training rows, more than the {_MOST_NEIGHBOURS} that are converted"
    return None


def _narrowed(pipeline: Any) -> Any:
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import Pipeline

    *before, model = pipeline.steps
    return Pipeline([*before, ("narrow", CastTransformer(dtype=np.float32)), model])


def _layout(session: Any, columns: Sequence[InputColumn], variant: _Variant, native: Answers) -> OnnxLayout:
    numeric = all(column.kind == "numeric" for column in columns)
    expected = ["X"] if numeric else [f"c{index}" for index in range(len(columns))]
    if [entry.name for entry in session.get_inputs()] != expected:
        raise ArtifactError("the converted model doesn't take every column")
    outputs = [entry.name for entry in session.get_outputs()]
    return OnnxLayout(
        layout="Matrix" if numeric else "Columns",
        dtype=variant.dtype,
        label_output=outputs[0],
        probability_output=None if native.probabilities is None else outputs[1],
    )


def find_disagreement(
    session: Any, layout: OnnxLayout, columns: Sequence[InputColumn], rows: Rows, native: Answers
) -> str | None:
    """How a session's answers to `rows` differ from `native` by the parity rule; None when they don't."""
    predictions, probabilities = onnx_answers(session, layout, columns, as_array(rows))
    if native.classes is None:
        return _distance(predictions.astype(np.float64), native.predictions.astype(np.float64))
    if native.probabilities is not None:
        assert probabilities is not None
        largest = float(np.max(np.abs(probabilities - native.probabilities)))
        if not largest <= PROBABILITY_TOLERANCE:
            return f"probabilities differ by up to {largest:.2g} on the test rows"
    differ = np.asarray(predictions.tolist(), dtype=object) != np.asarray(native.predictions.tolist(), object)
    wrong = int(np.sum(differ & ~_ties(native.probabilities, len(differ))))
    return f"labels differ in {wrong} of {len(differ)} test rows" if wrong else None


def _ties(probabilities: NDArray[Any] | None, rows: int) -> NDArray[np.bool_]:
    if probabilities is None:
        return np.zeros(rows, dtype=bool)
    best = np.sort(probabilities, axis=1)
    return np.asarray(best[:, -1] - best[:, -2] <= PROBABILITY_TOLERANCE)


def _distance(ours: NDArray[np.float64], native: NDArray[np.float64]) -> str | None:
    # Near 0 a relative distance means nothing: there the answers' own spread is the measure.
    scale = np.maximum(np.abs(native), VALUE_TOLERANCE * (float(np.std(native)) or 1.0))
    largest = float(np.max(np.abs(ours - native) / scale))
    return (
        None if largest <= VALUE_TOLERANCE else f"values differ by up to {largest:.2g} of their size on the test rows"
    )
