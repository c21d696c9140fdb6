"""A slow loss over many windows: how often unchanged data alarms, and how soon a real loss is found."""

from datetime import UTC, datetime, timedelta
from math import sqrt

import numpy as np
import pytest

from modelkit.contract.result import TimelinePoint
from modelkit.monitor.change import Level, find_change, select_levels
from modelkit.monitor.quality import spread

BEGIN, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)
WINDOWS, LABELS, TEST_ROWS = 40, 500, 1000


def measure(value: float, rows: int, window: int | None) -> Level:
    error = spread("accuracy", value, rows) / sqrt(rows)
    return Level(start=None if window is None else BEGIN + window * HOUR, value=value, error=error, rows=rows)


def find_alarms(accuracy: float, loss: float, at: int, streams: int, chance: float) -> list[int | None]:
    """The first window that alarms, of each stream whose accuracy falls at the window `at`."""
    generator, found = np.random.default_rng(7), []
    for _ in range(streams):
        levels = [measure(generator.binomial(TEST_ROWS, accuracy) / TEST_ROWS, TEST_ROWS, None)]
        first = None
        for window in range(WINDOWS):
            level = accuracy - (loss if window >= at else 0)
            levels.append(measure(generator.binomial(LABELS, level) / LABELS, LABELS, window))
            change = find_change("accuracy", levels, 0.0, chance)
            if change is not None and change.is_clear:
                first = window
                break
        found.append(first)
    return found


@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.98])
def test_streams_without_a_loss_alarm_far_less_often_than_the_stated_chance_of_a_window(accuracy: float) -> None:
    chance = 0.001
    alarms = [first for first in find_alarms(accuracy, 0.0, WINDOWS, 120, chance) if first is not None]
    # The stated share of 4,800 windows is 5, were they independent.
    assert len(alarms) <= 5


@pytest.mark.parametrize(("loss", "median"), [(0.02, 10), (0.03, 5), (0.05, 2), (0.2, 0)])
def test_a_loss_is_found_the_sooner_the_larger_it_is(loss: float, median: int) -> None:
    at = 15
    found = [first for first in find_alarms(0.9, loss, at, 60, 0.001) if first is None or first >= at]
    delays = sorted(WINDOWS if first is None else first - at for first in found)
    assert delays[len(delays) // 2] <= median


def test_the_change_is_dated_to_the_window_in_which_the_loss_began() -> None:
    levels = [measure(0.9, TEST_ROWS, None), *(measure(0.9 if n < 6 else 0.84, LABELS, n) for n in range(9))]
    change = find_change("accuracy", levels, 0.0, 0.001)
    assert change is not None
    assert change.since == BEGIN + 6 * HOUR
    assert (change.before, change.after) == pytest.approx((0.9, 0.84))
    assert change.labels == 3 * LABELS


def test_a_gain_and_an_allowed_loss_are_no_evidence() -> None:
    better = [measure(0.8, TEST_ROWS, None), measure(0.95, LABELS, 0)]
    worse = [measure(0.9, TEST_ROWS, None), *(measure(0.87, LABELS, n) for n in range(20))]
    gain, allowed, loss = (
        find_change("accuracy", levels, max_drop, 0.05)
        for levels, max_drop in ((better, 0.0), (worse, 0.05), (worse, 0.0))
    )
    assert gain is not None
    assert gain.p_value == 1.0
    assert allowed is not None
    assert allowed.p_value > 0.9
    assert loss is not None
    assert loss.p_value < 0.05


def test_of_a_metric_that_is_better_when_lower_a_rise_is_the_loss() -> None:
    levels = [Level(start=None, value=1.0, error=0.02, rows=500), Level(start=BEGIN, value=1.3, error=0.03, rows=200)]
    change = find_change("log_loss", levels, 0.0, 0.001)
    assert change is not None
    assert change.drop == pytest.approx(0.3)
    assert change.p_value < 1e-6


def point(end: int, version: int = 2, quality: float | None = 0.9, error: float | None = 0.01) -> TimelinePoint:
    return TimelinePoint(
        end=BEGIN + end * HOUR, version=version, state="OK", rows=9, labels=5, quality=quality, error=error
    )


def test_windows_of_the_version_that_overlap_count_once_and_those_that_tell_nothing_not_at_all() -> None:
    points = [
        point(3, version=1),
        *(point(end) for end in range(5, 14)),
        point(14, quality=None),
        point(15, error=None),
    ]
    levels = select_levels(points, 2, BEGIN + 4 * HOUR, BEGIN + 14 * HOUR, 4 * HOUR)
    assert [level.start for level in levels] == [BEGIN + hour * HOUR for hour in (4, 5, 9)]
    assert find_change("accuracy", [measure(0.9, 10, None)], 0.0, 0.001) is None
