"""Labels meet their rows by key, whichever way they arrive in batches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.profile import build_profile
from modelkit.monitor.labels import ANSWERS, Feedback, Join, row_keys
from modelkit.monitor.reference import Reference, parse_reference

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOLD = st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 9), st.integers(0, 3))


def build_reference() -> Reference:
    profile = build_profile({"x": np.arange(50.0)}, {"x": "numeric"}, np.arange(50.0), None, "Regression", None)
    signature = {"task": "Regression", "classes": None, "inputs": [{"name": "x"}]}
    return parse_reference(profile, {"metric": "rmse", "metrics": {"rmse": 1.0}}, signature)


REFERENCE = build_reference()


def rows_of(ids: list[str], rows: list[int]) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.string()), "row": pa.array(rows, pa.int64())})


def told(records: list[Any]) -> pa.Table:
    ids, rows, labels, seconds = (list(column) for column in zip(*records, strict=True)) if records else [[]] * 4
    received = pa.array([NOON + timedelta(seconds=second) for second in seconds], pa.timestamp("us", "UTC"))
    table = rows_of(ids, rows).append_column("label", pa.array(labels, pa.int64()))
    return table.append_column("received", received)


@given(st.lists(TOLD, max_size=20), st.integers(0, 20))
def test_the_label_that_was_received_last_wins_and_of_two_at_once_the_later_line(records: list[Any], cut: int) -> None:
    feedback = Feedback()
    feedback.add(REFERENCE, told(records[:cut]))
    feedback.add(REFERENCE, told(records[cut:]))
    newest: dict[tuple[str, int], int] = {}
    for identity, row, label, _ in sorted(records, key=lambda record: record[3]):
        newest[identity, row] = label
    keys = row_keys(rows_of([key[0] for key in newest], [key[1] for key in newest])).tolist()
    assert dict(zip(feedback.keys.tolist(), feedback.labels.tolist(), strict=True)) == dict(
        zip(keys, newest.values(), strict=True)
    )


def test_keys_are_the_same_in_every_process_and_differ_by_id_and_row() -> None:
    keys = row_keys(rows_of(["a", "a", "b", "a"], [0, 1, 0, 0])).tolist()
    assert keys[0] == keys[3] == 11431036526195659718
    assert len(set(keys)) == 3


def join(feedback: Feedback, *hours: list[tuple[str, float]]) -> tuple[list[float], list[float]]:
    joined = Join(feedback)
    for answers in hours:
        keys = row_keys(rows_of([name for name, _ in answers], [0] * len(answers)))
        empty = [pa.nulls(len(answers), field.type) for field in ANSWERS][2:]
        joined.add(pa.table([pa.array(keys), pa.array([answer for _, answer in answers]), *empty], schema=ANSWERS))
    labelled = joined.select(REFERENCE).answers
    return labelled.predictions.tolist(), labelled.truth.tolist()


def test_a_row_that_was_answered_in_two_hours_counts_once_as_at_first() -> None:
    feedback = Feedback()
    feedback.add(REFERENCE, told([("a", 0, 7, 0)]))
    assert join(feedback, [("a", 1.5), ("b", 2.5)], [("a", 3.5)]) == ([1.5], [7.0])


def test_rows_without_labels_are_not_kept() -> None:
    assert join(Feedback(), [("a", 1.5)]) == ([], [])


@pytest.mark.parametrize("cut", [0, 3, 8])
def test_of_too_many_labels_those_with_the_smallest_keys_are_kept(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkit.monitor.labels.MAX_LABELS", 3)
    records = [(f"id-{index}", 0, index, 0) for index in range(8)]
    feedback = Feedback()
    feedback.add(REFERENCE, told(records[:cut]))
    feedback.add(REFERENCE, told(records[cut:]))
    everything = sorted(row_keys(rows_of([record[0] for record in records], [0] * 8)).tolist())
    assert feedback.keys.tolist() == everything[:3]
