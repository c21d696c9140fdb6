"""How large a model is and how fast it answers: what compression is for."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modelkit.artifact.model import onnx_answers
from modelkit.artifact.native import dump_native
from modelkit.artifact.signature import InputColumn
from modelkit.data.columns import as_array
from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION, Answers, Array
from modelkit.train.export import Export
from modelkit.train.parts import Labelled

_WARM_UP = 10
_CALLS = 300
_SECONDS = 1.0
"""The measurement ends at this time if it can't make all calls."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What serving a model costs."""

    size: int
    """Bytes of model.onnx, or of model.skops where there is none."""
    seconds: float
    """Median time of one row's answer."""


def measure_footprint(pipeline: Any, export: Export, columns: Sequence[InputColumn], part: Labelled) -> Footprint:
    """Of a fitted pipeline as it would be served: by ONNX Runtime when `export` has a model, else by scikit-learn."""
    row = as_array(part.rows)[:1]
    if export.model is None or export.layout is None:
        answer = pipeline.predict_proba if hasattr(pipeline, "predict_proba") else pipeline.predict
        return Footprint(len(dump_native(pipeline)), _median_seconds(lambda: answer(row)))
    session, layout = export.session, export.layout
    return Footprint(len(export.model), _median_seconds(lambda: onnx_answers(session, layout, columns, row)))


def answer_by_export(
    export: Export, columns: Sequence[InputColumn], part: Labelled, classes: tuple[Any, ...] | None
) -> Answers:
    """The answers of the exported model, which must be there, to rows whose truth is known.

    Raises ArtifactError when it doesn't answer.
    """
    assert export.layout is not None
    predictions, probabilities = onnx_answers(export.session, export.layout, columns, as_array(part.rows))
    task = REGRESSION if classes is None else CLASSIFICATION
    return Answers(task, part.target, predictions, probabilities, classes, part.weights)


def _median_seconds(call: Callable[[], tuple[Array, Array | None] | Array]) -> float:
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _CALLS and (not times or time.perf_counter() < end):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
