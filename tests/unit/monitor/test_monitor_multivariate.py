"""A classifier finds what no single feature shows, and nothing where nothing changed: by simulation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from modelkit.contract.monitoring import DriftConfig, MultivariateConfig
from modelkit.data.profile import build_profile, count_feature, reference_histogram
from modelkit.monitor.counts import Column
from modelkit.monitor.drift import compare_columns
from modelkit.monitor.multivariate import _rank, check_multivariate, encode_rows, separate_samples
from modelkit.monitor.wording import BREACHED, OK, UNKNOWN

CONFIG = MultivariateConfig()
FEATURES = 6


def draw(generator: np.random.Generator, rows: int, correlation: float) -> np.ndarray:
    """Standard normal features, of which the first two go together."""
    drawn = generator.normal(size=(rows, FEATURES))
    drawn[:, 1] = correlation * drawn[:, 0] + np.sqrt(1 - correlation**2) * drawn[:, 1]
    return drawn


def name_columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {f"f{index}": rows[:, index] for index in range(rows.shape[1])}


def build_entries(columns: dict[str, np.ndarray], kinds: dict[str, str] | None = None) -> dict[str, Any]:
    kinds = kinds or dict.fromkeys(columns, "numeric")
    found: dict[str, Any] = build_profile(columns, kinds, np.arange(3.0), None, "Regression", None)["features"]
    return found


def test_two_features_that_go_together_the_other_way_are_found_and_named() -> None:
    generator = np.random.default_rng(1)
    reference, window = (name_columns(draw(generator, 800, sign * 0.7)) for sign in (1, -1))
    entries = build_entries(reference)
    columns = [
        Column(name, entry, reference_histogram(entry), count_feature(entry, window[name]))
        for name, entry in entries.items()
    ]
    assert not any(drift.drifted for drift in compare_columns(columns, DriftConfig(), 50))
    found = separate_samples(entries, pa.table(reference), pa.table(window), CONFIG)
    check = check_multivariate(found, CONFIG, rows=800)
    assert (check.state, check.rows, check.limit) == (BREACHED, 800, 0.6)
    assert check.value is not None
    assert check.value > 0.7
    assert {finding.name for finding in check.worst[:2]} == {"f0", "f1"}
    assert (
        min(finding.value for finding in check.worst[:2])
        > 0.1
        > max([finding.value for finding in check.worst[2:]], default=0.0)
    )
    assert "> 0.6 (p < 0.0001)" in check.message


WINDOWS = 200


@pytest.mark.parametrize("rows", [50, 200])
def test_unchanged_rows_are_rarely_told_apart(rows: int) -> None:
    """At a level of 5 %: with a true rate of 5 %, more than 19 in 200 windows come once in 200 tests (binomial)."""
    generator, found = np.random.default_rng(2), 0
    for _ in range(WINDOWS):
        reference, window = (name_columns(draw(generator, rows, 0.7)) for _ in range(2))
        entries = build_entries(reference)
        separation = separate_samples(entries, pa.table(reference), pa.table(window), CONFIG, trees=5)
        found += separation.p_value < 0.05
    assert found <= 19


def test_the_usual_limits_never_alarm_on_unchanged_rows() -> None:
    generator = np.random.default_rng(3)
    for _ in range(10):
        reference, window = (name_columns(draw(generator, 400, 0.7)) for _ in range(2))
        found = separate_samples(build_entries(reference), pa.table(reference), pa.table(window), CONFIG)
        assert check_multivariate(found, CONFIG, rows=400).state == OK
        assert abs(found.auc - 0.5) < 0.1


def test_a_change_below_the_limit_is_no_breach_however_significant() -> None:
    generator = np.random.default_rng(4)
    reference, window = (draw(generator, 1500, 0.0) for _ in range(2))
    window[:, 3] += 0.25
    entries = build_entries(name_columns(reference))
    found = separate_samples(entries, pa.table(name_columns(reference)), pa.table(name_columns(window)), CONFIG)
    assert found.p_value < CONFIG.significance
    assert 0.5 < found.auc < 0.6
    check = check_multivariate(found, CONFIG, rows=1500)
    assert (check.state, check.worst[0].name) == (OK, "f3")
    stricter = replace(CONFIG, max_auc=0.51)
    assert check_multivariate(found, stricter, rows=1500).state == BREACHED


def test_what_chance_explains_is_no_breach() -> None:
    generator = np.random.default_rng(5)
    reference, window = (name_columns(draw(generator, 50, 0.0)) for _ in range(2))
    found = separate_samples(build_entries(reference), pa.table(reference), pa.table(window), CONFIG)
    lenient = replace(CONFIG, max_auc=0.01)
    check = check_multivariate(found, lenient, rows=50)
    assert check.state == OK
    assert "which chance explains" in check.message
    assert found.importances == ()


def test_categories_gaps_lengths_and_whether_a_moment_is_there_are_looked_at() -> None:
    generator = np.random.default_rng(6)
    rows = 600

    def make(swap: bool) -> dict[str, np.ndarray]:
        side = generator.integers(0, 2, rows).astype(bool)
        return {
            "number": np.where(side, np.nan, generator.normal(size=rows)),
            "city": np.where(side ^ swap, "Ulm", "Bonn").astype(object),
            "noise": generator.normal(size=rows),
        }

    reference, window = make(False), make(True)
    entries = build_entries(reference, {"number": "numeric", "city": "categorical", "noise": "numeric"})
    tables = [
        pa.table({name: pa.array(values, from_pandas=True) for name, values in found.items()})
        for found in (reference, window)
    ]
    found = separate_samples(entries, tables[0], tables[1], CONFIG)
    assert found.auc > 0.9
    assert {importance.feature for importance in found.importances[:2]} == {"number", "city"}


def test_encoding_is_that_of_the_profile() -> None:
    columns = {
        "n": np.array([0.1, 0.2, np.nan] * 20),
        "c": np.array(["b", "a", "b"] * 20, dtype=object),
        "t": np.array(["xyz", "x", ""] * 20, dtype=object),
        "m": np.arange(60.0),
    }
    entries = build_entries(columns, {"n": "numeric", "c": "categorical", "t": "text", "m": "time"})
    table = pa.table(
        {
            "n": [float(np.float32(0.1)), 0.1, 1e300, None],
            "c": ["a", "new", None, "b"],
            "t": ["four", None, "x", None],
            "m": [1.0, 2.0, None, 3.0],
        }
    )
    encoded = encode_rows(entries, table)
    assert encoded[0, 0] == encoded[1, 0]
    assert np.isfinite(encoded[2, 0])
    assert np.isnan(encoded[3, 0])
    np.testing.assert_array_equal(encoded[:, 1], [1.0, 2.0, np.nan, 0.0])
    np.testing.assert_array_equal(encoded[:, 2], [4.0, np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(encoded[:, 3], [1.0, 1.0, 0.0, 1.0])


def test_only_as_many_rows_as_configured_of_each_side_and_always_the_same() -> None:
    generator = np.random.default_rng(7)
    reference, window = name_columns(draw(generator, 300, 0.0)), name_columns(draw(generator, 900, 0.0))
    entries = build_entries(reference)
    found = separate_samples(entries, pa.table(reference), pa.table(window), CONFIG, trees=5)
    assert found.rows == 300
    assert found == separate_samples(entries, pa.table(reference), pa.table(window), CONFIG, trees=5)
    fewer = separate_samples(entries, pa.table(reference), pa.table(window), replace(CONFIG, rows=100), trees=5)
    assert fewer.rows == 100


def test_features_that_the_window_hides_are_left_out() -> None:
    generator = np.random.default_rng(8)
    reference, window = draw(generator, 200, 0.0), draw(generator, 200, 0.0)
    window[:, 0] += 5
    entries = build_entries(name_columns(reference))
    shown = pa.table(name_columns(window)).drop_columns(["f0"])
    assert separate_samples(entries, pa.table(name_columns(reference)), shown, CONFIG).auc < 0.6


def test_the_area_equals_scikit_learns() -> None:
    class Scores:
        def decision_function(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, 0]

    generator = np.random.default_rng(9)
    scores, is_window = generator.integers(0, 5, (80, 1)).astype(float), generator.random(80) < 0.4
    area, p_value = _rank(Scores(), scores, is_window)
    assert area == pytest.approx(roc_auc_score(is_window, scores[:, 0]))
    assert 0 < p_value < 1
    assert _rank(Scores(), np.zeros((80, 1)), is_window) == (0.5, 1.0)


def test_without_a_separation_the_check_says_why() -> None:
    check = check_multivariate(None, CONFIG, rows=7, missing="because")
    assert (check.state, check.message, check.rows, check.value) == (UNKNOWN, "because", 7, None)
