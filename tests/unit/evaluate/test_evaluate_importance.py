"""Permutation importance finds the columns that matter, as scikit-learn's does."""

import numpy as np
import pytest
from sklearn.inspection import permutation_importance as reference
from sklearn.linear_model import LinearRegression

from modelkit.evaluate.answers import Answers
from modelkit.evaluate.importance import permutation_importance

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 3))
TRUTH = 3 * ROWS[:, 1] + ROWS[:, 2]
MODEL = LinearRegression().fit(ROWS, TRUTH)
NAMES = ["unused", "strong", "weak"]


def _predict(rows: np.ndarray, truth: np.ndarray) -> Answers:
    return Answers("Regression", truth, MODEL.predict(rows))


def test_columns_come_in_the_order_of_their_importance() -> None:
    found = permutation_importance(_predict, ROWS, TRUTH, NAMES, "r2", seed=0)
    assert [entry.name for entry in found] == ["strong", "weak", "unused"]
    assert found[2].mean == pytest.approx(0, abs=1e-9)


def test_the_values_are_about_those_of_scikit_learn() -> None:
    found = {entry.name: entry.mean for entry in permutation_importance(_predict, ROWS, TRUTH, NAMES, "r2", seed=0)}
    expected = reference(MODEL, ROWS, TRUTH, scoring="r2", n_repeats=5, random_state=0).importances_mean
    assert [found[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=0.1, abs=1e-9)


def test_the_rows_are_left_as_they_were() -> None:
    before = ROWS.copy()
    permutation_importance(_predict, ROWS, TRUTH, NAMES, "rmse", seed=0)
    np.testing.assert_array_equal(ROWS, before)


def test_without_a_metric_there_is_no_importance() -> None:
    assert permutation_importance(_predict, ROWS, np.ones(400), NAMES, "r2", seed=0) == []
