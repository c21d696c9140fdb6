"""Distillation: a small student learns what a fitted teacher answers (Hinton, Vinyals and Dean, Distilling the
Knowledge in a Neural Network, 2015).

A classifier that takes sample weights learns the teacher's probabilities: each row once per class that the teacher
thinks possible, weighted by its probability, which is the cross-entropy to the teacher's answer at temperature 1.
Other classifiers learn the teacher's labels, regressors its values.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.columns import Rows
from modelkit.errors import RefusedError
from modelkit.train.parts import Labelled
from modelkit.train.search import Trial, Weights, fit, takes_weights

_POSSIBLE = 0.01
"""Probability below which a class of a row isn't learnt: rows times classes would be many."""

_FIT_ERRORS = (ValueError, TypeError, ArithmeticError, IndexError, RuntimeError, AttributeError)


def distil(student: Trial, teacher: Any, part: Labelled, classes: tuple[Any, ...] | None, jobs: int) -> Any:
    """The student's pipeline, fitted to what the fitted pipeline `teacher` says to the rows of `part`.

    Raises RefusedError when the student can't be fitted to it.
    """
    labels = np.asarray(teacher.predict(part.rows))
    if classes is None or not hasattr(teacher, "predict_proba") or not takes_weights(student):
        return fit(student, part.rows, labels.astype(part.target.dtype), jobs=jobs, weights=part.weights)
    return _fit_softly(student, part.rows, labels, teacher.predict_proba(part.rows), part.weights, classes)


def _fit_softly(
    student: Trial,
    rows: Rows,
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
    weights: Weights,
    classes: tuple[Any, ...],
) -> Any:
    from sklearn.base import clone

    pipeline = clone(student.pipeline)
    before, model = pipeline[:-1], pipeline.named_steps["model"]
    positions, codes = np.nonzero(probabilities >= _POSSIBLE)
    soft = probabilities[positions, codes] * (1.0 if weights is None else weights[positions])
    target = np.asarray(classes, dtype=labels.dtype)[codes]
    try:
        # What is learnt before the estimator is learnt from each row once.
        features = before.fit_transform(rows, labels) if len(before.steps) else rows
        model.fit(_select(features, positions), target, sample_weight=soft)
    except _FIT_ERRORS as exc:
        raise RefusedError(
            "FitFailed", f"{student.candidate} can't be fitted to the teacher's answers ({type(exc).__name__})"
        ) from exc
    return pipeline


def _select(features: Any, positions: NDArray[np.intp]) -> Any:
    return features.iloc[positions] if hasattr(features, "iloc") else features[positions]
