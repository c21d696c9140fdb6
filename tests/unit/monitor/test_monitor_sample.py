"""The sample of a window's rows is the same however they come, and holds no more than it may."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.monitoring import AttributionConfig, MonitorConfig, MultivariateConfig
from modelkit.data.profile import build_profile
from modelkit.data.sample import MOST_CHARACTERS, as_rows, build_sample, dump_sample, load_sample, most_rows
from modelkit.monitor.sample import MOST_ROWS, RowSample, SampleError, dump_rows, load_rows, open_sample

KINDS = {"age": "numeric", "city": "categorical", "note": "text", "since": "time"}
NOTES = np.array(["a b", "", "c d e"] * 20, dtype=object)
ENTRIES: dict[str, Any] = build_profile(
    {
        "age": np.arange(60.0),
        "city": np.array(["Ulm", "Bonn", "3"] * 20, dtype=object),
        "note": NOTES,
        "since": np.arange(60.0),
    },
    KINDS,
    np.arange(3.0),
    None,
    "Regression",
    None,
)["features"]
ROWS = 300
KEYS = np.random.default_rng(3).permutation(10**6)[:ROWS].astype(np.uint64)
NONE: frozenset[str] = frozenset()


def draw_table(keys: np.ndarray) -> pa.Table:
    """Rows that follow from their keys."""
    numbers = keys.astype(np.int64)
    return pa.table(
        {
            "age": numbers.astype(float),
            "city": [f"c{number % 7}" for number in numbers],
            "note": ["x" * int(number % 9) for number in numbers],
            "since": numbers,
        }
    )


def collect(parts: Sequence[np.ndarray], limit: int, redacted: Sequence[frozenset[str]] | None = None) -> RowSample:
    sample = RowSample(ENTRIES, limit)
    for number, part in enumerate(parts):
        sample.add(part, draw_table(part), NONE if redacted is None else redacted[number])
    return sample


def test_the_rows_with_the_smallest_keys_stay() -> None:
    sample = collect([KEYS], 40)
    assert sample.rows["since"].to_pylist() == np.sort(KEYS)[:40].tolist()
    assert sample.rows.num_rows == 40


@given(
    order=st.permutations(range(ROWS)),
    cuts=st.lists(st.integers(0, ROWS), max_size=6),
    limit=st.sampled_from([1, 40, ROWS, 2 * ROWS]),
    stored=st.sets(st.integers(0, 6)),
)
@settings(max_examples=40, deadline=None)
def test_the_sample_is_the_same_whatever_the_order_the_parts_and_what_was_stored(
    order: list[int], cuts: list[int], limit: int, stored: set[int]
) -> None:
    parts = np.split(KEYS[order], sorted(cuts))
    sample = RowSample(ENTRIES, limit)
    for number, part in enumerate(parts):
        if number in stored:
            # Another monitor's, which wanted more.
            sample.merge(load_rows(dump_rows(collect([part], limit + 3)), ENTRIES))
        else:
            sample.add(part, draw_table(part), NONE)
    assert sample.to_table().equals(collect([KEYS], limit).to_table())


def test_a_repeated_key_counts_once_as_at_first() -> None:
    sample = collect([KEYS[:10]], 40)
    sample.add(KEYS[:10], draw_table(KEYS[:10] + np.uint64(1)), NONE)
    assert sample.to_table().equals(collect([KEYS[:10]], 40).to_table())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_column_that_any_row_hides_is_in_no_row_even_when_that_row_is_not_chosen(number: int) -> None:
    ordered = np.sort(KEYS)
    parts = [ordered[:100], ordered[100:200], ordered[200:]]
    redacted = [NONE, NONE, NONE]
    redacted[number] = frozenset({"city"})
    sample = collect(parts, 40, redacted)
    assert sample.rows.column_names == ["age", "note", "since"]
    other = RowSample(ENTRIES, 40)
    for part, hidden in reversed(list(zip(parts, redacted, strict=True))):
        other.merge(load_rows(dump_rows(collect([part], 40, [hidden])), ENTRIES))
    assert other.to_table().equals(sample.to_table())


def test_rows_that_hide_every_column_leave_none() -> None:
    sample = collect([KEYS[:50], KEYS[50:]], 40, [frozenset(ENTRIES), NONE])
    assert (sample.rows.num_rows, sample.rows.num_columns) == (0, 0)
    again = RowSample(ENTRIES, 40)
    again.merge(load_rows(dump_rows(sample), ENTRIES))
    assert again.rows.num_columns == 0


def test_rows_without_any_feature_are_rows_of_missing_values() -> None:
    sample = RowSample(ENTRIES, 5)
    sample.add(KEYS[:20], pa.table({}), NONE)
    assert sample.rows.num_rows == 5
    assert all(column.null_count == 5 for column in sample.rows.columns)


def test_memory_is_that_of_the_sample_and_not_of_the_rows() -> None:
    keys = np.random.default_rng(1).permutation(2_000_000).astype(np.uint64)[:400_000]
    sample, before = RowSample({"age": ENTRIES["age"]}, 500), pa.total_allocated_bytes()
    for part in np.split(keys, 40):
        sample.add(part, pa.table({"age": part.astype(float)}), NONE)
        assert pa.total_allocated_bytes() - before < 20 * 500 * 8
    assert sample.rows.num_rows == 500


def test_values_are_what_the_model_sees() -> None:
    table = pa.table(
        {
            "age": [True, None, False],
            "city": [3.0, None, 4.5],
            "note": ["a", "", "x" * 10_000],
            "since": ["2026-03-01T00:00:00Z", "no date", None],
        }
    )
    sample = build_sample(ENTRIES, table, 3)
    assert sample["age"].to_pylist() == [1.0, None, 0.0]
    assert sample["city"].to_pylist() == ["3", None, "4.5"]
    assert sample["note"].to_pylist() == ["a", None, "x" * MOST_CHARACTERS]
    assert sample["since"].to_pylist() == [1772323200.0, None, None]
    rows = as_rows(sample)
    assert rows[0].tolist() == [1.0, "3", "a", 1772323200.0]
    assert rows[1, 1:3].tolist() == ["", ""]
    assert np.isnan(rows[1, 0])
    assert load_sample(dump_sample(sample)).equals(sample)


@pytest.mark.parametrize("values", [["12", "x", None], [[1], [2], None], [{"a": 1}, None, None]])
def test_what_is_no_number_is_missing_in_a_column_of_numbers(values: list[Any]) -> None:
    sample = build_sample({"age": ENTRIES["age"]}, pa.table({"age": pa.array(values)}), 3)
    assert sample["age"].to_pylist() == [12.0 if values[0] == "12" else None, None, None]


@pytest.mark.parametrize(
    "damage", [b"", b"no Arrow", dump_sample(pa.table({"key": [1]})), dump_sample(pa.table({"a": [1]}))]
)
def test_a_damaged_sample_is_an_error_of_its_own(damage: bytes) -> None:
    with pytest.raises(SampleError):
        load_rows(damage, ENTRIES)


def test_a_thousand_columns_have_fewer_rows() -> None:
    number, text = ENTRIES["age"], ENTRIES["note"]
    assert most_rows(ENTRIES, 5000) == 5000
    assert most_rows({str(index): number for index in range(2000)}, 5000) == 1048
    assert most_rows({str(index): text for index in range(40)}, 5000) == 409


def test_only_configured_checks_ask_for_rows() -> None:
    def rows(**parts: Any) -> int | None:
        config = MonitorConfig(
            namespace="a",
            name="b",
            deployment="c",
            version=VersionRef(number=1, path="p", digest="sha256:0"),
            version_since=datetime(2026, 3, 1, tzinfo=UTC),
            store=StoreConfig(uri="file:///x"),
            window_seconds=1,
            **parts,
        )
        sample = open_sample(config, ENTRIES)
        return None if sample is None else sample.limit

    assert rows() is None
    assert rows(attribution=AttributionConfig()) == 200
    assert rows(attribution=AttributionConfig(), multivariate=MultivariateConfig()) == 2000
    assert rows(multivariate=MultivariateConfig(rows=10**6)) == MOST_ROWS
