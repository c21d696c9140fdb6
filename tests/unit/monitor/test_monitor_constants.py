"""A feature that varied and has one value only is found, whatever the split, and never where chance may explain it."""

import json
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelkit.contract.monitoring import DataQualityConfig
from modelkit.data.profile import Histogram, build_profile, count_feature, reference_histogram
from modelkit.monitor.constants import SEVERAL, find_constants, merge_constants
from modelkit.monitor.counts import Column
from modelkit.monitor.data_quality import CONSTANT, check_data_quality, find_problems, is_surprising
from modelkit.monitor.statistics import recurrence_p_value

KINDS = {"age": "numeric", "city": "categorical", "note": "text"}
GENERATOR = np.random.default_rng(0)
COLUMNS = {
    "age": GENERATOR.normal(50, 10, 300),
    "city": np.array(["Ulm", "Bonn", "Köln"] * 100, dtype=object),
    "note": np.array(["a", "bb", "ccc"] * 100, dtype=object),
}
ENTRIES = build_profile(COLUMNS, KINDS, np.arange(3.0), None, "Regression", None)["features"]
CONFIG = DataQualityConfig()
ROW = st.tuples(
    st.none() | st.sampled_from([4.0, 4.5, float("nan")]),
    st.none() | st.sampled_from(["Ulm", ""]),
    st.none() | st.sampled_from(["a", "b"]),
)


def find(rows: list[Any]) -> dict[str, int]:
    ages, cities, notes = zip(*rows, strict=True) if rows else [()] * 3
    columns = {"age": pa.array(ages, pa.float64()), "city": pa.array(cities, pa.string())}
    return find_constants(ENTRIES, pa.table({**columns, "note": pa.array(notes, pa.string())}))


@given(st.lists(ROW, max_size=30), st.lists(st.integers(0, 30), max_size=5), st.randoms(use_true_random=False))
def test_any_split_in_any_order_is_one_pass(rows: list[Any], cuts: list[int], random: Any) -> None:
    whole = find(rows)
    random.shuffle(rows)
    borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [find(rows[low:high]) for low, high in pairwise(borders)]
    random.shuffle(parts)
    assert reduce(merge_constants, parts, {}) == whole


BYTES = st.dictionaries(st.sampled_from("abc"), st.integers(SEVERAL, 2))


@given(BYTES, BYTES, BYTES)
def test_merging_is_commutative_and_associative(a: Any, b: Any, c: Any) -> None:
    assert merge_constants(a, b) == merge_constants(b, a)
    assert merge_constants(merge_constants(a, b), c) == merge_constants(a, merge_constants(b, c))


@pytest.mark.parametrize("late", [0, 63, 64, 199])
def test_a_second_value_is_seen_wherever_it_is(late: int) -> None:
    values = np.full(200, 7.5)
    values[late] = 7.6
    assert find_constants(ENTRIES, pa.table({"age": values})) == {"age": SEVERAL}
    assert find_constants(ENTRIES, pa.table({"age": np.full(200, 7.5)}))["age"] != SEVERAL


@pytest.mark.parametrize("values", [pa.array([1, 1]), pa.array([1.0, None]), pa.array(["1", "1"]), pa.array([True])])
def test_a_number_is_the_same_whatever_type_its_batch_has(values: pa.Array) -> None:
    assert find_constants(ENTRIES, pa.table({"age": values})) == find_constants(ENTRIES, pa.table({"age": [1.0]}))


def test_what_is_kept_of_a_value_is_one_byte() -> None:
    found = find([(4711.0815, "secret-city", "secret-note")] * 3)
    assert "secret" not in json.dumps(found)
    assert all(0 <= byte < 256 for byte in found.values())


# -- the check ----------------------------------------------------------------------------------------------------


def build_column(reference: Any, window: Any, kind: str = "numeric") -> Column:
    reference, window = np.asarray(reference), np.asarray(window)
    entry = build_profile({"x": reference}, {"x": kind}, np.arange(3.0), None, "Regression", None)["features"]["x"]
    is_constant = find_constants({"x": entry}, pa.table({"x": window})).get("x", SEVERAL) != SEVERAL
    return Column("x", entry, reference_histogram(entry), count_feature(entry, window), is_constant)


def is_found(column: Column) -> bool:
    return any(problem.found for problem in find_problems([column], CONFIG, 50) if problem.kind == CONSTANT)


def test_a_feature_that_got_stuck_is_told_with_its_name() -> None:
    column = build_column(GENERATOR.normal(size=500), np.full(200, 0.5))
    result = check_data_quality(find_problems([column], CONFIG, 50), None, 1, 200, CONFIG, 50)
    assert result.state == "Breached"
    assert "worst: 'x' has one value only, but varied in the reference" in result.message
    assert [finding.name for finding in result.worst] == ["x"]


def test_a_category_that_got_stuck_is_found() -> None:
    assert is_found(
        build_column(np.array(["a", "b", "c"] * 100, dtype=object), np.array(["b"] * 60, dtype=object), "categorical")
    )


def test_a_feature_that_was_constant_before_may_stay_so() -> None:
    assert not is_found(build_column(np.full(5, 3.0), np.full(100_000, 3.0)))


def test_an_indicator_that_is_nearly_always_zero_may_be_zero() -> None:
    reference = np.zeros(500)
    reference[:5] = 1.0
    assert not is_found(build_column(reference, np.zeros(500)))
    assert is_found(build_column(reference, np.zeros(20_000)))


def test_too_few_values_say_nothing() -> None:
    window = np.where(np.arange(200) < 49, 0.5, np.nan)
    assert not is_found(build_column(GENERATOR.normal(size=500), window))
    assert is_found(build_column(GENERATOR.normal(size=500), np.where(np.arange(200) < 50, 0.5, np.nan)))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 2000))
def test_the_chance_of_recurrence_is_the_beta_binomial_one(marked: int, others: int, again: int) -> None:
    expected = stats.betabinom.pmf(again, again, marked + 1, others + 1)
    assert recurrence_p_value(marked, marked + others, again) == pytest.approx(float(expected), rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("rare", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("rows", [50, 1000, 20_000])
def test_in_1_000_windows_of_a_rarely_varying_feature_none_is_taken_for_constant(rare: float, rows: int) -> None:
    generator = np.random.default_rng(5)
    found = 0
    for marks in generator.binomial(500, rare, 1000).tolist():
        if marks and generator.random() < (1 - rare) ** rows:
            counts = np.array([500 - marks, marks])
            column = Column("x", {}, Histogram(counts), Histogram(np.array([rows, 0])), is_constant=True)
            found += is_surprising(column)
    assert found == 0
