"""The metrics equal scikit-learn's, weighted ones included, and bootstrap intervals behave."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.metrics import CLASSIFICATION_METRICS, NEEDS_PROBABILITIES, REGRESSION_METRICS
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.bootstrap import metric_intervals, paired_differences
from modelkit.evaluate.metrics import compute_metrics, weighted_metrics
from modelkit.evaluate.trivial import answer_trivially

PER_CLASS = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def _classified(classes: int, rows: int, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    scores = np.round(rng.random((len(truth), classes)) + np.eye(classes)[truth] / 2, 1) + 0.01  # with ties
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    return Answers("Classification", truth, probabilities.argmax(axis=1), probabilities, tuple(range(classes)))


def _oracle(answers: Answers, weights: np.ndarray | None = None) -> dict[str, float]:
    truth, said, probable = answers.truth, answers.predictions, answers.probabilities
    assert probable is not None
    two = probable.shape[1] == 2
    average = "binary" if two else "macro"
    options = {"average": average, "zero_division": 0, "sample_weight": weights}
    scores = probable[:, 1] if two else probable
    return {
        "accuracy": sk.accuracy_score(truth, said, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said, sample_weight=weights),
        "precision": sk.precision_score(truth, said, **options),
        "recall": sk.recall_score(truth, said, **options),
        "f1": sk.f1_score(truth, said, **options),
        **{
            f"{name}_{average}": score(truth, said, average=average, zero_division=0, sample_weight=weights)
            for name, score in PER_CLASS.items()
            for average in ("macro", "weighted")
        },
        "roc_auc": sk.roc_auc_score(truth, scores, multi_class="ovr", sample_weight=weights),
        "average_precision": sk.average_precision_score(truth, scores, sample_weight=weights),
        "log_loss": sk.log_loss(truth, probable, sample_weight=weights),
        "brier": sk.brier_score_loss(truth, scores, sample_weight=weights, labels=range(probable.shape[1])),
        "calibration_error": _calibration_error(answers, weights),
    }


def _calibration_error(answers: Answers, weights: np.ndarray | None) -> float:
    """By hand: rows in order of their score, cut into ten parts; equal scores stay together."""
    probable = answers.probabilities
    assert probable is not None
    two = probable.shape[1] == 2
    scores = probable[:, 1] if two else probable.max(axis=1)
    outcome = answers.truth == (1 if two else probable.argmax(axis=1))
    counts = np.ones(len(scores), int) if weights is None else weights.astype(int)
    scores, outcome = np.repeat(scores, counts), np.repeat(outcome, counts)
    found: dict[int, list[float]] = {}
    for score in np.unique(scores):
        below, same = np.sum(scores < score), scores == score
        part = int((below + same.sum() / 2) / len(scores) * 10)
        found.setdefault(part, []).extend((outcome[same] - score).tolist())
    return sum(abs(sum(gaps)) for gaps in found.values()) / len(scores)


@settings(deadline=None, max_examples=40)
@given(classes=st.integers(2, 4), rows=st.integers(0, 60), seed=st.integers(0, 10_000))
def test_classification_metrics_are_those_of_scikit_learn(classes: int, rows: int, seed: int) -> None:
    answers = _classified(classes, rows, seed)
    assert compute_metrics(answers) == pytest.approx(_oracle(answers))


@pytest.mark.parametrize("classes", [2, 3])
def test_weights_count_as_repeated_rows(classes: int) -> None:
    answers = _classified(classes, 40, 1)
    weights = np.random.default_rng(2).integers(1, 4, len(answers.truth)).astype(float)
    found = weighted_metrics(answers, CLASSIFICATION_METRICS, weights[None, :])
    assert {name: value[0] for name, value in found.items()} == pytest.approx(_oracle(answers, weights))


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(2, 60), seed=st.integers(0, 10_000), offset=st.sampled_from([0.0, 1e9]))
def test_regression_metrics_are_those_of_scikit_learn(rows: int, seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows) + offset
    said = truth + rng.normal(size=rows)
    assert compute_metrics(Answers("Regression", truth, said)) == pytest.approx(
        {
            "mse": sk.mean_squared_error(truth, said),
            "rmse": sk.root_mean_squared_error(truth, said),
            "mae": sk.mean_absolute_error(truth, said),
            "mape": sk.mean_absolute_percentage_error(truth, said),
            "r2": sk.r2_score(truth, said),
        },
        rel=1e-5,
    )


def test_a_metric_that_cannot_be_computed_is_left_out() -> None:
    one_class = Answers("Classification", np.zeros(5, int), np.zeros(5, int), np.full((5, 2), 0.5), (0, 1))
    assert "roc_auc" not in compute_metrics(one_class)
    assert compute_metrics(one_class)["accuracy"] == 1.0
    without = Answers("Classification", np.array([0, 1]), np.array([0, 1]), None, (0, 1))
    assert set(compute_metrics(without)) == set(CLASSIFICATION_METRICS) - NEEDS_PROBABILITIES
    with_zero = Answers("Regression", np.array([0.0, 1.0]), np.ones(2))
    assert set(compute_metrics(with_zero)) == set(REGRESSION_METRICS) - {"mape"}
    constant = Answers("Regression", np.ones(3), np.ones(3))
    assert set(compute_metrics(constant)) == set(REGRESSION_METRICS) - {"r2"}
    assert compute_metrics(Answers("Regression", np.ones(0), np.ones(0))) == {}


def test_a_class_that_the_model_does_not_know_counts_as_wrong() -> None:
    answers = Answers(
        "Classification", np.array(["a", "b", "new"], object), np.array(["a", "b", "a"], object), None, ("a", "b")
    )
    assert compute_metrics(answers)["accuracy"] == pytest.approx(2 / 3)


def test_the_positive_class_is_the_last_of_the_sorted_ones() -> None:
    truth = np.array(["no", "no", "yes", "yes"], object)
    said = np.array(["no", "yes", "yes", "yes"], object)
    found = compute_metrics(Answers("Classification", truth, said, None, ("no", "yes")))
    assert found["recall"] == 1.0
    assert found["precision"] == pytest.approx(2 / 3)


def test_rows_and_answers_must_fit() -> None:
    with pytest.raises(ValueError, match="2 predictions for 3 rows"):
        Answers("Regression", np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="probabilities of shape"):
        Answers("Classification", np.ones(3), np.ones(3), np.ones((3, 3)), (0, 1))


def test_an_interval_holds_the_metric_and_is_the_same_for_the_same_seed() -> None:
    answers = _classified(3, 100, 3)
    bounds = metric_intervals(answers, 0.95, seed=1)
    values = compute_metrics(answers)
    assert set(bounds) == set(values)
    assert all(low <= values[name] <= high for name, (low, high) in bounds.items())
    assert metric_intervals(answers, 0.95, seed=1) == bounds
    wider = metric_intervals(answers, 0.99, seed=1)
    assert all(wider[name][0] <= bounds[name][0] for name in bounds)


def test_a_better_model_improves_every_metric_whichever_way_it_points() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200) + 10
    good, bad = (Answers("Regression", truth, truth + scale * rng.normal(size=200)) for scale in (0.1, 1.0))
    differences = paired_differences(good, bad, dict.fromkeys(REGRESSION_METRICS, 0.95), seed=0)
    assert set(differences) == set(REGRESSION_METRICS)
    assert all(0 < found.low <= found.value <= found.high for found in differences.values())


def test_a_model_does_not_differ_from_itself() -> None:
    answers = _classified(2, 50, 5)
    differences = paired_differences(answers, answers, {"f1": 0.95, "log_loss": 0.9}, seed=0)
    assert all((found.value, found.low, found.high) == (0, 0, 0) for found in differences.values())


def test_the_paired_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = np.zeros(80, int)
        new, old = (np.where(rng.random(80) < share, 0, 1) for share in (0.8, 0.7))
        models = [Answers("Classification", truth, said, None, (0, 1)) for said in (new, old)]
        found = paired_differences(models[0], models[1], {"accuracy": 0.9}, seed=seed)["accuracy"]
        covered += found.low <= 0.1 <= found.high
    assert 0.83 <= covered / 200 <= 0.96


def test_a_paired_comparison_needs_the_same_rows() -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_differences(_classified(2, 9, 1), _classified(2, 9, 2), {"f1": 0.95}, seed=0)


def test_the_trivial_predictor_knows_the_training_target_only() -> None:
    trained, truth = np.array([0, 1, 1, 1]), np.array([0, 0, 1])
    answers = answer_trivially("Classification", trained, truth, (0, 1))
    assert answers.predictions.tolist() == [1, 1, 1]
    assert answers.probabilities is not None
    assert answers.probabilities[0].tolist() == [0.25, 0.75]
    numbers = answer_trivially("Regression", np.array([1.0, 3.0]), np.array([9.0]), None)
    assert numbers.predictions.tolist() == [2.0]
