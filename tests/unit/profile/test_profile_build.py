"""What a profile holds, and that counting over it is exact and adds up."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelkit.data.profile import (
    MAX_CATEGORIES,
    MAX_KNOWN,
    Histogram,
    build_profile,
    category_key,
    confidence_score,
    count_feature,
    reference_histogram,
)
from modelkit.errors import RefusedError

FLOATS = arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e9, 1e9) | st.just(np.nan))


def build_entry(values: Any, kind: str = "numeric") -> dict[str, Any]:
    profile = build_profile(
        {"column": np.asarray(values)}, {"column": kind}, np.array([0, 1]), None, "Classification", [0, 1]
    )
    entry: dict[str, Any] = profile["features"]["column"]
    return entry


@given(FLOATS)
def test_counting_the_reference_gives_the_profile_s_own_counts(values: np.ndarray) -> None:
    entry = build_entry(values)
    counted = count_feature(entry, values)
    assert counted.counts.tolist() == entry["counts"]
    assert counted.rows == entry["rows"] == len(values)
    assert counted.nulls == int(np.isnan(values).sum())
    assert counted.outside == 0


@given(FLOATS, FLOATS)
def test_bins_are_right_closed_intervals_between_increasing_edges(reference: np.ndarray, window: np.ndarray) -> None:
    entry = build_entry(reference)
    edges = np.array([-np.inf, *entry["edges"], np.inf])
    assert (np.diff(edges) > 0).all()
    finite = window[~np.isnan(window)]
    expected = [int(((finite > low) & (finite <= high)).sum()) for low, high in pairwise(edges)]
    assert count_feature(entry, window).counts.tolist() == expected


@given(FLOATS, FLOATS, st.integers(0, 200))
def test_histograms_of_parts_add_up_to_the_whole(reference: np.ndarray, window: np.ndarray, cut: int) -> None:
    entry = build_entry(reference)
    merged = count_feature(entry, window[:cut]) + count_feature(entry, window[cut:])
    whole = count_feature(entry, window)
    assert merged.counts.tolist() == whole.counts.tolist()
    assert (merged.nulls, merged.outside, merged.invalid) == (whole.nulls, whole.outside, whole.invalid)


def test_histograms_of_different_bins_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="don't add up"):
        Histogram(np.zeros(2, dtype=np.int64)) + Histogram(np.zeros(3, dtype=np.int64))


def test_a_long_column_is_counted_over_its_chunks() -> None:
    values = np.random.default_rng(0).normal(size=200_001)
    entry = build_entry(values[:1000])
    counted = count_feature(entry, values)
    assert counted.valid == 200_001
    assert counted.counts[0] == int((values <= entry["edges"][0]).sum())


def test_quantile_bins_hold_about_equal_shares() -> None:
    entry = build_entry(np.random.default_rng(0).normal(size=1000))
    assert len(entry["counts"]) == 10
    assert all(95 <= count <= 105 for count in entry["counts"])


def test_a_small_reference_gets_fewer_bins() -> None:
    assert len(build_entry(np.random.default_rng(0).normal(size=45))["counts"]) == 4


def test_few_distinct_values_get_one_bin_each() -> None:
    entry = build_entry(np.repeat([1.0, 2.0, 5.0], [700, 299, 1]))
    assert entry["counts"] == [700, 299, 1]
    assert count_feature(entry, np.array([1.0, 5.0, 5.0])).counts.tolist() == [1, 0, 2]


def test_a_constant_shows_a_change_in_either_direction() -> None:
    entry = build_entry(np.full(100, 3.0))
    counted = count_feature(entry, np.array([2.0, 3.0, 4.0, 4.0]))
    assert counted.counts.tolist() == [1, 1, 2]
    assert counted.outside == 3
    assert count_feature(entry, np.full(5, 3.0, dtype=np.float32)).outside == 0


def test_a_heavy_tie_leaves_no_empty_bin() -> None:
    values = np.concatenate([np.zeros(900), np.random.default_rng(0).uniform(1, 2, 100)])
    for column in (values, -values):
        assert all(count > 0 for count in build_entry(column)["counts"])


def test_an_all_null_column_has_one_bin_and_no_range() -> None:
    entry = build_entry(np.full(10, np.nan))
    assert (entry["counts"], entry["nulls"], entry["min"]) == ([0], 10, None)
    assert count_feature(entry, np.array([1.0, np.nan])).counts.tolist() == [1]


def test_infinities_fall_into_the_outer_bins_and_never_into_the_statistics() -> None:
    entry = build_entry(np.array([1.0, 2.0, np.inf, -np.inf]))
    assert (entry["min"], entry["max"], entry["mean"]) == (1.0, 2.0, 1.5)
    assert entry["counts"] == [2, 2]


def test_values_outside_the_reference_s_range_are_counted_in_bins_and_apart() -> None:
    entry = build_entry(np.arange(100.0))
    counted = count_feature(entry, np.array([-5.0, 50.0, 200.0, 99.0]))
    assert (counted.outside, counted.valid) == (2, 4)


def test_integers_booleans_and_numeric_text_count_as_numbers_and_words_as_invalid() -> None:
    entry = build_entry(np.arange(100))
    assert count_feature(entry, np.array([1, 2, 3])).valid == 3
    assert count_feature(entry, np.array([True, False])).valid == 2
    counted = count_feature(entry, np.array(["12", None, "many", 3, float("nan")], dtype=object))
    assert (counted.valid, counted.nulls, counted.invalid, counted.rows) == (2, 2, 1, 5)


def test_categories_are_counted_with_other_missing_and_unseen_apart() -> None:
    entry = build_entry(np.array(["a", "a", "b", None, float("nan")], dtype=object), "categorical")
    assert (entry["categories"], entry["counts"], entry["nulls"]) == (["a", "b"], [2, 1], 2)
    assert entry["singletons"] == 1
    counted = count_feature(entry, np.array(["a", "z", None, "z"], dtype=object))
    assert (counted.counts.tolist(), counted.nulls, counted.outside) == ([1, 0, 2], 1, 2)
    assert reference_histogram(entry).counts.tolist() == [2, 1, 0]


def test_rare_categories_are_known_beyond_the_counted_ones() -> None:
    names = [f"c{index:03}" for index in range(MAX_CATEGORIES + 30)]
    entry = build_entry(np.array(names + names[:MAX_CATEGORIES], dtype=object), "categorical")
    assert len(entry["categories"]) == MAX_CATEGORIES
    assert entry["other"] == 30
    counted = count_feature(entry, np.array([names[-1], "new"], dtype=object))
    assert (int(counted.counts[-1]), counted.outside) == (2, 1)


def test_too_many_categories_to_remember_give_no_unseen_ones() -> None:
    entry = build_entry(np.array([f"c{i}" for i in range(MAX_KNOWN + 100)], dtype=object), "categorical")
    assert not entry["complete"]
    assert len(entry["known"]) == MAX_KNOWN
    assert count_feature(entry, np.array(["new"], dtype=object)).outside == 0


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.int64(1), "1"),
        ("1", "1"),
        (1.5, "1.5"),
        (True, "true"),
        (None, None),
        ("", None),
        (np.nan, None),
    ],
)
def test_the_same_category_in_another_type_has_the_same_key(value: Any, key: str | None) -> None:
    assert category_key(value) == key


def test_predictions_of_a_classifier_are_counted_per_class_even_when_one_is_never_predicted() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    profile = build_profile(
        {"x": np.arange(3.0)}, {"x": "numeric"}, np.array([0, 0, 0]), scores, "Classification", [0, 1]
    )
    assert profile["predictions"]["categories"] == ["0", "1"]
    assert profile["predictions"]["counts"] == [3, 0]
    assert profile["scores"]["max"] == 0.7
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile


def test_predictions_of_a_regressor_get_quantile_bins() -> None:
    profile = build_profile({"x": np.arange(200.0)}, {"x": "numeric"}, np.arange(200.0), None, "Regression", None)
    assert len(profile["predictions"]["counts"]) == 10
    assert profile["scores"] is None


def test_the_score_is_the_positive_class_of_two_and_the_highest_of_more() -> None:
    assert confidence_score(np.array([[0.9, 0.1]])).tolist() == [0.1]
    assert confidence_score(np.array([[0.2, 0.5, 0.3]])).tolist() == [0.5]
    assert confidence_score(np.array([0.4])).tolist() == [0.4]


def test_a_kind_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(
        RefusedError, match="'x' has the kind 'ordinal'; expected one of numeric, categorical, text, time"
    ):
        build_profile({"x": np.arange(3.0)}, {"x": "ordinal"}, np.arange(3.0), None, "Regression", None)


def test_bins_stand_where_their_values_lie_and_those_of_few_values_in_their_middle() -> None:
    values = np.exp(np.random.default_rng(0).normal(size=5000))
    profile = build_profile({"x": values}, {"x": "numeric"}, np.arange(3.0), None, "Regression", None)
    entry = profile["features"]["x"]
    means = np.array(entry["means"])
    bins = np.searchsorted(entry["edges"], values)
    assert means == pytest.approx([values[bins == index].mean() for index in range(10)])
    few = profile["predictions"]
    assert few["means"] == pytest.approx([(low + high) / 2 for low, high in pairwise([0, *few["edges"], 2])])


def test_the_profile_tells_how_many_rows_repeat_others() -> None:
    columns = {"x": np.array([1.0, 1.0, np.nan, np.nan]), "y": np.array(["a", "a", "", "b"], dtype=object)}
    kinds = {"x": "numeric", "y": "categorical"}
    assert build_profile(columns, kinds, np.arange(3.0), None, "Regression", None)["duplicates"] == 0.25
    assert build_profile({}, {}, np.arange(3.0), None, "Regression", None)["duplicates"] == 0
