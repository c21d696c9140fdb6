"""What columns are: judged by their values, or stated; and the numbers and texts that a model sees of them."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.artifact.moments import to_seconds, to_text
from modelkit.contract.config import DataConfig
from modelkit.contract.recipe import ColumnTypeConfig
from modelkit.data.columns import as_array, infer_columns, to_rows
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.errors import RefusedError

ROWS = 60
RNG = np.random.default_rng(1)
LABELS = np.array(["no", "yes"] * (ROWS // 2))
WORDS = RNG.choice(["the", "pump", "leaks", "again", "since", "monday", "valve", "stuck"], (ROWS, 7))
PROSE = [" ".join(row) + f" {index}" for index, row in enumerate(WORDS)]


def _inferred(values: Any, stated: str | None = None) -> tuple[str, str, bool]:
    frame = pd.DataFrame({"x": values})
    (column,) = infer_columns(frame, ["x"], {} if stated is None else {"x": stated})
    return column.dtype, column.kind, column.nullable


def _seen(values: Any, stated: str | None = None) -> list[Any]:
    frame = pd.DataFrame({"x": values})
    columns = infer_columns(frame, ["x"], {} if stated is None else {"x": stated})
    seen = as_array(to_rows(frame, columns))[:, 0].tolist()
    return [None if value != value else value for value in seen]


def _refusal(values: Any, stated: str | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        _inferred(values, stated)
    assert caught.value.reason in {"BadColumnType", "NonFiniteValues"}
    return caught.value.message


MOMENTS = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-01-01"))


@given(MOMENTS)
def test_text_and_number_of_a_moment_are_each_others_inverse(moment: datetime) -> None:
    seconds = to_seconds(moment.isoformat())
    assert to_seconds(to_text(seconds)) == seconds
    assert datetime.fromisoformat(to_text(seconds)) == moment.replace(tzinfo=UTC)
    assert seconds == pytest.approx(moment.replace(tzinfo=UTC).timestamp())


@given(st.lists(MOMENTS, min_size=1, max_size=20))
def test_a_moment_is_the_same_number_from_text_and_from_pandas(moments: list[datetime]) -> None:
    from_text = _seen([moment.isoformat() for moment in moments], "Time")
    assert from_text == _seen(pd.Series(moments, dtype="datetime64[us]"))
    assert from_text == _seen(pd.Series(moments, dtype="datetime64[us]").dt.tz_localize("UTC"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400.0),
        (" 1970-01-01T00:00:01.5Z ", 1.5),
        ("1970-01-01 02:00+02:00", 0.0),
        ("1969-12-31T23:59:59.123456789", -0.876544),
    ],
)
def test_moments_are_utc_unless_they_say_otherwise(text: str, seconds: float) -> None:
    assert to_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "01.02.2026", "2026-02-30T00:00"])
def test_what_is_no_moment_is_an_error_without_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an ISO 8601 date$"):
        to_seconds(text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2026-01-01", "2026-01-02T10:00:00Z", None], ("datetime", "numeric", True)),
        (pd.date_range("2026-01-01", periods=3), ("datetime", "numeric", False)),
        (pd.date_range("2026-01-01", periods=3, tz="Asia/Tokyo"), ("datetime", "numeric", False)),
        (["2026-01", "2026-02"], ("string", "categorical", False)),
        (["2026-01-01", "soon"], ("string", "categorical", False)),
        (["2026-99-99", "2026-98-98"], ("string", "categorical", False)),
        (["a", ""], ("string", "categorical", True)),
        (PROSE, ("string", "text", False)),
        ([*PROSE, None], ("string", "text", True)),
        (PROSE[:5], ("string", "categorical", False)),
        (PROSE[:5] * 12, ("string", "categorical", False)),
        ([f"id-{index}" for index in range(ROWS)], ("string", "categorical", False)),
    ],
)
def test_kinds_are_judged_by_the_values(values: Any, expected: tuple[str, str, bool]) -> None:
    assert _inferred(values) == expected


@pytest.mark.parametrize(
    ("values", "stated", "expected", "seen"),
    [
        ([3, 1, 3], "Category", ("int64", "categorical", False), ["3", "1", "3"]),
        ([3.0, None, 1.0], "Category", ("int64", "categorical", True), ["3", "", "1"]),
        ([True, False], "Category", ("bool", "categorical", False), ["true", "false"]),
        ([True, None], "Category", ("bool", "categorical", True), ["true", ""]),
        (["a", "b", None], "Category", ("string", "categorical", True), ["a", "b", ""]),
        (["2026-01-01", "x"], "Category", ("string", "categorical", False), ["2026-01-01", "x"]),
        (["1", "2.5", None], "Number", ("float64", "numeric", True), [1.0, 2.5, None]),
        ([1, 2], "Number", ("int64", "numeric", False), [1.0, 2.0]),
        ([True, False], "Number", ("float64", "numeric", False), [1.0, 0.0]),
        ([0, 1, 1], "Boolean", ("bool", "numeric", False), [0.0, 1.0, 1.0]),
        (["true", "FALSE", None], "Boolean", ("bool", "numeric", True), [1.0, 0.0, None]),
        (["short", None], "Text", ("string", "text", True), ["short", ""]),
        ([None, None], "Text", ("string", "text", True), ["", ""]),
        (["1970-01-01T00:01", None], "Time", ("datetime", "numeric", True), [60.0, None]),
        ([date(1970, 1, 2)], "Time", ("datetime", "numeric", False), [86400.0]),
        ([60, 0], "Time", ("datetime", "numeric", False), [60.0, 0.0]),
    ],
)
def test_a_stated_type_decides(values: Any, stated: str, expected: tuple[str, str, bool], seen: list[Any]) -> None:
    if isinstance(values[0], date):
        values = pd.to_datetime(values)
    assert _inferred(values, stated) == expected
    assert _seen(values, stated) == seen


@pytest.mark.parametrize(
    ("values", "stated", "text"),
    [
        (["1", "secret", "3"], "Number", "1 of 3 rows that aren't numbers, first row 2"),
        ([1.0, np.inf], "Number", "infinite number in 1 of 2 rows"),
        (pd.date_range("2026-01-01", periods=2), "Number", "use the type Time"),
        ([0, 2], "Boolean", "1 of 2 rows that are neither true nor false"),
        (["yes", "no"], "Boolean", "2 of 2 rows"),
        ([1.0, 1.5], "Category", "1 of 2 rows that are fractional numbers, no codes, first row 2"),
        (pd.date_range("2026-01-01", periods=2), "Category", "dates"),
        ([1, 2], "Text", "is stated to be a Text, but holds numbers"),
        (["a", 1], "Text", "values of several types; expected text"),
        (["2026-01-01", "secret"], "Time", "1 of 2 rows that aren't ISO 8601 dates such as 2026-03-01"),
        ([True, False], "Time", "booleans"),
        (["a"], "Label", "must be Number, Boolean, Category, Text, Time; found 'Label'"),
        ([*["2026-01-01"] * 9, "secret"], None, "no ISO 8601 date in 1 of 10 rows where the others hold dates"),
    ],
)
def test_a_column_that_is_not_what_it_is_said_to_be_is_refused(values: Any, stated: str | None, text: str) -> None:
    message = _refusal(values, stated)
    assert text in message
    assert "'x'" in message
    assert "secret" not in message


def _build(**data: Any) -> Dataset:
    settings = {key: data.pop(key) for key in ("weight", "group", "time", "features", "columns") if key in data}
    frame = pd.DataFrame({"size": RNG.normal(size=ROWS), "target": LABELS} | data)
    config = DataConfig(uri="x", display_uri="pvc://claim/t.csv", target="target", **settings)
    return build_dataset(frame, config, "Classification")


def test_rows_have_weights_groups_and_times_that_are_no_features() -> None:
    customers = [f"c{index % 7}" for index in range(ROWS)]
    found = _build(
        w=np.arange(ROWS), customer=customers, day=pd.date_range("2026-01-01", periods=ROWS), weight="w",
        group="customer", time="day",
    )  # fmt: skip
    assert [column.name for column in found.columns] == ["size"]
    assert found.weights is not None
    assert found.weights.tolist() == list(range(ROWS))
    assert found.groups is not None
    assert found.groups.tolist() == [index % 7 for index in range(ROWS)]
    assert found.times is not None
    assert np.diff(found.times).tolist() == [86400.0] * (ROWS - 1)


def test_a_column_with_a_role_is_a_feature_where_features_names_it() -> None:
    found = _build(day=np.arange(ROWS), time="day", features=("size", "day"))
    assert [column.name for column in found.columns] == ["size", "day"]
    assert found.times is not None
    assert found.times.tolist() == list(range(ROWS))
    assert (found.weights, found.groups) == (None, None)


def test_roles_follow_the_rows_that_have_a_target() -> None:
    labels = LABELS.astype(object)
    labels[[0, 3]] = None
    found = _build(target=labels, n=np.arange(ROWS), weight="n", time="n", group="n")
    assert found.weights is not None
    assert found.weights.tolist()[:3] == [1, 2, 4]
    assert found.times is not None
    assert found.groups is not None
    assert len(found.times) == len(found.groups) == len(found.target) == ROWS - 2


def test_messages_number_the_rows_of_the_source_whatever_was_left_out() -> None:
    labels = LABELS.astype(object)
    labels[[0, 3]] = None
    for data in ({"n": _with(np.inf, 9, NUMBERS)}, {"w": _with(-1, 9, NUMBERS), "weight": "w"}):
        with pytest.raises(RefusedError, match="in 1 of 58 rows, first in row 10;"):
            _build(target=labels, **data)
    assert _build(target=labels).frame.index.tolist() == list(range(58))


def _with(value: Any, position: int, values: Any) -> list[Any]:
    changed = list(values)
    changed[position] = value
    return changed


NUMBERS = [float(number) for number in range(ROWS)]


@pytest.mark.parametrize(
    ("data", "reason", "text"),
    [
        (
            {"w": _with(-1.0, 4, NUMBERS), "weight": "w"},
            "BadWeights",
            "a negative number in 1 of 60 rows, first in row 5",
        ),
        ({"w": _with(None, 4, NUMBERS), "weight": "w"}, "BadWeights", "no value in 1 of 60 rows"),
        ({"w": _with(np.inf, 4, NUMBERS), "weight": "w"}, "BadWeights", "an infinite number"),
        ({"w": _with("secret", 4, map(str, NUMBERS)), "weight": "w"}, "BadWeights", "something else than a number"),
        ({"w": [0] * ROWS, "weight": "w"}, "BadWeights", "is 0 in all 60 rows"),
        ({"w": LABELS == "no", "weight": "w"}, "BadWeights", "must hold numbers; found bool"),
        ({"g": _with(None, 4, LABELS), "group": "g"}, "BadGroups", "no value in 1 of 60 rows, first in row 5"),
        ({"g": ["a"] * ROWS, "group": "g"}, "BadGroups", "a single group in all 60 rows"),
        ({"t": _with(None, 4, NUMBERS), "time": "t"}, "BadTimes", "no value in 1 of 60 rows"),
        ({"t": _with("secret", 4, ["2026-01-01"] * ROWS), "time": "t"}, "BadTimes", "no finite time in 1 of 60 rows"),
        ({"time": "tme", "time_": NUMBERS}, "ColumnNotFound", "column 'tme' not found"),
        ({"columns": (ColumnTypeConfig(name="sise", type="Number"),)}, "ColumnNotFound", "did you mean 'size'"),
        ({"group": "target"}, "TargetHasRole", "must not be the group column too"),
        ({"features": (), "weight": "size"}, "EmptyData", "no column beside the target, the weight"),
    ],
)
def test_rows_that_cannot_be_weighed_grouped_or_ordered_are_refused(
    data: dict[str, Any], reason: str, text: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        _build(**data)
    assert caught.value.reason == reason
    assert text in caught.value.message
    assert "secret" not in caught.value.message


def test_a_stated_category_is_kept_where_a_guess_would_leave_it_out() -> None:
    codes = [f"code-{index}" for index in range(ROWS * 2)]
    frame = pd.DataFrame({"code": codes, "size": range(ROWS * 2), "target": [*LABELS, *LABELS]})
    config = DataConfig(uri="x", display_uri="x", target="target")
    assert [column.name for column in build_dataset(frame.copy(), config, "Classification").columns] == ["size"]
    stated = DataConfig(
        uri="x", display_uri="x", target="target", columns=(ColumnTypeConfig(name="code", type="Category"),)
    )
    assert [c.name for c in build_dataset(frame.copy(), stated, "Classification").columns] == ["code", "size"]


def test_words_are_learnt_from_where_an_identifier_is_left_out() -> None:
    found = _build(complaint=PROSE)
    assert [(column.name, column.kind) for column in found.columns] == [("size", "numeric"), ("complaint", "text")]
