"""Slices find the rows of numbers, texts, truth values and times, and are measured as scikit-learn measures them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from modelkit.contract.config import ComparisonConfig
from modelkit.contract.recipe import SliceConfig
from modelkit.errors import RefusedError
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.bootstrap import paired_differences
from modelkit.evaluate.importance import select
from modelkit.evaluate.slices import MINIMUM_ROWS, check_slices, describe_slices, find_slices, measure_slices

FRAME = pd.DataFrame(
    {
        "age": [10, 20, 30, 40, 50],
        "income": [1.0, 2.5, None, 4.0, -1.0],
        "country": ["de", "fr", None, "de", "it"],
        "member": [True, False, True, True, False],
        "maybe": pd.Series([True, None, False, True, None], dtype=object),
        "seen": pd.to_datetime(["2025-01-31", "2025-02-01", None, "2026-02-01", "2026-03-01T12:30"], format="ISO8601"),
        "day": ["2025-01-31", "2025-02-01", None, "2026-02-01", "2026-03-01"],
    }
)
NEW_YEAR_2026 = 1767225600.0


@pytest.mark.parametrize(
    ("column", "values", "minimum", "maximum", "rows"),
    [
        ("age", (), 20, 40, [1, 2]),
        ("age", (), None, 20, [0]),
        ("age", (), 40, None, [3, 4]),
        ("age", ("20", "50.0"), None, None, [1, 4]),
        ("income", (), 1.0, None, [0, 1, 3]),
        ("income", ("2.5", "none"), None, None, [1]),
        ("country", ("de", "it"), None, None, [0, 3, 4]),
        ("country", ("nan", "None"), None, None, []),
        ("member", ("true",), None, None, [0, 2, 3]),
        ("maybe", ("False",), None, None, [2]),
        ("seen", ("2025",), None, None, [0, 1]),
        ("seen", ("2026-02", "2026-03-01T12"), None, None, [3, 4]),
        ("seen", (), NEW_YEAR_2026, None, [3, 4]),
        ("day", (), None, NEW_YEAR_2026, [0, 1]),
    ],
)
def test_a_slice_has_the_rows_that_it_names(
    column: str, values: tuple[str, ...], minimum: float | None, maximum: float | None, rows: list[int]
) -> None:
    config = SliceConfig(name="s", column=column, values=values, minimum=minimum, maximum=maximum)
    (found,) = find_slices(FRAME, [config])
    assert found.rows.tolist() == rows


def test_a_column_that_is_not_there_or_cannot_be_compared_is_refused() -> None:
    with pytest.raises(RefusedError, match="column 'city', which the data doesn't have") as caught:
        check_slices(FRAME, [SliceConfig(name="s", column="city", values=("x",))])
    assert caught.value.reason == "SliceColumnNotFound"
    with pytest.raises(RefusedError, match="neither numbers nor times") as caught:
        check_slices(FRAME, [SliceConfig(name="s", column="country", minimum=1.0)])
    assert caught.value.reason == "BadSlice"


def _two_models(rows: int) -> tuple[pd.DataFrame, Answers, Answers]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, rows)
    new = np.where(rng.random(rows) < 0.9, truth, 1 - truth)
    old = np.where(rng.random(rows) < 0.7, truth, 1 - truth)
    frame = pd.DataFrame({"part": np.where(np.arange(rows) < rows // 2, "first", "second")})
    weights = rng.random(rows) + 0.5
    return (
        frame,
        Answers("Classification", truth, new, None, (0, 1), weights),
        Answers("Classification", truth, old, None, (0, 1), weights),
    )


def test_both_models_are_measured_on_the_rows_of_the_slice() -> None:
    frame, new, old = _two_models(200)
    configs = [SliceConfig(name=name, column="part", values=(name,), metrics=("f1",)) for name in ("first", "second")]
    comparisons = (
        ComparisonConfig(metric="f1", slice="second", confidence=0.9),
        ComparisonConfig(metric="accuracy"),
    )
    measured = measure_slices(find_slices(frame, configs), new, old, comparisons, seed=1)
    rows = np.arange(100, 200)
    assert new.weights is not None
    for answers, found in ((new, measured[1].metrics), (old, measured[1].champion)):
        expected = f1_score(new.truth[rows], answers.predictions[rows], sample_weight=new.weights[rows])
        assert found["f1"] == pytest.approx(expected)
    assert measured[0].differences == {}
    assert measured[1].differences == paired_differences(select(new, rows), select(old, rows), {"f1": 0.9}, seed=1)

    result = measured[1].to_result()
    assert (result.name, result.rows, set(result.metrics), set(result.champion)) == ("second", 100, {"f1"}, {"f1"})
    described = describe_slices(measured, new, 0.95, seed=1)
    assert [entry["rows"] for entry in described] == [100, 100]
    low, high = described[1]["intervals"]["f1"]
    assert low <= described[1]["metrics"]["f1"] <= high


def test_of_few_rows_nothing_is_said() -> None:
    frame, new, old = _two_models(2 * MINIMUM_ROWS - 2)
    slices = find_slices(frame, [SliceConfig(name="few", column="part", values=("first",), metrics=("f1",))])
    measured = measure_slices(slices, new, old, (ComparisonConfig(metric="f1", slice="few"),), seed=1)
    result = measured[0].to_result()
    assert (result.rows, result.metrics, result.champion, result.differences) == (MINIMUM_ROWS - 1, {}, {}, {})
    assert describe_slices(measured, new, 0.95, 1)[0]["metrics"] == {}
