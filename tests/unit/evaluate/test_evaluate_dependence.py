"""Partial dependence is scikit-learn's, of any function that answers rows."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import partial_dependence as reference
from sklearn.linear_model import LinearRegression

from modelkit.evaluate.dependence import GRID, partial_dependence

RNG = np.random.default_rng(0)
ROWS = np.column_stack([RNG.normal(size=200), RNG.integers(0, 4, 200), RNG.normal(size=200)])


def test_numbers_are_those_of_scikit_learn() -> None:
    model = LinearRegression().fit(ROWS, ROWS[:, 0] * 2 + ROWS[:, 1])
    for column in (0, 1):
        found = partial_dependence(lambda rows: (model.predict(rows), None), ROWS, column, "c", None, seed=0)
        expected = reference(model, ROWS, [column], grid_resolution=GRID, kind="average", method="brute")
        assert found is not None
        assert found.grid == pytest.approx(expected["grid_values"][0].tolist())
        assert [value for (value,) in found.values] == pytest.approx(expected["average"][0].tolist())


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(classes: int) -> None:
    truth = np.digitize(ROWS[:, 0], [0.0, 0.8][: classes - 1])
    model = RandomForestClassifier(5, random_state=0).fit(ROWS, truth)

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return model.predict(rows), model.predict_proba(rows)

    found = partial_dependence(predict, ROWS, 0, "c", tuple(range(classes)), seed=0)
    expected = reference(model, ROWS, [0], grid_resolution=GRID, kind="average", method="brute")
    assert found is not None
    np.testing.assert_allclose(np.array(found.values).T, expected["average"])


def test_categories_come_by_frequency_and_missing_values_are_no_point() -> None:
    rows = np.array([["b", 1.0], ["b", np.nan], ["a", 2.0], ["", 3.0]], dtype=object)

    def predict(asked: np.ndarray) -> tuple[np.ndarray, None]:
        return (asked[:, 0] == "b").astype(float), None

    found = partial_dependence(predict, rows, 0, "c", None, seed=0)
    assert found is not None
    assert (found.grid, found.values) == (("b", "a"), ((1.0,), (0.0,)))
    numbers = partial_dependence(predict, rows, 1, "n", None, seed=0)
    assert numbers is not None
    assert numbers.grid == (1.0, 2.0, 3.0)


def test_without_probabilities_a_class_counts_the_rows_that_are_said_to_be_of_it() -> None:
    def predict(rows: np.ndarray) -> tuple[np.ndarray, None]:
        return np.where(rows[:, 0] > 0, "yes", "no").astype(object), None

    found = partial_dependence(predict, np.array([[-1.0, 0.0], [1.0, 0.0]]), 0, "c", ("no", "yes"), seed=0)
    assert found is not None
    assert found.values == ((0.0,), (1.0,))


def test_a_column_with_one_value_has_no_dependence() -> None:
    assert partial_dependence(lambda rows: (rows[:, 0], None), np.ones((5, 2)), 1, "c", None, seed=0) is None
