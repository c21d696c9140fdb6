"""No number that is shown tells of fewer rows than allowed, not even what is left of a total without the others."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.profile import Histogram
from modelkit.monitor.bins import MIN_SHOWN, OTHERS, describe_bins, describe_counts
from modelkit.monitor.counts import Column

COUNT = st.integers(0, 12) | st.integers(0, 500)
CELLS = st.lists(st.tuples(COUNT, COUNT), min_size=1, max_size=12)


def build(cells: Any, kind: str, window: Any = (0, 0, 0), nulls: int = 0) -> Column:
    """`window`: its missing, invalid and outside values."""
    counts = np.array(cells, dtype=np.int64)
    entry: dict[str, Any] = {"kind": kind}
    if kind == "numeric":
        entry["edges"] = [float(edge) for edge in range(len(cells) - 1)]
    else:
        entry["categories"] = [f"c{index}" for index in range(len(cells) - 1)]
    missing, invalid, outside = window
    return Column("x", entry, Histogram(counts[:, 0], nulls), Histogram(counts[:, 1], missing, outside, invalid))


def shown_counts(column: Column, show_all: bool, least: int) -> list[tuple[str, int, int]]:
    """What somebody can work out of the shares who knows the number of rows that they are shares of."""

    def total(histogram: Histogram) -> int:
        return histogram.valid + sum(count for count in (histogram.nulls, histogram.invalid) if 0 < count < least)

    bins = describe_bins(column, show_all, least)
    exact = [
        (item.label, item.reference * total(column.reference), item.window * total(column.window)) for item in bins
    ]
    assert all(abs(number - round(number)) < 1e-6 for _, *numbers in exact for number in numbers)
    return [(label, round(reference), round(window)) for label, reference, window in exact]


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@given(
    cells=CELLS,
    missing=COUNT,
    invalid=COUNT,
    outside=COUNT,
    nulls=COUNT,
    show_all=st.booleans(),
    least=st.integers(1, 20),
)
def test_no_count_below_the_minimum_can_be_seen_or_worked_out(
    kind: str, cells: Any, missing: int, invalid: int, outside: int, nulls: int, show_all: bool, least: int
) -> None:
    first, last = cells[0][1], cells[-1][1]
    outside = min(outside, (first + last if len(cells) > 1 else first) if kind == "numeric" else last)
    column = build(cells, kind, (missing, invalid, outside), nulls)
    shown, counts = shown_counts(column, show_all, least), describe_counts(column, show_all, least)
    known = [counts.missing, counts.invalid, counts.outside, counts.reference_missing]
    numbers = [count for _, *both in shown for count in both] + [count for count in known if count is not None]
    if shown:
        window, reference = (sum(cell[index] for cell in shown) for index in (2, 1))
        # The rows of the window and of the reference are known: what is left of them says nothing.
        numbers.append(column.window.rows - window - (counts.missing or 0) - (counts.invalid or 0))
        numbers.append(column.reference.rows - reference - (counts.reference_missing or 0))
        if counts.outside:
            numbers.append(window - counts.outside)
            around = {shown[0], shown[-1]} if kind == "numeric" else {cell for cell in shown if cell[0] == OTHERS}
            numbers += [sum(cell[2] for cell in around) - counts.outside] if around else []
    assert all(number == 0 or number >= least for number in numbers)


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@given(cells=CELLS)
def test_every_row_is_in_a_cell(kind: str, cells: Any) -> None:
    column = build(cells, kind)
    for items in (describe_bins(column, min_rows=1), describe_bins(column)):
        if items:
            assert sum(item.window for item in items) == pytest.approx(1)
            assert sum(item.reference for item in items) == pytest.approx(1)


def test_large_bins_stay_as_they_are() -> None:
    items = describe_bins(build([(50, 20), (50, 0), (50, 30)], "numeric"))
    assert [(item.label, item.window, item.upper) for item in items] == [
        ("up to 0", 0.4, "0"),
        ("0 to 1", 0.0, "1"),
        ("above 1", 0.6, None),
    ]


def test_a_small_bin_is_merged_with_its_neighbour_and_the_last_with_the_one_before() -> None:
    items = describe_bins(build([(50, 2), (50, 30), (50, 40), (50, 1)], "numeric"))
    assert [(item.label, round(item.window * 73), item.upper) for item in items] == [
        ("up to 1", 32, "1"),
        ("above 1", 41, None),
    ]


def test_too_few_rows_for_any_bin_show_none() -> None:
    assert describe_bins(build([(50, 2), (50, 2)], "numeric")) == ()
    assert describe_bins(build([(50, 2), (50, 2), (0, 0)], "categorical")) == ()
    assert describe_bins(build([(50, 0), (50, 0)], "numeric", (3, 0, 0))) == ()


def test_a_rare_category_takes_the_next_smallest_with_it() -> None:
    items = describe_bins(build([(300, 90), (50, 20), (10, 2), (0, 0)], "categorical"))
    assert [(item.label, round(item.window * 112)) for item in items] == [("c0", 90), (OTHERS, 22)]


@given(st.integers(1, MIN_SHOWN - 1), st.integers(1, 4))
def test_the_name_of_a_category_that_few_had_is_never_shown_and_that_of_a_class_is(few: int, least: int) -> None:
    column = build([(300, 90), (few, 50), (40, 40)], "categorical")
    assert "c1" not in [item.label for item in describe_bins(column, min_rows=least)]
    classes = build([(300, 90), (0, 50), (0, 0)], "categorical")
    assert [item.label for item in describe_bins(classes, show_all=True)] == ["c0", "c1"]


def test_a_few_missing_values_count_in_the_largest_cell_and_are_not_told() -> None:
    column = build([(50, 20), (50, 77)], "numeric", (3, 0, 0))
    assert [item.window for item in describe_bins(column)] == [0.2, 0.8]
    assert describe_counts(column).missing is None
