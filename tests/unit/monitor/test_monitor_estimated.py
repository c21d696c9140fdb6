"""Quality without labels: what is estimated, what is said of it, and when nothing can be said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from modelkit.contract.metrics import CLASSIFICATION_METRICS
from modelkit.contract.monitoring import EstimatedQualityConfig
from modelkit.contract.result import CheckResult
from modelkit.data.calibration import count_confidences
from modelkit.monitor.confidences import expect_metric, isotonic
from modelkit.monitor.estimated import check_estimated_quality, estimate_expected
from modelkit.monitor.reference import Reference
from modelkit.monitor.summary import Summary, empty_summary
from tests.unit.monitor.worlds import (
    Classes,
    classification,
    draw_classes,
    draw_numbers,
    regression,
    summarise_classes,
    summarise_numbers,
)

CONFIG = EstimatedQualityConfig()
ESTIMABLE = sorted(set(CLASSIFICATION_METRICS) - {"calibration_error"})


def judge(reference: Reference, summary: Summary, metric: str = "accuracy", max_drop: float = 0.05) -> CheckResult:
    config = EstimatedQualityConfig(max_drop=max_drop)
    expected = estimate_expected(reference, summary, metric, config)
    return check_estimated_quality(reference, summary, metric, expected, config, 50)


def draw(seed: int, rows: int, **world: float) -> Classes:
    return draw_classes(np.random.default_rng(seed), rows, **world)  # type: ignore[arg-type]


# -- classification -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=30))
def test_isotonic_shares_are_scikit_learn_s(bins: list[tuple[int, int]]) -> None:
    successes, rows = np.array(bins, dtype=float).T
    rows += successes
    expected = IsotonicRegression().fit_transform(np.arange(len(rows)), successes / rows, sample_weight=rows)
    assert np.allclose(isotonic(successes, rows), expected, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", ESTIMABLE)
def test_the_estimate_of_the_test_rows_is_their_own_metric(metric: str, classes: int) -> None:
    test = draw(0, 3000, classes=classes, sharpness=1.3)
    reference = classification(test)
    expected = estimate_expected(reference, summarise_classes(reference, test), metric, CONFIG)
    assert expected is not None
    assert expected.drop == 0.0
    assert expected.reference == pytest.approx(test.metric(metric), abs=0.012)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_counts_estimate_what_calibrated_probabilities_of_single_rows_do(classes: int) -> None:
    test, window = (
        draw(1, 4000, classes=classes, sharpness=1.5),
        draw(2, 4000, classes=classes, sharpness=1.5, spread=0.5),
    )
    hits = 0.0
    for label in range(classes):
        fitted, asked = test.predicted == label, window.predicted == label
        curve = IsotonicRegression(out_of_bounds="clip")
        curve.fit(test.probabilities[fitted, label], test.truth[fitted] == label)
        hits += curve.predict(window.probabilities[asked, label]).sum()
    reference = classification(test)
    expected = estimate_expected(reference, summarise_classes(reference, window), "accuracy", CONFIG)
    assert expected is not None
    assert expected.value == pytest.approx(hits / 4000, abs=0.008)


def test_of_many_classes_accuracy_alone_is_estimated() -> None:
    test, window = draw(0, 4000, classes=25), draw(1, 4000, classes=25, spread=0.6)
    reference = classification(test)
    summary = summarise_classes(reference, window)
    expected = estimate_expected(reference, summary, "accuracy", CONFIG)
    assert expected is not None
    assert expected.value == pytest.approx(window.metric("accuracy"), abs=0.03)
    result = judge(reference, summary, "f1")
    assert (result.state, result.value) == ("Unknown", None)
    assert "spec.quality.metric may be accuracy" in result.message


def test_a_breach_names_estimate_interval_reference_and_what_it_cannot_see() -> None:
    reference = classification(draw(0, 3000))
    result = judge(reference, summarise_classes(reference, draw(1, 2000, spread=0.2)))
    assert result.state == "Breached"
    assert result.value is not None
    assert result.value > 0.1
    assert (result.limit, result.rows) == (0.05, 2000)
    assert result.message.startswith("accuracy 0.")
    assert " is to be expected of 2,000 rows, 0." in result.message
    assert "> 0.05 (p < 0.0001)" in result.message
    assert "which only labels tell" in result.message


def test_rows_that_became_easier_are_ok_and_no_drop() -> None:
    reference = classification(draw(0, 3000))
    result = judge(reference, summarise_classes(reference, draw(1, 2000, spread=3.0)))
    assert result.state == "OK"
    assert result.value is not None
    assert result.value < 0
    assert "drop 0 ≤ 0.05" in result.message


def test_a_drop_that_few_rows_may_show_by_chance_is_no_breach_and_says_so() -> None:
    reference = classification(draw(4, 400))
    result = judge(reference, summarise_classes(reference, draw(13, 60, spread=0.8)), max_drop=0.0)
    assert result.state == "OK"
    assert "which may be chance (p = " in result.message


def test_an_estimate_is_the_same_every_time() -> None:
    reference = classification(draw(0, 500))
    summary = summarise_classes(reference, draw(1, 300))
    assert judge(reference, summary) == judge(reference, summary)


def test_rows_without_probabilities_or_of_an_unknown_class_are_not_counted() -> None:
    reference = classification(draw(0, 500))
    window = draw(1, 3)
    predicted, probabilities = window.predicted.copy(), window.probabilities.copy()
    predicted[0] = -1
    probabilities[1] = np.nan
    assert reference.calibration is not None
    counted = count_confidences(reference.calibration, predicted, probabilities)
    assert (counted.valid, counted.nulls) == (1, 2)


@pytest.mark.parametrize("rows", [0, 49])
def test_too_few_rows_are_unknown_whatever_they_hold(rows: int) -> None:
    reference = classification(draw(0, 500))
    result = judge(reference, summarise_classes(reference, draw(1, rows, spread=0.01)))
    assert result.state == "Unknown"
    assert "at least 50 are needed" in result.message


def test_too_few_rows_with_probabilities_are_unknown() -> None:
    reference = classification(draw(0, 500))
    summary = replace(summarise_classes(reference, draw(1, 40)), rows=400)
    result = judge(reference, summary)
    assert (result.state, result.message) == (
        "Unknown",
        "40 rows in the window with probabilities; at least 50 are needed",
    )


def test_too_few_test_rows_are_unknown() -> None:
    reference = classification(draw(0, 49))
    result = judge(reference, summarise_classes(reference, draw(1, 400)))
    assert result.state == "Unknown"
    assert result.message.startswith("the version had 49 test rows; at least 50")


def test_a_version_of_an_older_release_is_unknown_and_told_what_to_do() -> None:
    reference = replace(classification(draw(0, 500)), calibration=None)
    result = judge(reference, replace(empty_summary(reference), rows=400))
    assert result.state == "Unknown"
    assert "train again with this release" in result.message
    older = replace(regression(draw_numbers(np.random.default_rng(0), 400)), losses=None)
    assert "train again with this release" in judge(older, replace(empty_summary(older), rows=400)).message


def test_a_classifier_without_probabilities_is_unknown() -> None:
    reference = replace(classification(draw(0, 500)), calibration=None, scores=None)
    result = judge(reference, replace(empty_summary(reference), rows=400))
    assert (result.state, result.message.partition(",")[0]) == ("Unknown", "the version has no probabilities")


def test_a_metric_that_needs_labels_is_unknown() -> None:
    reference = classification(draw(0, 500))
    result = judge(reference, summarise_classes(reference, draw(1, 400)), "calibration_error")
    assert (result.state, result.value) == ("Unknown", None)
    assert result.message.startswith("calibration_error can't be estimated without labels")


def test_a_window_of_one_answer_ranks_nothing() -> None:
    reference = classification(draw(0, 500))
    window = draw(1, 200)
    one = Classes(window.truth, np.tile([0.1, 0.9], (200, 1)))
    assert reference.calibration is not None
    counted = summarise_classes(reference, one).confidences
    assert counted is not None
    compared = expect_metric(reference.calibration, counted, "roc_auc")
    assert compared is not None
    assert compared.value == pytest.approx(0.5)


# -- regression ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["mae", "mse", "rmse"])
def test_the_expected_loss_of_the_test_rows_is_their_own(metric: str) -> None:
    test = draw_numbers(np.random.default_rng(0), 3000)
    reference = regression(test)
    expected = estimate_expected(reference, summarise_numbers(reference, test), metric, CONFIG)
    assert expected is not None
    assert expected.reference == pytest.approx(test.metric(metric))
    assert expected.value == pytest.approx(test.metric(metric), rel=0.01)


def test_a_breach_of_a_regression_names_its_numbers() -> None:
    reference = regression(draw_numbers(np.random.default_rng(0), 3000))
    result = judge(
        reference, summarise_numbers(reference, draw_numbers(np.random.default_rng(1), 500, low=0.8)), "rmse"
    )
    assert result.state == "Breached"
    assert result.message.startswith("rmse ")
    assert " is to be expected of 500 rows" in result.message


@pytest.mark.parametrize("metric", ["r2", "mape"])
def test_a_metric_that_losses_do_not_give_is_unknown_and_told_which_are(metric: str) -> None:
    reference = regression(draw_numbers(np.random.default_rng(0), 500))
    result = judge(reference, summarise_numbers(reference, draw_numbers(np.random.default_rng(1), 500)), metric)
    assert (result.state, result.message) == (
        "Unknown",
        f"{metric} can't be estimated without labels; spec.quality.metric may be rmse, mse or mae",
    )


def test_errors_that_depend_on_nothing_are_unknown() -> None:
    reference = regression(draw_numbers(np.random.default_rng(0), 2000, noise=0.0))
    result = judge(reference, summarise_numbers(reference, draw_numbers(np.random.default_rng(1), 500)), "rmse")
    assert result.state == "Unknown"
    assert "didn't depend on any feature beyond chance" in result.message


def test_a_redacted_feature_of_the_loss_model_is_taken_as_unchanged_and_told() -> None:
    reference = regression(draw_numbers(np.random.default_rng(0), 3000))
    summary = summarise_numbers(reference, draw_numbers(np.random.default_rng(1), 500, low=0.8))
    shown = {name: counted for name, counted in summary.features.items() if name != "f0"}
    result = judge(reference, replace(summary, features=shown, redacted=frozenset({"f0"})), "rmse")
    assert result.state == "OK"
    assert result.message.endswith("1 redacted feature taken as unchanged")
