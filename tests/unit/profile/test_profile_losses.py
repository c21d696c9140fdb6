"""A model of the loss over frozen bins: it counts like the profile, finds what errors depend on, and little else."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelkit.data.losses import FOLDS, MAX_COLUMNS, bin_shares, bin_sizes, build_losses, find_bins
from modelkit.data.profile import build_profile, count_feature

KINDS = {"x": "numeric", "city": "categorical", "note": "text", "when": "time"}
FLOATS = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
TEXTS = st.lists(st.none() | st.sampled_from(["", "a", "b", "ccc", "dd"]), min_size=1, max_size=60)


def build_entry(values: np.ndarray, kind: str) -> dict[str, Any]:
    entry: dict[str, Any] = build_profile({"v": values}, {"v": kind}, np.arange(3.0), None, "Regression", None)[
        "features"
    ]["v"]
    return entry


def check_same_bins(entry: dict[str, Any], values: np.ndarray) -> None:
    counted = count_feature(entry, values)
    found = np.bincount(find_bins(entry, values), minlength=bin_sizes(entry))
    assert found.tolist() == [*counted.counts.tolist(), counted.nulls + counted.invalid]
    assert np.allclose(bin_shares(counted), found / len(values))


@given(FLOATS, FLOATS, st.sampled_from(["numeric", "time"]))
def test_a_number_is_in_the_bin_that_the_profile_counts_it_in(first: np.ndarray, second: np.ndarray, kind: str) -> None:
    check_same_bins(build_entry(first, kind), second)


@given(TEXTS, TEXTS, st.sampled_from(["categorical", "text"]))
def test_a_text_is_in_the_bin_that_the_profile_counts_it_in(first: list[Any], second: list[Any], kind: str) -> None:
    check_same_bins(build_entry(np.array(first, dtype=object), kind), np.array([*second, "new"], dtype=object))


def build(columns: dict[str, np.ndarray], deviation: np.ndarray, seed: int = 0) -> dict[str, Any]:
    rows = len(deviation)
    truth = deviation * np.random.default_rng(seed).normal(size=rows)
    predictions = np.random.default_rng(seed + 1).normal(size=rows)
    profile = build_profile(
        columns, {name: KINDS.get(name, "numeric") for name in columns}, predictions, None, "Regression", None
    )
    entries = {name: (profile["features"][name], values) for name, values in columns.items()}
    return build_losses(entries, (profile["predictions"], predictions), truth + predictions)


def draw_columns(rows: int, features: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    named = {
        "x": np.where(generator.random(rows) < 0.2, np.nan, generator.random(rows)),
        "city": generator.choice(np.array(["Ulm", "Bonn", ""], dtype=object), rows),
        "note": generator.choice(np.array(["a", "bb"], dtype=object), rows),
        "when": generator.random(rows),
    }
    return named | {f"f{index}": generator.random(rows) for index in range(features)}


def test_what_errors_depend_on_is_found_and_the_model_is_plain_json() -> None:
    columns = draw_columns(3000, features=20)
    deviation = 1 + 2.0 * np.isnan(columns["x"]) + 2.0 * (columns["city"] == "")
    found = build(columns, deviation)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for model in found.values():
        assert {column["name"] for column in model["columns"]} == {"x", "city"}
        assert model["explained"] > 0.05
        for column in model["columns"]:
            assert len(column["refits"]) == FOLDS
            # What is missing makes the error larger: it is the last bin.
            assert column["weights"][-1] == max(column["weights"]) > 0


def test_weights_add_nothing_to_the_rows_that_they_were_fitted_on() -> None:
    columns = draw_columns(3000)
    found = build(columns, 1 + 2.0 * np.isnan(columns["x"]))["mae"]
    (column,) = found["columns"]
    entry = build_entry(columns["x"], "numeric")
    assert abs(bin_shares(count_feature(entry, columns["x"])) @ column["weights"]) < 1e-3


def test_the_effect_of_a_bin_is_how_much_larger_its_errors_are() -> None:
    columns = {"x": np.repeat([0.0, 1.0], 2000)}
    found = build(columns, np.repeat([1.0, 3.0], 2000))["mae"]
    low, high, missing = found["columns"][0]["weights"]
    assert high - low == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.05)
    assert missing == pytest.approx(0, abs=1e-9)


def test_errors_that_depend_on_nothing_have_no_model_nine_times_in_ten() -> None:
    columns = draw_columns(500, features=10)
    kept = sum(build(columns, np.ones(500), seed)["mae"] is not None for seed in range(0, 80, 2))
    assert kept <= 6


def test_of_many_columns_those_that_explain_most_are_taken() -> None:
    columns = draw_columns(4000, features=20)
    deviation = 1 + sum(columns[f"f{index}"] * (3 if index < 3 else 1) for index in range(10))
    found = build(columns, np.asarray(deviation) ** 2)["mae"]
    names = {column["name"] for column in found["columns"]}
    assert len(names) == MAX_COLUMNS
    assert {"f0", "f1", "f2"} <= names


@pytest.mark.parametrize("deviation", [np.ones(49), np.zeros(500)])
def test_few_rows_and_a_model_without_errors_have_no_loss_model(deviation: np.ndarray) -> None:
    assert build(draw_columns(len(deviation)), deviation) == {"mae": None, "mse": None}


def test_the_same_rows_give_the_same_model() -> None:
    columns = draw_columns(6000)
    deviation = 1 + 2.0 * np.isnan(columns["x"])
    assert build(columns, deviation) == build(columns, deviation)
    assert build(columns, deviation)["mae"]["rows"] == 6000
