"""What the card's pictures show, as few numbers: curves and bins over the evaluation rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.evaluate.answers import Answers, encode
from modelkit.evaluate.ranking import Order, calibration_bins, weigh

Floats = NDArray[np.float64]

_POINTS = 200
"""Of a curve; more are not seen."""
_MOST_CURVES = 6
_BANDS = 10
_FEWEST_IN_BAND = 5
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One class's curve."""

    name: str
    x: Floats
    y: Floats
    area: float


def roc_curves(answers: Answers) -> list[Curve]:
    """scikit-learn's `roc_curve` of the positive class, or of each of up to 6 classes against the rest."""
    from sklearn.metrics import roc_auc_score, roc_curve

    curves = []
    for name, positive, scores in _one_against_rest(answers):
        false, true, _ = roc_curve(positive, scores, sample_weight=answers.weights)
        area = float(roc_auc_score(positive, scores, sample_weight=answers.weights))
        curves.append(Curve(name, *_thinned(false, true), area))
    return curves


def precision_recall_curves(answers: Answers) -> list[Curve]:
    """scikit-learn's `precision_recall_curve`, likewise; the area is the average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    curves = []
    for name, positive, scores in _one_against_rest(answers):
        precision, recall, _ = precision_recall_curve(positive, scores, sample_weight=answers.weights)
        area = float(average_precision_score(positive, scores, sample_weight=answers.weights))
        curves.append(Curve(name, *_thinned(recall, precision), area))
    return curves


def _one_against_rest(answers: Answers) -> list[tuple[str, NDArray[np.bool_], Floats]]:
    if answers.probabilities is None or answers.classes is None or len(answers.classes) > _MOST_CURVES:
        return []
    wanted = range(len(answers.classes)) if len(answers.classes) > 2 else [1]
    truth = encode(answers.truth, answers.classes)
    found = [(str(answers.classes[index]), truth == index, answers.probabilities[:, index]) for index in wanted]
    return [(name, positive, scores) for name, positive, scores in found if 0 < positive.sum() < len(positive)]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if len(x) <= _POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(np.intp))
    return x[kept], y[kept]


def bin_calibration(answers: Answers) -> tuple[Floats, Floats] | None:
    """Mean probability and share that came true in the bins of the calibration error; None without
    probabilities. Of the positive class for two classes, of the largest probability for more."""
    if answers.probabilities is None or answers.classes is None:
        return None
    truth = encode(answers.truth, answers.classes)
    if len(answers.classes) == 2:
        right, scores = truth == 1, answers.probabilities[:, 1]
    else:
        right, scores = answers.probabilities.argmax(axis=1) == truth, answers.probabilities.max(axis=1)
    weights = np.ones(len(truth)) if answers.weights is None else answers.weights
    found = calibration_bins(weigh(Order.of(right, scores.astype(np.float64)), weights[None, :]))
    outcomes, said, mass = (values[0] for values in found)
    filled = mass > 0
    return said[filled] / mass[filled], outcomes[filled] / mass[filled]


def bin_residuals(answers: Answers) -> tuple[Floats, Floats]:
    """Mean prediction [bands] and quantiles [5, bands] of the residuals in up to 10 bands of the predictions with
    equally many rows; at least 5 rows in each, so that no band is a single row."""
    said = answers.predictions.astype(np.float64)
    residuals = answers.truth.astype(np.float64) - said
    count = int(np.clip(len(said) // _FEWEST_IN_BAND, 1, _BANDS))
    bands: list[Any] = np.array_split(np.argsort(said, kind="stable"), count)
    middle = np.array([said[band].mean() for band in bands])
    return middle, np.column_stack([np.quantile(residuals[band], _LEVELS) for band in bands])
