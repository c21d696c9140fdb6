"""Texts are counted by their length and moments by their presence, over the same bins in reference and window."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.profile import build_profile, count_feature, reference_histogram, text_lengths
from modelkit.monitor.counts import count_features
from modelkit.monitor.reference import parse_reference

NOTES = np.array([f"{'word ' * (index % 9)}end" for index in range(200)] + [""], dtype=object)
MOMENTS = np.append(np.arange(200.0) * 86400, np.nan)
KINDS = {"note": "text", "when": "time"}
PROFILE = build_profile({"note": NOTES, "when": MOMENTS}, KINDS, MOMENTS[:200], None, "Regression", None)


def test_the_lengths_of_texts_are_binned_and_an_empty_text_is_missing() -> None:
    entry = PROFILE["features"]["note"]
    assert (entry["kind"], entry["measure"], entry["nulls"]) == ("numeric", "length", 1)
    assert (entry["min"], entry["max"]) == (3.0, 43.0)
    lengths = np.array([len(note) for note in NOTES[:-1]], dtype=float)
    assert entry["mean"] == pytest.approx(lengths.mean())
    assert reference_histogram(entry).counts.tolist() == count_feature(entry, NOTES).counts.tolist()


def test_no_text_is_in_the_profile() -> None:
    assert "word" not in str(PROFILE)
    assert "end" not in str(PROFILE["features"]["note"].values())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_moment_is_in_the_one_bin_of_a_time(seconds: float) -> None:
    counted = count_feature(PROFILE["features"]["when"], np.array([seconds, np.nan]))
    assert counted.counts.tolist() == [1]
    assert (counted.nulls, counted.outside, counted.invalid) == (1, 0, 0)


@given(st.lists(st.text(max_size=60) | st.none(), min_size=1, max_size=30))
def test_captured_texts_count_as_those_of_the_reference(notes: list[Any]) -> None:
    signature = {"task": "Regression", "classes": None, "inputs": [{"name": name} for name in KINDS]}
    reference = parse_reference(PROFILE, {"metric": "rmse", "metrics": {}}, signature)
    rows = len(notes)
    table = pa.table({"note": pa.array(notes, pa.string()), "when": pa.array([1.7e9] * rows)})
    counted = count_features(reference.features, table, rows)["note"]
    expected = count_feature(PROFILE["features"]["note"], np.array(notes, dtype=object))
    assert counted.counts.tolist() == expected.counts.tolist()
    assert (counted.nulls, counted.outside) == (expected.nulls, expected.outside)


def test_what_is_no_text_has_no_length() -> None:
    assert np.isnan(text_lengths(np.array([None, 3, np.nan, ""], dtype=object))).all()
