"""What the runtime computed, as the answer that the version's signature promises. Pure.

Runtimes name and shape their outputs as their frameworks do. The rules, in this order:

1. An output by one of the usual names holds the labels (or numbers), or the probabilities; the names in the version's
   model.onnx go before the usual ones.
2. Without such names, the first output counts.
3. One value per row is a label or number. As many values per row as there are classes are scores: probabilities when
   they add up to 1, and the label is the class with the largest. One number per row of a model with two classes whose
   signature promises probabilities is the probability of the second class, as of a sigmoid.

What is no class of the version, or no finite number, is an error, and never reaches a client as an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.artifact.signature import Signature
from modelkit.serve.batch import show
from modelkit.serve.errors import RuntimeAnswerError, UnprocessableRequestError
from modelkit.serve.model import Answer

LABELS = ("prediction", "predictions", "predict", "label", "labels", "output_label", "variable", "class", "classes")
PROBABILITIES = ("probabilities", "probability", "predict_proba", "output_probability", "scores")
_SUM_TOLERANCE = 1e-3
"""Of a row's probabilities, in float32 or rounded."""
_NUMBERS = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the runtime."""

    name: str
    shape: tuple[int, ...]
    """[rows, …]."""
    values: list[Any]
    """Flat, row-major; numbers, booleans or text."""

    @property
    def width(self) -> int:
        """Values per row."""
        return prod(self.shape[1:])


def read_answer(signature: Signature, outputs: Sequence[Output], rows: int) -> Answer:
    """The answer to `rows` rows; raises RuntimeAnswerError for what doesn't fit the signature.

    UnprocessableRequestError for a row that a regression has no finite answer to.
    """
    if not outputs:
        raise RuntimeAnswerError("the runtime's answer has no outputs")
    for output in outputs:
        if not output.shape or output.shape[0] != rows:
            raise RuntimeAnswerError(
                f"the runtime's output {show(output.name)} has the shape {list(output.shape)[:4]}; "
                f"asked were {rows} rows"
            )
    if signature.classes is None:
        return Answer(_numbers(_labels(signature, outputs) or outputs[0]), None)
    return _classified(signature, signature.classes, outputs)


def _classified(signature: Signature, classes: tuple[Any, ...], outputs: Sequence[Output]) -> Answer:
    is_promised = any(output.name == "probabilities" for output in signature.outputs)
    labels, scores = _labels(signature, outputs), _scores(signature, outputs)
    if labels is not None and (is_promised and scores is None and _is_binary(classes, labels)):
        labels, scores = None, labels
    if labels is None and scores is None:
        first = outputs[0]
        if first.width == len(classes) or (is_promised and _is_binary(classes, first)):
            scores = first
        else:
            labels = first
    matrix = None if scores is None else _matrix(classes, scores)
    probabilities = None if matrix is None or not is_promised else _probabilities(matrix)
    if is_promised and probabilities is None:
        raise RuntimeAnswerError(
            "the version promises probabilities, and the runtime gives none: it must answer with the probabilities of "
            f"the {len(classes)} classes, in the order of the signature's classes"
        )
    if labels is not None:
        return Answer(_known(classes, labels), probabilities)
    assert matrix is not None, "there are labels or scores"
    return Answer([classes[index] for index in matrix.argmax(axis=1).tolist()], probabilities)


def _labels(signature: Signature, outputs: Sequence[Output]) -> Output | None:
    own = () if signature.onnx is None else (signature.onnx.label_output,)
    return next(
        (output for name in (*own, *LABELS) for output in outputs if output.name == name and output.width == 1), None
    )


def _scores(signature: Signature, outputs: Sequence[Output]) -> Output | None:
    width = len(signature.classes or ())
    wide = [output for output in outputs if output.width == width and len(output.shape) > 1]
    own = (
        ()
        if signature.onnx is None or signature.onnx.probability_output is None
        else (signature.onnx.probability_output,)
    )
    named = (output for name in (*own, *PROBABILITIES) for output in wide if output.name == name)
    return next(named, wide[0] if len(wide) == 1 else None)


def _is_binary(classes: tuple[Any, ...], output: Output) -> bool:
    """Is it the probability of the second of two classes?"""
    kinds = set(map(type, output.values))
    return len(classes) == 2 and output.width == 1 and float in kinds and kinds <= _NUMBERS


def _matrix(classes: tuple[Any, ...], output: Output) -> NDArray[np.float64]:
    """Scores [rows, classes]; larger is likelier."""
    if not set(map(type, output.values)) <= _NUMBERS or output.width not in (1, len(classes)):
        raise RuntimeAnswerError(
            f"the runtime's output {show(output.name)} must hold one number for each of the {len(classes)} classes"
        )
    values = np.array(output.values, dtype=np.float64).reshape(output.shape[0], -1)
    if not np.isfinite(values).all():
        raise UnprocessableRequestError(f"the model has no finite answer to row {_first_bad(np.isfinite(values))}")
    return values if output.width > 1 else np.hstack([1 - values, values])


def _probabilities(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The scores if they are probabilities."""
    if matrix.min() < -_SUM_TOLERANCE or np.abs(matrix.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        return None
    return np.clip(matrix, 0, 1)


def _known(classes: tuple[Any, ...], output: Output) -> list[Any]:
    """The labels, in the type that the version's classes have: 1, 1.0 and true are the same to Python as to us."""
    if output.width != 1:
        raise RuntimeAnswerError(
            f"the runtime's output {show(output.name)} has {output.width} values for each row; expected a label or "
            f"the scores of {len(classes)} classes"
        )
    by_value = {label: label for label in classes}
    labels = [by_value.get(value) for value in output.values]
    if None in labels:
        kinds = " or ".join(sorted({type(label).__name__ for label in classes}))
        raise RuntimeAnswerError(
            f"the runtime's output {show(output.name)} holds, for row {labels.index(None)}, what is none of the "
            f"version's {len(classes)} classes ({kinds})"
        )
    return labels


def _numbers(output: Output) -> list[float]:
    if output.width != 1 or not set(map(type, output.values)) <= _NUMBERS:
        raise RuntimeAnswerError(f"the runtime's output {show(output.name)} must hold one number for each row")
    for row, value in enumerate(output.values):
        if not isfinite(value):
            raise UnprocessableRequestError(f"the model has no finite answer to row {row}")
    return [float(value) for value in output.values]


def _first_bad(good: NDArray[np.bool_]) -> int:
    return int(np.argmin(good.all(axis=1)))
