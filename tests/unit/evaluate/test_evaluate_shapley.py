"""SHAP values add up to the answers, whatever the model, and belong to the input columns."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR

from modelkit.evaluate.shapley import explain_rows, find_origins, transform_of

RNG = np.random.default_rng(0)
ROWS = np.empty((120, 4), dtype=object)
ROWS[:, 0] = RNG.normal(size=120)
ROWS[:, 1] = RNG.choice(["a", "b", "c"], 120)
ROWS[:, 2] = RNG.normal(size=120)
ROWS[:, 3] = RNG.normal(size=120)
SCORE = 3 * ROWS[:, 0].astype(float) + 2 * (ROWS[:, 1] == "a") + 0.1 * ROWS[:, 2].astype(float)


def _pipeline(model: Any, classes: int) -> Pipeline:
    """Numbers and categories; the last column isn't used."""
    encode = ColumnTransformer([("n", StandardScaler(), [0, 2]), ("c", OneHotEncoder(), [1])])
    target = SCORE if classes == 0 else np.digitize(SCORE, [0.0, 3.0][: classes - 1])
    return Pipeline([("columns", encode), ("model", clone(model))]).fit(ROWS, target)


def _expected(pipeline: Pipeline, unit: str, outputs: int) -> np.ndarray:
    if unit == "Target":
        found = pipeline.predict(ROWS[:20])
    elif unit == "Probability":
        found = pipeline.predict_proba(ROWS[:20])[:, -outputs:]
    else:
        found = pipeline.decision_function(ROWS[:20])
    return np.asarray(found).reshape(20, -1)


@pytest.mark.parametrize(
    ("model", "classes", "method", "unit"),
    [
        (RandomForestClassifier(10, random_state=0), 2, "Tree", "Probability"),
        (RandomForestClassifier(10, random_state=0), 3, "Tree", "Probability"),
        (RandomForestRegressor(10, random_state=0), 0, "Tree", "Target"),
        (HistGradientBoostingRegressor(max_iter=10), 0, "Tree", "Target"),
        (GradientBoostingClassifier(n_estimators=5, random_state=0), 2, "Tree", "Score"),
        (GradientBoostingClassifier(n_estimators=5, random_state=0), 3, "Permutation", "Probability"),
        (LogisticRegression(), 2, "Linear", "Score"),
        (LogisticRegression(), 3, "Linear", "Score"),
        (Ridge(), 0, "Linear", "Target"),
        (RidgeClassifier(), 2, "Linear", "Score"),
        (GaussianNB(), 2, "Permutation", "Probability"),
        (SVR(), 0, "Permutation", "Target"),
    ],
)
def test_values_and_base_add_up_to_the_answer(model: Any, classes: int, method: str, unit: str) -> None:
    pipeline = _pipeline(model, classes)
    found = explain_rows(pipeline, ROWS[:20], ROWS, is_classifier=classes > 0, seed=3)
    assert (found.method, found.unit) == (method, unit)
    outputs = classes if classes > 2 else 1
    assert found.values.shape == (20, 4, outputs)
    expected = _expected(pipeline, unit, outputs)
    tolerance = 1e-6 * max(1.0, float(np.ptp(expected)))
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base, expected, atol=tolerance)
    strength = np.abs(found.values).mean(axis=(0, 2))
    assert np.argmax(strength) == 0
    assert strength[3] == pytest.approx(0, abs=1e-9)  # a column that the model isn't given
    again = explain_rows(pipeline, ROWS[:20], ROWS, is_classifier=classes > 0, seed=3)
    np.testing.assert_array_equal(found.values, again.values)


def test_linear_values_are_coefficient_times_distance_from_the_mean() -> None:
    rows = ROWS[:, [0, 2]].astype(float)
    pipeline = Pipeline([("model", Ridge())]).fit(rows, SCORE)
    found = explain_rows(pipeline, rows[:5], rows[:50], is_classifier=False, seed=0)
    expected = (rows[:5] - rows[:50].mean(axis=0)) * pipeline[-1].coef_
    np.testing.assert_allclose(found.values[:, :, 0], expected)


def test_each_feature_is_traced_to_the_column_that_it_is_made_of() -> None:
    pipeline = _pipeline(Ridge(), 0)
    assert find_origins(transform_of(pipeline[:-1]), ROWS) == [0, 2, 1, 1, 1]


def test_sampled_values_of_a_model_without_interactions_are_the_exact_ones() -> None:
    rows = ROWS[:, [0, 2, 3]].astype(float)
    models = (Ridge(), TransformedTargetRegressor(Ridge()))  # the second's coefficients can't be seen from outside
    open_, hidden = (Pipeline([("model", model)]).fit(rows, SCORE.astype(float)) for model in models)
    exact = explain_rows(open_, rows[:10], rows[:20], is_classifier=False, seed=0)
    sampled = explain_rows(hidden, rows[:10], rows[:20], is_classifier=False, seed=0)
    assert (exact.method, sampled.method) == ("Linear", "Permutation")
    np.testing.assert_allclose(sampled.values, exact.values)
