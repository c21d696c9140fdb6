"""How near estimates without labels come to the truth, and how often unchanged rows alarm: by simulation, seeded.

Stated level: a window of unchanged rows is Breached in at most 5 % of the cases without any allowance (`maxDrop: 0`).
"""

from typing import Any

import numpy as np
import pytest

from modelkit.contract.monitoring import EstimatedQualityConfig
from modelkit.monitor.estimated import ExpectedQuality, estimate_expected, is_breached
from tests.unit.monitor.worlds import (
    classification,
    draw_classes,
    draw_numbers,
    regression,
    summarise_classes,
    summarise_numbers,
)

STRICT = EstimatedQualityConfig(max_drop=0.0)
USUAL = EstimatedQualityConfig()
WINDOWS_PER_REFERENCE = 5
MOST_OF_1000 = 72
"""With a true rate of 5 %, more in 1,000 windows come in one of 1,000 tests."""

SHIFTS: dict[str, dict[str, Any]] = {
    "two classes, rows nearer to the border": {"spread": 0.4},
    "two classes of an overconfident model": {"spread": 0.4, "sharpness": 1.8},
    "two classes of a modest model": {"spread": 0.4, "sharpness": 0.6},
    "three classes": {"classes": 3, "spread": 0.4},
    "three classes of an overconfident model": {"classes": 3, "spread": 0.4, "sharpness": 1.8},
    "a rare class that becomes frequent": {"offset": 8.0, "shift": 1.2, "spread": 0.5},
    "three classes of which one is usual": {"classes": 3, "offset": 7.0, "shift": 1.1, "spread": 0.25},
}


@pytest.mark.parametrize("world", SHIFTS.values(), ids=SHIFTS.keys())
def test_a_fall_of_accuracy_by_ten_points_is_estimated_within_two(world: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    still = {name: value for name, value in world.items() if name not in ("spread", "shift")}
    test, window = draw_classes(generator, 5000, **still), draw_classes(generator, 20_000, **world)
    reference = classification(test)
    expected = estimate_expected(reference, summarise_classes(reference, window), "accuracy", USUAL)
    assert expected is not None
    assert test.metric("accuracy") - window.metric("accuracy") > 0.09
    assert expected.value == pytest.approx(window.metric("accuracy"), abs=0.02)
    assert is_breached(expected, USUAL.max_drop)


@pytest.mark.parametrize(
    "metric", ["balanced_accuracy", "f1", "f1_macro", "f1_weighted", "roc_auc", "log_loss", "brier"]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_other_metrics_of_shifted_rows_are_estimated_as_well(metric: str, classes: int) -> None:
    generator = np.random.default_rng(2)
    test = draw_classes(generator, 5000, classes=classes, sharpness=1.5)
    window = draw_classes(generator, 20_000, classes=classes, sharpness=1.5, spread=0.5)
    reference = classification(test)
    expected = estimate_expected(reference, summarise_classes(reference, window), metric, USUAL)
    assert expected is not None
    assert abs(test.metric(metric) - window.metric(metric)) > 0.04
    assert expected.value == pytest.approx(window.metric(metric), abs=0.03)


def test_a_changed_relation_is_not_seen() -> None:
    # What the documentation says of every such method, so that nobody takes OK for more than it is.
    generator = np.random.default_rng(3)
    test, window = draw_classes(generator, 5000), draw_classes(generator, 5000, flipped=0.5)
    reference = classification(test)
    expected = estimate_expected(reference, summarise_classes(reference, window), "accuracy", USUAL)
    assert test.metric("accuracy") - window.metric("accuracy") > 0.15
    assert expected is not None
    assert expected.drop < 0.02


def simulate(rows: int, test_rows: int, metric: str, windows: int, **world: Any) -> list[ExpectedQuality | None]:
    generator = np.random.default_rng(5)
    found = []
    for number in range(windows):
        if number % WINDOWS_PER_REFERENCE == 0:
            reference = classification(draw_classes(generator, test_rows, **world))
        window = draw_classes(generator, rows, **world)
        found.append(estimate_expected(reference, summarise_classes(reference, window), metric, STRICT))
    return found


def count_alarms(found: list[ExpectedQuality | None], max_drop: float = 0.0) -> int:
    return sum(expected is not None and is_breached(expected, max_drop) for expected in found)


def test_a_thousand_unchanged_windows_alarm_at_most_at_the_stated_level() -> None:
    assert count_alarms(simulate(300, 1000, "accuracy", 1000)) <= MOST_OF_1000


@pytest.mark.parametrize(
    ("rows", "test_rows", "metric", "world"),
    [
        (100, 150, "accuracy", {}),
        (2000, 150, "accuracy", {"sharpness": 1.8}),
        (300, 500, "f1", {"offset": 6.0}),
        (300, 500, "roc_auc", {}),
        (300, 500, "accuracy", {"classes": 3}),
        (300, 500, "f1_macro", {"classes": 3, "offset": 5.0}),
        (300, 500, "log_loss", {"classes": 3, "sharpness": 1.8}),
    ],
)
def test_unchanged_windows_rarely_alarm(rows: int, test_rows: int, metric: str, world: dict[str, Any]) -> None:
    # With a true rate of 5 %, more than 11 of 100 come in one of 200 tests.
    assert count_alarms(simulate(rows, test_rows, metric, 100, **world)) <= 11


# -- regression ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["mae", "mse", "rmse"])
@pytest.mark.parametrize("low", [0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_of_rows_that_moved_to_where_noise_is_is_estimated_within_a_tenth(
    metric: str, low: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    test, window = draw_numbers(generator, 4000), draw_numbers(generator, 20_000, low=low)
    reference = regression(test)
    expected = estimate_expected(reference, summarise_numbers(reference, window), metric, USUAL)
    assert expected is not None
    assert window.metric(metric) > 1.15 * test.metric(metric)
    assert expected.value == pytest.approx(window.metric(metric), rel=0.1)
    assert is_breached(expected, USUAL.max_drop)


@pytest.mark.parametrize(("rows", "test_rows"), [(300, 1000), (5000, 400)])
def test_a_thousand_unchanged_windows_of_a_regression_alarm_at_most_at_the_stated_level(
    rows: int, test_rows: int
) -> None:
    generator = np.random.default_rng(7)
    alarms = 0
    for number in range(1000):
        if number % WINDOWS_PER_REFERENCE == 0:
            reference = regression(draw_numbers(generator, test_rows))
        summary = summarise_numbers(reference, draw_numbers(generator, rows))
        alarms += count_alarms([estimate_expected(reference, summary, "rmse", STRICT)])
    assert alarms <= MOST_OF_1000
