"""How often unchanged data alarms, and whether real changes are found: by simulation with fixed seeds.

Stated levels, per window: Drift alarms in at most 1 % of windows of unchanged data (the false-discovery rate, when
nothing drifted), Quality in at most 1 % with the usual allowance and 5 % without any.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from modelkit.contract.monitoring import DataQualityConfig, DriftConfig, QualityConfig
from modelkit.data.profile import Histogram, build_profile, count_feature, reference_histogram
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.monitor.counts import Column
from modelkit.monitor.data_quality import find_problems
from modelkit.monitor.drift import ColumnDrift, compare_columns
from modelkit.monitor.labels import Labelled
from modelkit.monitor.quality import Estimate, estimate_quality, is_breached

FEATURES = 30
REFERENCE_ROWS = 455
WINDOWS = 200
"""With a true rate of 1 %, more than 6 alarms in 200 windows come in one of 200 tests."""
MOST_ALARMS = 6
WINDOWS_PER_REFERENCE = 4

Draw = Callable[[np.random.Generator, int], np.ndarray]
DRIFT = DriftConfig()


def draw_normal(generator: np.random.Generator, rows: int) -> np.ndarray:
    return generator.normal(size=(rows, FEATURES))


def draw_correlated(generator: np.random.Generator, rows: int) -> np.ndarray:
    loadings = np.random.default_rng(5).normal(size=(4, FEATURES))
    return generator.normal(size=(rows, 4)) @ loadings + 0.3 * generator.normal(size=(rows, FEATURES))


def draw_counts(generator: np.random.Generator, rows: int) -> np.ndarray:
    return generator.poisson(0.3, size=(rows, FEATURES)).astype(float)


def draw_categories(generator: np.random.Generator, rows: int) -> np.ndarray:
    return generator.zipf(1.7, size=(rows, FEATURES)).clip(max=10_000)


def build_entries(reference: np.ndarray, kind: str) -> dict[str, Any]:
    names = [f"f{index}" for index in range(FEATURES)]
    columns = dict(zip(names, reference.T, strict=True))
    kinds = dict.fromkeys(names, kind)
    entries: dict[str, Any] = build_profile(columns, kinds, np.arange(3.0), None, "Regression", None)["features"]
    return entries


def simulate(draw: Draw, rows: int, windows: int, shift: float = 0.0, shifted: int = 0) -> list[list[Column]]:
    generator = np.random.default_rng(11)
    kind = "categorical" if draw is draw_categories else "numeric"
    result = []
    for number in range(windows):
        if number % WINDOWS_PER_REFERENCE == 0:
            entries = build_entries(draw(generator, REFERENCE_ROWS), kind)
        window = draw(generator, rows)
        if shifted:
            window[:, :shifted] += shift
        result.append(
            [
                Column(name, entry, reference_histogram(entry), count_feature(entry, values))
                for (name, entry), values in zip(entries.items(), window.T, strict=True)
            ]
        )
    return result


def is_alarm(drifts: tuple[ColumnDrift, ...]) -> bool:
    return any(drift.drifted for drift in drifts)


@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize("draw", [draw_normal, draw_correlated, draw_counts, draw_categories])
def test_drift_and_data_quality_rarely_alarm_on_unchanged_data(draw: Draw, rows: int) -> None:
    windows = simulate(draw, rows, 40)
    assert sum(is_alarm(compare_columns(columns, DRIFT, 50)) for columns in windows) <= 3
    assert sum(find_problems(columns, DataQualityConfig(), 50)[0].found for columns in windows) <= 3


@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_drift_alarms_on_unchanged_data_at_most_at_the_stated_level(rows: int) -> None:
    windows = simulate(draw_normal, rows, WINDOWS)
    assert sum(is_alarm(compare_columns(columns, DRIFT, 50)) for columns in windows) <= MOST_ALARMS


def test_a_shift_of_one_sigma_in_3_of_30_features_is_found_in_200_rows_and_nothing_else() -> None:
    windows = simulate(draw_normal, 200, windows=40, shift=1.0, shifted=3)
    for columns in windows:
        drifted = {drift.name for drift in compare_columns(columns, DRIFT, 50) if drift.drifted}
        assert drifted == {"f0", "f1", "f2"}


def test_a_million_rows_of_a_tiny_difference_do_not_alarm() -> None:
    entry = build_profile({"x": np.arange(10_000.0)}, {"x": "numeric"}, np.arange(3.0), None, "Regression", None)[
        "features"
    ]["x"]
    # 0.4 points more in one bin and less in another: p is far below any limit, the distance is nothing.
    counts = np.array(entry["counts"]) * 100
    counts[0] += 4000
    counts[9] -= 4000
    column = Column("x", entry, Histogram(np.array(entry["counts"]) * 100), Histogram(counts))
    (drift,) = compare_columns([column], DRIFT, 50)
    assert drift.p_value < 1e-6
    assert not drift.drifted


# -- quality ------------------------------------------------------------------------------------------------------


def draw_labelled(generator: np.random.Generator, rows: int, accuracy: float, positive: float) -> Labelled:
    truth = (generator.random(rows) < positive).astype(np.int64)
    predictions = np.where(generator.random(rows) < accuracy, truth, 1 - truth)
    return Labelled(Answers("Classification", truth, predictions, None, (0, 1)))


def simulate_quality(
    metric: str, rows: int, accuracy: float, drop: float, config: QualityConfig, windows: int, positive: float = 0.6
) -> list[Estimate | None]:
    generator = np.random.default_rng(3)
    estimates = []
    for _ in range(windows):
        test = draw_labelled(generator, 114, accuracy, positive)
        reference = compute_metrics(test.answers, (metric,))[metric]
        window = draw_labelled(generator, rows, accuracy - drop, positive)
        estimates.append(estimate_quality(window, metric, reference, 114, config))
    return estimates


def count_alarms(estimates: list[Estimate | None], config: QualityConfig) -> int:
    return sum(estimate is not None and is_breached(estimate, config.max_drop) for estimate in estimates)


@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize(("metric", "accuracy"), [("accuracy", 0.95), ("accuracy", 0.75), ("f1", 0.95)])
def test_quality_rarely_alarms_on_an_unchanged_model(metric: str, accuracy: float, rows: int) -> None:
    config = QualityConfig()
    windows = WINDOWS if rows < 1000 else WINDOWS // 4
    estimates = simulate_quality(metric, rows, accuracy, 0.0, config, windows)
    assert count_alarms(estimates, config) <= MOST_ALARMS * windows / WINDOWS


@pytest.mark.parametrize("rows", [50, 200])
def test_quality_without_an_allowance_alarms_in_about_one_window_of_twenty(rows: int) -> None:
    config = QualityConfig(max_drop=0.0)
    estimates = simulate_quality("accuracy", rows, 0.9, 0.0, config, WINDOWS)
    assert count_alarms(estimates, config) <= 0.1 * WINDOWS


@pytest.mark.parametrize(("rows", "power"), [(50, 0.75), (100, 0.95)])
def test_a_drop_of_a_fifth_is_found(rows: int, power: float) -> None:
    config = QualityConfig()
    estimates = simulate_quality("accuracy", rows, 0.97, 0.2, config, WINDOWS)
    assert count_alarms(estimates, config) >= power * WINDOWS


def test_rare_positives_do_not_make_false_alarms_of_f1() -> None:
    config = QualityConfig()
    estimates = simulate_quality("f1", 100, 0.95, 0.0, config, WINDOWS, positive=0.1)
    assert count_alarms(estimates, config) <= MOST_ALARMS
