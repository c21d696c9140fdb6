"""Repeated rows are counted exactly while they are few, well when they are many, and the same for any split."""

import json
import subprocess
import sys
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.monitoring import DataQualityConfig
from modelkit.data.profile import build_profile
from modelkit.data.row_hash import measure_duplicates
from modelkit.monitor.data_quality import check_data_quality, find_duplicates, find_problems
from modelkit.monitor.duplicates import K, RowSketch, sketch_from_bytes, sketch_rows, sketch_to_bytes
from modelkit.monitor.reference import Reference, parse_reference

NAMES = ("age", "city")
ROW = st.tuples(st.none() | st.sampled_from([0.0, 1.0, -2.5]), st.none() | st.sampled_from(["Ulm", "Bonn", ""]))


def sketch(rows: list[Any]) -> RowSketch:
    ages, cities = zip(*rows, strict=True) if rows else ((), ())
    return sketch_rows(
        NAMES, pa.table({"age": pa.array(ages, pa.float64()), "city": pa.array(cities, pa.string())}), len(rows)
    )


def plain(found: RowSketch) -> Any:
    return found.rows, found.hashes.tolist(), found.counts.tolist()


def of_numbers(numbers: np.ndarray) -> RowSketch:
    return sketch_rows(("x",), pa.table({"x": numbers}), len(numbers))


@given(st.lists(ROW, max_size=40), st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_any_split_in_any_order_is_one_pass(rows: list[Any], cuts: list[int], random: Any) -> None:
    for most in (3, K):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("modelkit.monitor.duplicates.K", most)
            whole = plain(sketch(rows))
            random.shuffle(rows)
            borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
            parts = [sketch(rows[low:high]) for low, high in pairwise(borders)]
            random.shuffle(parts)
            assert plain(reduce(RowSketch.merge, parts, RowSketch())) == whole


@given(st.lists(ROW, max_size=12), st.lists(ROW, max_size=12), st.lists(ROW, max_size=12))
def test_merging_is_commutative_and_associative(first: list[Any], second: list[Any], third: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelkit.monitor.duplicates.K", 4)
        a, b, c = sketch(first), sketch(second), sketch(third)
        assert plain(a.merge(b)) == plain(b.merge(a))
        assert plain(a.merge(b).merge(c)) == plain(a.merge(b.merge(c)))


@given(st.lists(ROW, min_size=1, max_size=40))
def test_few_different_rows_are_counted_exactly(rows: list[Any]) -> None:
    frame = pd.DataFrame([(age, city or None) for age, city in rows])
    assert sketch(rows).share == pytest.approx(float(frame.duplicated().mean()))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_many_different_rows_are_estimated(share: float) -> None:
    generator = np.random.default_rng(1)
    rows = 300_000
    numbers = generator.normal(size=rows)
    numbers[: round(share * rows)] = generator.choice(numbers[round(share * rows) :], round(share * rows))
    assert of_numbers(numbers).share == pytest.approx(share, abs=0.005 if share < 0.1 else 0.02)


def test_one_row_that_comes_a_hundred_thousand_times_is_seen_among_as_many_others() -> None:
    numbers = np.random.default_rng(1).normal(size=200_000)
    numbers[::2] = 7.0
    assert of_numbers(numbers).share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2, None]), pa.array([1.0, 2.0, None])),
        (pa.array([0.0]), pa.array([-0.0])),
        (pa.array([True]), pa.array(["true"])),
        (pa.array(["a", None, ""]), pa.array(["a", "", None]).dictionary_encode()),
        (pa.nulls(2), pa.array([None, ""])),
    ],
)
def test_a_value_is_the_same_whatever_type_its_batch_has(first: pa.Array, second: pa.Array) -> None:
    one, two = (sketch_rows(("x",), pa.table({"x": values}), len(values)) for values in (first, second))
    assert plain(one) == plain(two)


def test_rows_that_differ_in_one_value_or_in_its_column_are_different() -> None:
    table = pa.table({"a": [1.0, 2.0, 1.0, 2.0], "b": [2.0, 1.0, 1.0, 2.0]})
    assert sketch_rows(("a", "b"), table, 4).share == 0


