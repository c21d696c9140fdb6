"""Which classes a classifier confuses, and how good it is at each of them."""

from typing import Any

import numpy as np

from modelkit.evaluate.answers import Answers, encode
from modelkit.evaluate.bootstrap import class_intervals
from modelkit.evaluate.metrics import weighted_class_scores

MOST_CLASSES = 100
"""Of more classes nobody reads a matrix, and it would be the largest thing in the file."""


def describe_classes(answers: Answers, confidence: float, seed: int) -> dict[str, Any] | None:
    """The confusion matrix and each class's scores as plain JSON; None for regression and over 100 classes.

    `classes`: the model's, then those that only the truth has; `matrix`: rows by true class (outer) and predicted
    class (inner); `scores`: per class its rows, precision, recall and f1, each with its bootstrap interval.
    """
    if answers.classes is None or len(answers.truth) == 0:
        return None
    unknown = sorted(set(answers.truth.tolist()) - set(answers.classes), key=str)
    classes = [*answers.classes, *unknown]
    if len(classes) > MOST_CLASSES:
        return None
    truth, predicted = encode(answers.truth, classes), encode(answers.predictions, classes)
    matrix = np.bincount(truth * len(classes) + predicted, minlength=len(classes) ** 2)
    matrix = matrix.reshape(len(classes), len(classes))
    scores = weighted_class_scores(answers, np.ones((1, len(truth))))
    bounds = class_intervals(answers, confidence, seed)
    return {
        "classes": classes,
        "matrix": matrix.tolist(),
        "scores": [
            {
                "class": label,
                "rows": int(matrix[index].sum()),
                **{name: float(values[0, index]) for name, values in scores.items()},
                "intervals": {name: list(bounds[name][index]) for name in scores},
            }
            for index, label in enumerate(classes)
        ],
    }
