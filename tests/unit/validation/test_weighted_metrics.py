"""Weights count in fitting, in every metric and in every interval as scikit-learn's sample_weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.artifact.signature import InputColumn
from modelkit.contract.config import PreprocessingConfig
from modelkit.contract.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION, Answers
from modelkit.evaluate.bootstrap import metric_intervals, paired_differences
from modelkit.evaluate.metrics import compute_metrics
from modelkit.evaluate.trivial import answer_trivially
from modelkit.train.candidates import Candidate
from modelkit.train.pipeline import build_pipeline
from modelkit.train.search import Trial, fit, takes_weights

RNG = np.random.default_rng(3)
ROWS = 200
WEIGHTS = RNG.uniform(0.1, 5.0, ROWS)
TRUTH = RNG.integers(0, 2, ROWS)
SCORES = np.clip(0.3 * TRUTH + RNG.uniform(0, 0.7, ROWS), 0.01, 0.99)
SAID = (SCORES > 0.5).astype(np.int64)
BINARY = Answers(CLASSIFICATION, TRUTH, SAID, np.column_stack([1 - SCORES, SCORES]), (0, 1), WEIGHTS)
VALUES = RNG.normal(5, 1, ROWS)
GUESSES = VALUES + RNG.normal(0, 0.5, ROWS)
NUMBERS = Answers(REGRESSION, VALUES, GUESSES, weights=WEIGHTS)


def _by(score: Callable[..., Any], **options: Any) -> float:
    return float(score(TRUTH, SAID, sample_weight=WEIGHTS, **options))


CLASS_ORACLES: dict[str, Callable[[], float]] = {
    "accuracy": lambda: _by(oracle.accuracy_score),
    "balanced_accuracy": lambda: _by(oracle.balanced_accuracy_score),
    "precision": lambda: _by(oracle.precision_score),
    "recall": lambda: _by(oracle.recall_score),
    "f1": lambda: _by(oracle.f1_score),
    "precision_macro": lambda: _by(oracle.precision_score, average="macro"),
    "recall_macro": lambda: _by(oracle.recall_score, average="macro"),
    "f1_macro": lambda: _by(oracle.f1_score, average="macro"),
    "precision_weighted": lambda: _by(oracle.precision_score, average="weighted"),
    "recall_weighted": lambda: _by(oracle.recall_score, average="weighted"),
    "f1_weighted": lambda: _by(oracle.f1_score, average="weighted"),
    "roc_auc": lambda: float(oracle.roc_auc_score(TRUTH, SCORES, sample_weight=WEIGHTS)),
    "average_precision": lambda: float(oracle.average_precision_score(TRUTH, SCORES, sample_weight=WEIGHTS)),
    "log_loss": lambda: float(oracle.log_loss(TRUTH, SCORES, sample_weight=WEIGHTS)),
    "brier": lambda: float(oracle.brier_score_loss(TRUTH, SCORES, sample_weight=WEIGHTS)),
}
NUMBER_ORACLES: dict[str, Callable[..., Any]] = {
    "mse": oracle.mean_squared_error,
    "rmse": oracle.root_mean_squared_error,
    "mae": oracle.mean_absolute_error,
    "mape": oracle.mean_absolute_percentage_error,
    "r2": oracle.r2_score,
}


@pytest.mark.parametrize("name", CLASSIFICATION_METRICS)
def test_a_weighted_metric_of_classes_is_scikit_learns(name: str) -> None:
    if name == "calibration_error":  # not scikit-learn's: whole weights are repeated rows
        counts = RNG.integers(1, 4, ROWS)
        again = np.repeat(np.arange(ROWS), counts)
        repeated = Answers(CLASSIFICATION, TRUTH[again], SAID[again], BINARY.probabilities[again], (0, 1))  # type: ignore[index]
        counted = Answers(CLASSIFICATION, TRUTH, SAID, BINARY.probabilities, (0, 1), counts.astype(np.float64))
        assert compute_metrics(counted)[name] == pytest.approx(compute_metrics(repeated)[name], rel=1e-12)
        return
    assert compute_metrics(BINARY)[name] == pytest.approx(CLASS_ORACLES[name](), rel=1e-12)


@pytest.mark.parametrize("name", REGRESSION_METRICS)
def test_a_weighted_metric_of_numbers_is_scikit_learns(name: str) -> None:
    expected = NUMBER_ORACLES[name](VALUES, GUESSES, sample_weight=WEIGHTS)
    assert compute_metrics(NUMBERS)[name] == pytest.approx(float(expected), rel=1e-12)


def test_an_interval_of_weighted_rows_lies_around_the_weighted_value() -> None:
    # Rows that are wrong weigh so much that the unweighted accuracy is far outside.
    heavy = np.where(SAID == TRUTH, 1.0, 50.0)
    answers = Answers(CLASSIFICATION, TRUTH, SAID, None, (0, 1), heavy)
    plain = Answers(CLASSIFICATION, TRUTH, SAID, None, (0, 1))
    low, high = metric_intervals(answers, 0.95, 0, ("accuracy",))["accuracy"]
    assert low <= compute_metrics(answers)["accuracy"] <= high < compute_metrics(plain)["accuracy"]


def test_a_paired_difference_counts_weights() -> None:
    better = Answers(CLASSIFICATION, TRUTH, TRUTH, None, (0, 1), WEIGHTS)
    found = paired_differences(better, BINARY, {"accuracy": 0.95}, 0)["accuracy"]
    assert found.value == pytest.approx(1 - CLASS_ORACLES["accuracy"]())


def test_the_trivial_predictor_of_weighted_rows_is_scikit_learns_dummy() -> None:
    x = np.zeros((ROWS, 1))
    prior = DummyClassifier(strategy="prior").fit(x, TRUTH, sample_weight=WEIGHTS)
    found = answer_trivially(CLASSIFICATION, TRUTH, TRUTH, (0, 1), WEIGHTS, WEIGHTS)
    np.testing.assert_allclose(found.probabilities, prior.predict_proba(x))  # type: ignore[arg-type]
    assert found.predictions.tolist() == prior.predict(x).tolist()
    mean = DummyRegressor().fit(x, VALUES, sample_weight=WEIGHTS)
    found = answer_trivially(REGRESSION, VALUES, VALUES, None, WEIGHTS, WEIGHTS)
    np.testing.assert_allclose(found.predictions, mean.predict(x))


def _trial(estimator: Any) -> Trial:
    columns = [InputColumn(name=name, dtype="float64", kind="numeric", nullable=False) for name in "ab"]
    name = type(estimator).__name__
    return Trial(Candidate(0, name, {}, estimator), build_pipeline(name, estimator, columns, PreprocessingConfig()))


def test_weights_reach_the_estimator_through_the_pipeline() -> None:
    rows = np.column_stack([SCORES, RNG.normal(size=ROWS)])
    ours = fit(_trial(LogisticRegression()), rows, TRUTH, weights=WEIGHTS)
    theirs = make_pipeline(StandardScaler(), LogisticRegression())
    theirs.fit(rows, TRUTH, logisticregression__sample_weight=WEIGHTS)
    np.testing.assert_array_equal(ours.predict_proba(rows), theirs.predict_proba(rows))
    unweighted = fit(_trial(LogisticRegression()), rows, TRUTH)
    assert not np.allclose(ours.predict_proba(rows), unweighted.predict_proba(rows))


def test_an_estimator_that_takes_no_weights_learns_without_them() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    trial = _trial(KNeighborsClassifier())
    assert not takes_weights(trial)
    rows = np.column_stack([SCORES, SCORES])
    np.testing.assert_array_equal(
        fit(trial, rows, TRUTH, weights=WEIGHTS).predict(rows), fit(trial, rows, TRUTH).predict(rows)
    )
