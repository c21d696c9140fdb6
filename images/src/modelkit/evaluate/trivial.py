"""The trivial predictor: what a model must beat to be worth serving."""

from typing import Any

import numpy as np

from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION, Answers, Array, encode


def answer_trivially(
    task: str,
    training_target: Array,
    truth: Array,
    classes: tuple[Any, ...] | None,
    training_weights: Array | None = None,
    weights: Array | None = None,
) -> Answers:
    """Answers to the rows of `truth` that know `training_target` only: its most frequent class, with the classes'
    shares as probabilities, or its mean (scikit-learn's DummyClassifier `prior` and DummyRegressor `mean`).

    `training_weights` and `weights` are those of the training rows and of the rows of `truth`; None: all count alike.
    """
    rows = len(truth)
    if task != CLASSIFICATION or classes is None:
        mean = np.average(training_target.astype(np.float64), weights=training_weights)
        return Answers(REGRESSION, truth, np.full(rows, mean), weights=weights)
    counts = np.bincount(encode(training_target, classes), training_weights, minlength=len(classes))
    labels = np.array(classes, dtype=training_target.dtype)
    return Answers(
        CLASSIFICATION,
        truth,
        np.repeat(labels[[int(np.argmax(counts))]], rows),
        np.tile(counts / counts.sum(), (rows, 1)),
        classes,
        weights,
    )
