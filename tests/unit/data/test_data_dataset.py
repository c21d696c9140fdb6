"""What is learnt from and what is refused, with the column, the rule and the numbers in the message."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from modelkit.contract.config import DataConfig
from modelkit.data.columns import as_array, to_rows
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.data.split import split_rows
from modelkit.errors import RefusedError

ROWS = 200
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=ROWS)
LABELS = np.where(NUMBERS > 0, "yes", "no")


def _build(task: str = "Classification", features: tuple[str, ...] = (), **columns: Any) -> Dataset:
    frame = pd.DataFrame({"size": NUMBERS, "target": LABELS if task == "Classification" else NUMBERS} | columns)
    return build_dataset(frame, _config(features), task)


def _config(features: tuple[str, ...] = ()) -> DataConfig:
    return DataConfig(uri="x", display_uri="pvc://claim/t.csv", target="target", features=features)


def _refusal(task: str = "Classification", features: tuple[str, ...] = (), **columns: Any) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        _build(task, features, **columns)
    return caught.value.reason, caught.value.message


def _with(values: Any, changes: dict[int, Any]) -> list[Any]:
    changed = list(values)
    for position, value in changes.items():
        changed[position] = value
    return changed


def test_columns_have_the_types_of_their_values() -> None:
    found = _build(
        count=range(ROWS),
        flag=NUMBERS > 0,
        city=RNG.choice(["a", "b"], ROWS),
        gaps=_with(NUMBERS, {3: None}),
        maybe=_with(NUMBERS > 0, {3: None}),
        area=_with(RNG.choice(["a", "b"], ROWS), {3: None}),
    )
    assert [(c.name, c.dtype, c.kind, c.nullable) for c in found.columns] == [
        ("size", "float64", "numeric", False),
        ("count", "int64", "numeric", False),
        ("flag", "bool", "numeric", False),
        ("city", "string", "categorical", False),
        ("gaps", "float64", "numeric", True),
        ("maybe", "bool", "numeric", True),
        ("area", "string", "categorical", True),
    ]
    row = as_array(found.rows())[3].tolist()
    assert np.isnan(row[4])
    assert np.isnan(row[5])
    assert row[6] == ""


def test_numeric_columns_alone_are_a_matrix() -> None:
    found = _build(count=range(ROWS))
    rows = found.rows()
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.float64
    assert rows.shape == (ROWS, 2)


def test_features_are_learnt_from_in_the_order_of_the_specification() -> None:
    found = _build(features=("b", "a"), a=NUMBERS, b=NUMBERS)
    assert [column.name for column in found.columns] == ["b", "a"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (NUMBERS > 0, (0, 1)),
        (np.where(NUMBERS > 0, 3, 1), (1, 3)),
        (np.where(NUMBERS > 0, 3.0, 1.0), (1, 3)),
        (LABELS, ("no", "yes")),
        (_with(NUMBERS > 0, {0: None}), (0, 1)),
    ],
)
def test_classes_are_whole_numbers_or_texts_and_sorted(target: Any, expected: tuple[Any, ...]) -> None:
    assert _build(target=target).classes == expected


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    found = _build(target=_with(LABELS, {0: None, 5: None}))
    assert len(found.target) == len(found.frame) == ROWS - 2
    assert found.notes == (f"2 of {ROWS} rows have no target and were left out",)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([None] * ROWS, "column 'extra' is empty"),
        ([1.5] * ROWS, "column 'extra' holds a single value"),
        (["x"] * ROWS, "column 'extra' holds a single value"),
        ([f"id-{n}" for n in range(ROWS)], "200 different texts in 200 rows, like an identifier"),
    ],
)
def test_a_column_that_says_nothing_is_left_out_and_noted(values: list[Any], text: str) -> None:
    found = _build(extra=values)
    assert [column.name for column in found.columns] == ["size"]
    assert text in found.notes[0]


@pytest.mark.parametrize(
    ("columns", "reason", "texts"),
    [
        ({"target": ["yes"] * ROWS}, "SingleClass", ["'target'", "all 200 rows"]),
        ({"target": [None] * ROWS}, "TargetMissing", ["no value in any row"]),
        ({"target": [*["yes", "no"] * 50, *[None] * 100]}, "TargetMissing", ["100 of 200 rows", "20%"]),
        ({"target": NUMBERS}, "TargetNotClasses", ["fractional numbers"]),
        ({"target": _with(NUMBERS.round(), {0: np.inf})}, "TargetNotClasses", ["'target'"]),
        ({"target": range(ROWS)}, "TooManyClasses", ["200 classes in 200 rows"]),
        ({"target": pd.date_range("2026-01-01", periods=ROWS)}, "TargetNotClasses", ["dates"]),
        ({"size": [np.nan] * ROWS}, "NoUsableColumn", ["column 'size' is empty"]),
        ({"size": [1.0] * ROWS}, "NoUsableColumn", ["single value"]),
        ({"size": _with(NUMBERS, {4: np.inf, 9: -np.inf})}, "NonFiniteValues", ["'size'", "2 of 200", "row 5"]),
        ({"size": _with(NUMBERS.astype(str), {6: "secret"})}, "BadColumnType", ["'size'", "1 of 200", "row 7"]),
        (
            {"size": _with(["2026-01-01", "2026-01-02"] * 100, {60: "secret"})},
            "BadColumnType",
            ["'size' holds no ISO 8601 date", "1 of 200", "row 61"],
        ),
        ({"size": ["2026-01-01"] * ROWS}, "NoUsableColumn", ["single value"]),
        ({"size": pd.to_timedelta(range(ROWS), unit="s")}, "BadColumnType", ["several types"]),
        ({"size": _with(list(LABELS), {0: 3})}, "BadColumnType", ["several types"]),
        ({"features": ("siez",)}, "ColumnNotFound", ["'siez' not found", "size, target", "did you mean 'size'"]),
        ({"features": ("size", "target")}, "TargetIsFeature", ["'target'"]),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(columns: dict[str, Any], reason: str, texts: list[str]) -> None:
    found, message = _refusal(**columns)
    assert found == reason
    assert all(text in message for text in texts), message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("target", "reason", "text"),
    [
        (LABELS, "TargetNotNumeric", "must be numbers"),
        (NUMBERS > 0, "TargetNotNumeric", "found bool"),
        ([2.0] * ROWS, "ConstantTarget", "the same number in all 200 rows"),
        (_with(NUMBERS, {0: np.inf}), "NonFiniteValues", "1 of 200"),
    ],
)
def test_a_target_that_cannot_be_regressed_is_refused(target: Any, reason: str, text: str) -> None:
    found, message = _refusal("Regression", target=target)
    assert found == reason
    assert text in message


def test_a_missing_target_names_the_columns_and_the_nearest() -> None:
    with pytest.raises(RefusedError) as caught:
        build_dataset(pd.DataFrame({"a": [1], "Target": [1]}), _config(), "Classification")
    assert caught.value.reason == "ColumnNotFound"
    assert caught.value.message == (
        "column 'target' not found in pvc://claim/t.csv; columns are: a, Target; did you mean 'Target'?"
    )


def test_a_table_with_the_target_alone_is_refused() -> None:
    with pytest.raises(RefusedError, match="no column beside the target"):
        build_dataset(pd.DataFrame({"target": [0, 1]}), _config(), "Classification")


def test_a_request_is_seen_as_training_saw_its_rows() -> None:
    columns = _build(city=RNG.choice(["a", "b"], ROWS), flag=NUMBERS > 0).columns
    sent = pd.DataFrame({"flag": [True, None], "city": ["new", None], "size": ["1.5", "text"]})
    assert as_array(to_rows(sent, columns)).tolist()[0] == [1.5, "new", 1.0]
    assert as_array(to_rows(sent, columns)).tolist()[1][1] == ""


@pytest.mark.parametrize("stratify", [True, False])
def test_rows_are_split_as_scikit_learn_splits_them(stratify: bool) -> None:
    split = split_rows(LABELS, 0.25, 7, stratify=stratify)
    train, test = train_test_split(
        np.arange(ROWS), test_size=0.25, random_state=7, stratify=LABELS if stratify else None
    )
    assert split.train.tolist() == train.tolist()
    assert split.test.tolist() == test.tolist()


@pytest.mark.parametrize("target", [["a", "b"], ["a"] * 9 + ["b"], ["a", "a", "b", "b", "c", "c"]])
def test_too_few_rows_for_a_split_are_refused(target: list[str]) -> None:
    with pytest.raises(RefusedError, match="can't be split") as caught:
        split_rows(np.array(target, object), 0.2, 0, stratify=True)
    assert caught.value.reason == "TooFewRows"
