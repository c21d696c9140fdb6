"""Counts of a classifier's probabilities: frozen bins, and counting that adds up and is stable."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.calibration import (
    bin_confidences,
    build_calibration,
    count_confidences,
    empty_confidences,
    split_cells,
)

CLASSES = {2: ["no", "yes"], 3: ["a", "b", "c"], 30: list(range(30))}


def draw(classes: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions and probabilities."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.5), size=rows)
    truth = (probabilities.cumsum(axis=1) > generator.random((rows, 1))).argmax(axis=1)
    return truth, probabilities.argmax(axis=1), probabilities


@pytest.mark.parametrize(("classes", "tracked"), [(2, ["yes"]), (3, ["a", "b", "c"]), (30, [None])])
def test_classes_are_tracked_one_by_one_unless_they_are_many(classes: int, tracked: list[str | None]) -> None:
    entry = build_calibration(*draw(classes, 500), CLASSES[classes])
    assert [track["class"] for track in entry["classes"]] == tracked
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


@pytest.mark.parametrize("classes", CLASSES)
def test_counting_the_test_rows_gives_the_entry_s_own_counts(classes: int) -> None:
    truth, predicted, probabilities = draw(classes, 500)
    entry = build_calibration(truth, predicted, probabilities, CLASSES[classes])
    counted = count_confidences(entry, predicted, probabilities)
    found = [cells.tolist() for cells in split_cells(entry, counted.counts)]
    assert found == [track["rows"] for track in entry["classes"]]
    for track in entry["classes"]:
        rows, members = np.array(track["rows"]), np.array(track["members"])
        assert (members <= rows).all()
        assert (rows.sum(axis=0) > 0).all()
        assert (np.diff(track["edges"]) > 0).all()
        assert (np.diff(track["mean"]) > 0).all()
    # A class's members among the rows that were answered with it are the right answers.
    hits = sum(np.array(track["members"])[1].sum() for track in entry["classes"])
    if classes > 2:
        assert hits == np.count_nonzero(truth == predicted)


def test_no_edge_is_a_probability_that_occurred_so_that_its_last_digit_does_not_matter() -> None:
    # A forest of 20 trees says twentieths only.
    probabilities = np.round(draw(2, 500)[2] * 20) / 20
    predicted = probabilities.argmax(axis=1)
    entry = build_calibration(predicted, predicted, probabilities, CLASSES[2])
    counted = count_confidences(entry, predicted, probabilities)
    rounded = count_confidences(entry, predicted, probabilities.astype(np.float32).astype(np.float64))
    assert counted.counts.tolist() == rounded.counts.tolist()


def test_a_region_with_few_rows_has_bins_of_its_own() -> None:
    generator = np.random.default_rng(0)
    score = np.concatenate([generator.uniform(0.97, 1.0, 980), generator.uniform(0.5, 0.97, 20)])
    probabilities = np.column_stack([1 - score, score])
    predicted = np.ones(1000, dtype=np.int64)
    entry = build_calibration(predicted, predicted, probabilities, CLASSES[2])
    assert sum(edge < 0.97 for edge in entry["classes"][0]["edges"]) >= 5


def test_the_confidences_bins_hold_equal_shares() -> None:
    truth, predicted, probabilities = draw(3, 1000)
    entry = build_calibration(truth, predicted, probabilities, CLASSES[3])["confidence"]
    assert entry["rows"] == [100] * 10
    assert sum(entry["right"]) == np.count_nonzero(truth == predicted)
    assert sum(entry["sum"]) == pytest.approx(probabilities.max(axis=1).sum())
    bins = bin_confidences({"confidence": entry}, probabilities.max(axis=1))
    assert np.bincount(bins).tolist() == entry["rows"]
    assert len(build_calibration(*draw(3, 60), CLASSES[3])["confidence"]["rows"]) == 3


def test_answers_of_an_unknown_class_are_left_out() -> None:
    truth, predicted, probabilities = draw(3, 100)
    predicted[:10] = -1
    entry = build_calibration(truth, predicted, probabilities, CLASSES[3])
    assert np.sum(entry["classes"][0]["rows"]) == 90


ROW = st.tuples(st.integers(-1, 1), st.none() | st.floats(0, 1))
ENTRY = build_calibration(*draw(2, 300), CLASSES[2])


def count(rows: list[tuple[int, float | None]]) -> list[int]:
    predicted = np.array([row[0] for row in rows], dtype=np.int64)
    scores = np.array([np.nan if row[1] is None else row[1] for row in rows])
    counted = count_confidences(ENTRY, predicted, np.column_stack([1 - scores, scores]))
    assert counted.rows == len(rows)
    return [*counted.counts.tolist(), counted.nulls]


@given(st.lists(ROW, max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_counts_of_parts_add_up_to_the_whole(rows: list[tuple[int, float | None]], cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [count(rows[low:high]) for low, high in pairwise(borders)]
    assert np.sum(parts, axis=0).tolist() == count(rows)
    assert len(empty_confidences(ENTRY).counts) + 1 == len(parts[0])
