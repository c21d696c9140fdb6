"""Calibration of labelled rows: errors are found, chance and old errors don't alarm."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from modelkit.contract.monitoring import CalibrationConfig
from modelkit.contract.result import CheckResult
from modelkit.evaluate.answers import Answers
from modelkit.monitor.calibration import check_calibration, is_breached, measure_reliability
from modelkit.monitor.labels import Labelled
from modelkit.monitor.reference import Reference
from tests.unit.monitor.worlds import Classes, classification, draw_classes

CONFIG = CalibrationConfig()
MIN_LABELS = 30
MOST_OF_1000 = 72
"""With a true rate of 5 %, more in 1,000 windows come in one of 1,000 tests."""


def draw(seed: int, rows: int, **world: Any) -> Classes:
    return draw_classes(np.random.default_rng(seed), rows, **world)


def judge(reference: Reference, labelled: Labelled, max_error: float = 0.05) -> CheckResult:
    reliability = measure_reliability(reference, labelled, MIN_LABELS)
    return check_calibration(reference, labelled, reliability, CalibrationConfig(max_error=max_error), MIN_LABELS)


def test_an_overconfident_model_is_found_with_its_numbers() -> None:
    reference = classification(draw(0, 1000))
    result = judge(reference, draw(1, 500, sharpness=3.0, spread=0.5).labelled)
    assert result.state == "Breached"
    assert result.value is not None
    assert result.value > 0.05
    assert (result.limit, result.rows) == (0.05, 500)
    assert result.message.startswith("expected calibration error 0.")
    assert "on the version's own test; excess beyond chance 0." in result.message
    assert "Brier score 0." in result.message


def test_a_modest_model_is_found_too() -> None:
    reference = classification(draw(0, 1000, classes=3))
    assert judge(reference, draw(1, 500, classes=3, sharpness=0.2).labelled).state == "Breached"


def test_a_model_that_was_always_miscalibrated_does_not_alarm() -> None:
    states = []
    for seed in range(100):
        reference = classification(draw(seed, 800, sharpness=4.0, spread=0.5))
        window = draw(1000 + seed, 400, sharpness=4.0, spread=0.5)
        reliability = measure_reliability(reference, window.labelled, MIN_LABELS)
        assert reliability is not None
        assert reliability.reference_error > 0.1
        states.append(is_breached(reliability, 0.0))
    assert sum(states) <= 11


def test_a_shift_of_the_rows_alone_does_not_alarm() -> None:
    reference = classification(draw(0, 2000))
    assert judge(reference, draw(1, 1000, spread=0.3).labelled).state == "OK"


@pytest.mark.parametrize(("rows", "test_rows"), [(30, 150), (300, 1000), (3000, 150)])
def test_a_thousand_unchanged_windows_alarm_at_most_at_the_stated_level(rows: int, test_rows: int) -> None:
    generator = np.random.default_rng(8)
    alarms = 0
    for number in range(1000):
        if number % 5 == 0:
            reference = classification(draw_classes(generator, test_rows))
        reliability = measure_reliability(reference, draw_classes(generator, rows).labelled, MIN_LABELS)
        assert reliability is not None
        alarms += is_breached(reliability, 0.0)
    assert alarms <= MOST_OF_1000


def test_probabilities_that_are_off_by_a_fifth_are_found_in_a_hundred_labels() -> None:
    found = 0
    for seed in range(100):
        reference = classification(draw(seed, 1000))
        window = draw(1000 + seed, 100)
        wrong = np.random.default_rng(seed).random(100) < 0.4
        truth = np.where(wrong, np.random.default_rng(seed + 1).integers(0, 2, 100), window.truth)
        reliability = measure_reliability(reference, Classes(truth, window.probabilities).labelled, MIN_LABELS)
        assert reliability is not None
        found += is_breached(reliability, CONFIG.max_error)
    assert found >= 80


def test_the_curve_is_scikit_learn_s_over_the_same_bins() -> None:
    test, window = draw(0, 2000), draw(1, 5000, sharpness=2.0)
    reference = classification(test)
    reliability = measure_reliability(reference, window.labelled, MIN_LABELS)
    assert reliability is not None
    assert reference.calibration is not None
    confidence = window.probabilities.max(axis=1)
    right = window.truth == window.predicted
    edges = reference.calibration["confidence"]["edges"]
    assert len(reliability.bins) == len(edges) + 1
    for found, low, high in zip(reliability.bins, [0, *edges], [*edges, 1], strict=True):
        inside = (confidence > low) & (confidence <= high)
        (share,), (mean,) = calibration_curve(right[inside], confidence[inside], n_bins=1)
        assert (found.rows, found.confidence, found.right) == (inside.sum(), pytest.approx(mean), pytest.approx(share))
    error = sum(found.rows * abs(found.right - found.confidence) for found in reliability.bins) / 5000
    assert reliability.error == pytest.approx(error)
    assert reliability.brier == pytest.approx(brier_score_loss(window.truth, window.probabilities[:, 1]))
    assert reliability.reference_brier == pytest.approx(brier_score_loss(test.truth, test.probabilities[:, 1]))


def test_bins_with_few_labels_are_looked_at_together() -> None:
    reference = classification(draw(0, 2000))
    reliability = measure_reliability(reference, draw(1, 40).labelled, MIN_LABELS)
    assert reliability is not None
    assert all(found.rows >= 10 for found in reliability.bins)
    assert sum(found.rows for found in reliability.bins) == 40
    assert sum(found.reference_rows for found in reliability.bins) == 2000


def test_too_few_labels_are_unknown() -> None:
    result = judge(classification(draw(0, 500)), draw(1, 29).labelled)
    assert (result.state, result.message) == ("Unknown", "29 labels in the window; at least 30 are needed")
    result = judge(classification(draw(0, 500)), draw(1, 0).labelled)
    assert (result.state, result.message.partition(":")[0]) == ("Unknown", "no feedback in the window")


def test_a_version_of_an_older_release_is_unknown_and_told_what_to_do() -> None:
    result = judge(replace(classification(draw(0, 500)), calibration=None), draw(1, 100).labelled)
    assert result.state == "Unknown"
    assert "train again with this release" in result.message


def test_rows_or_versions_without_probabilities_are_unknown() -> None:
    answers = draw(1, 100).answers
    bare = Labelled(Answers(answers.task, answers.truth, answers.predictions, None, answers.classes))
    reference = classification(draw(0, 500))
    assert (
        judge(reference, bare).message == "some of the window's 100 labelled rows were captured without probabilities"
    )
    without = replace(reference, calibration=None, scores=None)
    assert judge(without, bare).message == "the version has no probabilities that could come true"


def test_a_drop_of_error_is_ok() -> None:
    reference = classification(draw(0, 1000, sharpness=4.0, spread=0.5))
    result = judge(reference, draw(1, 1000, spread=0.5).labelled)
    assert result.state == "OK"
    assert result.value is not None
    assert result.value < 0
