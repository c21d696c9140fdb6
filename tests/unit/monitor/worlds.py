"""Worlds in which a model's rows shift: what it answers, how sure it is and what is true, drawn with a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.data.calibration import build_calibration, count_confidences
from modelkit.data.losses import build_losses
from modelkit.data.profile import build_profile, count_feature
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.monitor.labels import Labelled
from modelkit.monitor.reference import Reference, parse_reference
from modelkit.monitor.summary import PREDICTION, Summary, empty_summary

Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Classes:
    """A classifier's rows."""

    truth: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def answers(self) -> Answers:
        classes = tuple(range(self.probabilities.shape[1]))
        return Answers("Classification", self.truth, self.predicted, self.probabilities, classes)

    @property
    def labelled(self) -> Labelled:
        return Labelled(self.answers)

    def metric(self, name: str) -> float:
        return compute_metrics(self.answers, (name,))[name]


def draw_classes(
    generator: np.random.Generator,
    rows: int,
    *,
    classes: int = 2,
    spread: float = 1.0,
    shift: float = 0.0,
    offset: float = 0.0,
    sharpness: float = 1.0,
    flipped: float = 0.0,
) -> Classes:
    """`spread` and `shift` move the rows; `offset` makes the first class the usual one; the model says its truth's
    probabilities to the power `sharpness` (above 1: overconfident); of the share `flipped` the relation changed."""
    weights = 2.5 * np.random.default_rng(4).normal(size=(4, classes))
    scores = generator.normal(shift, spread, (rows, 4)) @ weights
    scores[:, 0] += offset
    true = _softmax(scores)
    truth = (true.cumsum(axis=1) > generator.random((rows, 1))).argmax(axis=1)
    random = generator.random(rows) < flipped
    truth[random] = generator.integers(0, classes, np.count_nonzero(random))
    return Classes(truth, _softmax(scores * sharpness))


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def classification(test: Classes, metric: str = "accuracy", **changes: Any) -> Reference:
    """The version whose test rows these were."""
    classes = list(range(test.probabilities.shape[1]))
    profile = build_profile(
        {"x": test.truth}, {"x": "numeric"}, test.predicted, test.probabilities, "Classification", classes
    )
    profile["calibration"] = build_calibration(test.truth, test.predicted, test.probabilities, classes)
    metrics = {"metric": metric, "metrics": compute_metrics(test.answers), "test_rows": len(test.truth)}
    signature = {"task": "Classification", "classes": classes, "inputs": [{"name": "x"}]}
    return parse_reference(profile | changes, metrics, signature)


def summarise_classes(reference: Reference, window: Classes) -> Summary:
    """The counts of a window of these rows."""
    assert reference.calibration is not None
    empty = empty_summary(reference)
    counted = count_confidences(reference.calibration, window.predicted, window.probabilities)
    return Summary(len(window.truth), empty.features, empty.outputs, counted)


@dataclass(frozen=True)
class Numbers:
    """A regression's rows."""

    features: np.ndarray
    """[n, features]."""
    truth: np.ndarray
    predictions: np.ndarray

    def metric(self, name: str) -> float:
        return compute_metrics(Answers("Regression", self.truth, self.predictions), (name,))[name]


def draw_numbers(
    generator: np.random.Generator, rows: int, *, low: float = 0.0, noise: float = 2.0, features: int = 6
) -> Numbers:
    """The error grows with the first feature (0 to 1) by up to `noise` times; `low` cuts its range from below. The
    second feature is missing in a fifth of the rows, where the model is worse, too."""
    values = generator.random((rows, features))
    values[:, 0] = low + (1 - low) * values[:, 0]
    missing = generator.random(rows) < 0.2
    deviation = 1 + noise * values[:, 0] ** 2 + (noise / 2) * missing
    predictions = 3 * values[:, 2]
    truth = predictions + deviation * generator.normal(size=rows)
    values[missing, 1] = np.nan
    return Numbers(values, truth, predictions)


def regression(test: Numbers, metric: str = "rmse", **changes: Any) -> Reference:
    """The version whose test rows these were."""
    columns = {f"f{index}": values for index, values in enumerate(test.features.T)}
    profile = build_profile(columns, dict.fromkeys(columns, "numeric"), test.predictions, None, "Regression", None)
    entries = {name: (profile["features"][name], values) for name, values in columns.items()}
    profile["losses"] = build_losses(entries, (profile["predictions"], test.predictions), test.truth)
    profile["calibration"] = None
    metrics = {"metric": metric, "metrics": {metric: test.metric(metric)}, "test_rows": len(test.truth)}
    inputs = [{"name": name} for name in columns]
    signature = {"task": "Regression", "classes": None, "inputs": inputs}
    return parse_reference(profile | changes, metrics, signature)


def summarise_numbers(reference: Reference, window: Numbers) -> Summary:
    """The counts of a window of these rows."""
    entries = zip(reference.features.items(), window.features.T, strict=True)
    features = {name: count_feature(entry, values) for (name, entry), values in entries}
    outputs = {PREDICTION: count_feature(reference.predictions, window.predictions)}
    return Summary(len(window.truth), features, outputs)
