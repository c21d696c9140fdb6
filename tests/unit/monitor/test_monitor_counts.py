"""Arrow columns of any type are counted as the values they hold."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.profile import build_profile, count_feature
from modelkit.errors import RefusedError
from modelkit.monitor.counts import Counts
from modelkit.monitor.reference import Reference, parse_reference
from tests.unit.monitor.rows import count_table, label_table

REFERENCE = np.random.default_rng(0).normal(50, 10, 400)
KINDS = {"age": "numeric", "city": "categorical"}


def build_reference(classes: list[Any] | None = None, scores: Any = None, predictions: Any = None) -> Reference:
    columns = {"age": REFERENCE, "city": np.array(["Ulm", "Bonn"] * 200, dtype=object)}
    task = "Regression" if classes is None else "Classification"
    answers = np.asarray(predictions if predictions is not None else REFERENCE[:100])
    profile = build_profile(columns, KINDS, answers, scores, task, classes)
    inputs = [{"name": name, "kind": kind} for name, kind in KINDS.items()]
    signature = {"task": task, "classes": classes, "inputs": inputs}
    return parse_reference(profile, {"metric": "rmse", "metrics": {"rmse": 1.0, "r2": None}}, signature)


def build_meta(rows: int, **columns: Any) -> pa.Table:
    defaults: dict[str, Any] = {
        "id": [f"r{index}" for index in range(rows)],
        "row": [0] * rows,
        "time": [datetime(2026, 1, 1, tzinfo=UTC)] * rows,
        "prediction": [50.0] * rows,
        "probabilities": pa.array([None] * rows, pa.list_(pa.float64())),
        "redacted": pa.nulls(rows, pa.list_(pa.string())),
        "label": pa.nulls(rows),
    }
    return pa.table(defaults | columns)


def count(reference: Reference, **features: Any) -> Counts:
    table = pa.table(features)
    return count_table(reference, table, build_meta(table.num_rows))


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), min_size=1, max_size=50), st.integers(0, 50)
)
def test_chunks_and_nulls_of_arrow_count_like_the_array(values: list[float | None], cut: int) -> None:
    reference = build_reference()
    chunks = pa.chunked_array([pa.array(values[:cut], pa.float64()), pa.array(values[cut:], pa.float64())])
    counted = count(reference, age=chunks, city=pa.array(["Ulm"] * len(values))).features[0].window
    plain = np.array([np.nan if value is None else value for value in values])
    expected = count_feature(reference.features["age"], plain)
    assert counted.counts.tolist() == expected.counts.tolist()
    assert (counted.nulls, counted.outside) == (expected.nulls, expected.outside)


@pytest.mark.parametrize(
    ("values", "valid", "nulls", "invalid"),
    [
        (pa.array([40, 50, None]), 2, 1, 0),
        (pa.array([True, False, None]), 2, 1, 0),
        (pa.array([40.5, 50.0, None], pa.float32()), 2, 1, 0),
        (pa.array(["40.5", "many", None]), 1, 1, 1),
        (pa.nulls(3), 0, 3, 0),
    ],
)
def test_a_numeric_feature_takes_any_number(values: pa.Array, valid: int, nulls: int, invalid: int) -> None:
    window = count(build_reference(), age=values, city=["Ulm"] * 3).features[0].window
    assert (window.valid, window.nulls, window.invalid) == (valid, nulls, invalid)


def test_a_feature_that_no_row_has_is_missing_in_every_row() -> None:
    age, city = count(build_reference(), age=[40.0, 50.0]).features
    assert (age.window.nulls, city.window.nulls) == (0, 2)
    assert city.window.counts.tolist() == [0, 0, 0]


def test_categories_are_counted_by_name() -> None:
    city = count(build_reference(), age=[1.0] * 4, city=["Ulm", "Kiel", None, ""]).features[1].window
    assert (city.valid, city.nulls, city.outside) == (2, 2, 1)


def test_no_rows_count_as_nothing() -> None:
    counts = count_table(build_reference(), pa.table({}), build_meta(0))
    assert counts.rows == 0
    assert all(column.window.rows == 0 for column in (*counts.features, *counts.outputs))


def test_scores_of_rows_without_probabilities_are_left_out() -> None:
    scores = np.stack([np.linspace(0, 1, 100), np.linspace(1, 0, 100)], axis=1)
    reference = build_reference(["no", "yes"], scores, np.array(["no", "yes"] * 50))
    meta = build_meta(3, prediction=["no", "yes", "no"], probabilities=pa.array([[0.1, 0.9], None, [0.8, 0.2]]))
    prediction, score = count_table(reference, pa.table({"age": [1.0] * 3}), meta).outputs
    assert prediction.window.counts.tolist() == [2, 1, 0]
    assert score.window.valid == 2


# -- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "predictions", "labels"),
    [
        ([0, 1], [0, 1, 1, 0], [0, 1, 0, None]),
        ([0, 1], ["0", "1", "1", "0"], [0.0, 1.0, 0.0, None]),
        (["no", "yes"], ["no", "yes", "yes", "no"], ["no", "yes", "no", None]),
        ([False, True], [False, True, True, False], ["false", "true", "false", None]),
    ],
)
def test_labels_and_predictions_meet_whatever_type_they_arrived_in(
    classes: list[Any], predictions: list[Any], labels: list[Any]
) -> None:
    reference = build_reference(classes, predictions=np.array(classes * 50))
    labelled = label_table(reference, build_meta(4, prediction=predictions, label=labels))
    assert labelled.answers.truth.tolist() == [0, 1, 0]
    assert labelled.answers.predictions.tolist() == [0, 1, 1]
    assert labelled.answers.classes == (0, 1)


def test_labels_of_an_unknown_class_are_counted_apart() -> None:
    reference = build_reference([0, 1], predictions=np.array([0, 1] * 50))
    labelled = label_table(reference, build_meta(3, prediction=[0, 1, 1], label=[0, 7, 1]))
    assert (len(labelled), labelled.unusable) == (2, 1)


def test_labels_of_a_regression_must_be_numbers() -> None:
    labelled = label_table(build_reference(), build_meta(3, prediction=[1.0, 2.0, 3.0], label=["1.5", "many", "3"]))
    assert labelled.answers.truth.tolist() == [1.5, 3.0]
    assert labelled.unusable == 1


def test_probabilities_are_used_only_when_every_labelled_row_has_them() -> None:
    reference = build_reference([0, 1], predictions=np.array([0, 1] * 50))
    every = pa.array([[0.1, 0.9], [0.8, 0.2], None])
    labelled = label_table(reference, build_meta(3, prediction=[1, 0, 0], label=[1, 0, None], probabilities=every))
    assert labelled.answers.probabilities is not None
    assert labelled.answers.probabilities.tolist() == [[0.1, 0.9], [0.8, 0.2]]
    some = label_table(reference, build_meta(3, prediction=[1, 0, 0], label=[1, 0, 1], probabilities=every))
    assert some.answers.probabilities is None


def test_no_labels_are_an_empty_selection() -> None:
    assert len(label_table(build_reference(), build_meta(2))) == 0
    reference = build_reference([0, 1], predictions=np.array([0, 1] * 50))
    assert len(label_table(reference, build_meta(0, prediction=pa.nulls(0)))) == 0


# -- reference ----------------------------------------------------------------------------------------------------


def test_a_metric_that_could_not_be_computed_is_left_out_of_the_reference() -> None:
    assert build_reference().metrics == {"rmse": 1.0}


def test_a_profile_of_another_format_is_refused() -> None:
    with pytest.raises(RefusedError, match="has the format 9; this monitor reads 1"):
        parse_reference({"format": 9}, {}, {})