def test_hashes_are_the_same_in_every_process() -> None:
    code = (
        "import pyarrow as pa; from modelkit.monitor.duplicates import sketch_rows; "
        "print(sketch_rows(('age', 'city'), pa.table({'age': [4.5], 'city': ['Ulm']}), 1).hashes.tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(printed) == sketch([(4.5, "Ulm")]).hashes.tolist()


def test_a_sketch_survives_its_file_and_another_file_is_an_error() -> None:
    found = sketch([(1.0, "Ulm"), (1.0, "Ulm"), (None, "Bonn")])
    assert plain(sketch_from_bytes(sketch_to_bytes(found))) == plain(found)
    with pytest.raises(pa.ArrowException):
        sketch_from_bytes(b"damaged")


@given(st.lists(ROW, min_size=1, max_size=40))
def test_training_counts_what_pandas_counts(rows: list[Any]) -> None:
    ages = np.array([np.nan if age is None else age for age, _ in rows])
    cities = np.array([city or "" for _, city in rows], dtype=object)
    expected = pd.DataFrame({"age": ages, "city": cities}).duplicated().mean()
    assert measure_duplicates({"age": ages, "city": cities}) == pytest.approx(float(expected))


# -- the check ----------------------------------------------------------------------------------------------------


def build_reference(numbers: np.ndarray) -> Reference:
    profile = build_profile({"x": numbers}, {"x": "numeric"}, np.arange(3.0), None, "Regression", None)
    signature = {"task": "Regression", "classes": None, "inputs": [{"name": "x"}]}
    return parse_reference(profile, {"metric": "rmse", "metrics": {"rmse": 1.0}}, signature)


def draw(generator: np.random.Generator, rows: int, share: float) -> np.ndarray:
    numbers = generator.normal(size=rows)
    repeated = generator.random(rows) < share
    numbers[repeated] = generator.choice(numbers[~repeated], int(repeated.sum()))
    return numbers


def judge(reference: Reference, numbers: np.ndarray, limit: float | None) -> tuple[str, str]:
    config = DataQualityConfig(max_duplicates=limit)
    found = find_duplicates(of_numbers(numbers), reference, config)
    column = build_check_column(reference, numbers)
    result = check_data_quality(find_problems([column], config, 50), found, 1, len(numbers), config, 50)
    return result.state, result.message


def build_check_column(reference: Reference, numbers: np.ndarray) -> Any:
    from modelkit.data.profile import count_feature
    from modelkit.monitor.counts import build_columns

    return build_columns(reference.features, {"x": count_feature(reference.features["x"], numbers)})[0]


def test_repeated_rows_are_told_and_only_judged_where_that_is_asked_for() -> None:
    generator = np.random.default_rng(2)
    reference, window = build_reference(draw(generator, 500, 0.0)), draw(generator, 300, 0.5)
    state, message = judge(reference, window, None)
    assert state == "OK"
    assert "% of the rows repeat another (0 % in the reference)" in message
    state, message = judge(reference, window, 0.1)
    assert state == "Breached"
    assert "(0 % in the reference, at most 10 % allowed)" in message


def test_as_many_as_the_reference_has_are_no_breach() -> None:
    generator = np.random.default_rng(2)
    reference = build_reference(draw(generator, 500, 0.5))
    assert judge(reference, draw(generator, 300, 0.5), 0.1)[0] == "OK"


def test_a_version_of_an_older_release_is_unknown_and_says_what_to_do() -> None:
    from dataclasses import replace

    generator = np.random.default_rng(2)
    reference = replace(build_reference(draw(generator, 500, 0.0)), duplicates=None)
    state, message = judge(reference, draw(generator, 300, 0.5), 0.1)
    assert state == "Unknown"
    assert "in the reference unknown: train again with this release" in message
    assert judge(reference, draw(generator, 300, 0.0), 0.1)[0] == "OK"


def test_in_1_000_windows_at_the_reference_s_own_share_duplicates_rarely_alarm_and_twice_the_share_does() -> None:
    generator = np.random.default_rng(3)
    config = DataQualityConfig(max_duplicates=0.1)
    alarms = found = 0
    for _ in range(100):
        reference = build_reference(draw(generator, 500, 0.15))
        for _ in range(10):
            same = find_duplicates(of_numbers(draw(generator, 300, 0.15)), reference, config)
            more = find_duplicates(of_numbers(draw(generator, 300, 0.35)), reference, config)
            alarms += same is not None and same.found
            found += more is not None and more.found
    assert alarms <= 20, "the stated level is 1 %: more than 20 of 1,000 come once in 700 tests"
    assert found >= 990
