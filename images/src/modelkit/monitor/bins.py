"""Bins in words, for people: only aggregates, and no count of so few rows that it might tell of one person.

A cell is shown with none or at least `min_rows` rows, in the window as in the reference; a smaller one is merged with
others until that is so. Nothing is left out, so no small count follows from a total either. A category's name is shown
only when at least `MIN_SHOWN` reference rows had it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.monitor.counts import Column
from modelkit.monitor.wording import format_number

MIN_SHOWN = 5
"""A category of fewer reference rows might tell of one person: it is shown as part of the others. Also the usual
number of rows below which a count isn't shown."""
OTHERS = "other"


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a distribution: shares of the rows."""

    label: str
    reference: float
    window: float
    upper: str | None = None
    """The upper edge of a numeric bin; None for the last one and for categories."""


@dataclass(frozen=True, slots=True)
class ShownCounts:
    """Rows of a column without a bin, or in it but unusual; None where they are too few to be shown."""

    missing: int | None
    invalid: int | None
    outside: int | None
    reference_missing: int | None


@dataclass(frozen=True, slots=True)
class _Cell:
    reference: int
    window: int
    first: int = 0
    last: int = 0
    """Positions of the bins in it; of categories the same."""
    name: str = OTHERS

    def merge(self, other: "_Cell") -> "_Cell":
        first, last = min(self.first, other.first), max(self.last, other.last)
        return _Cell(self.reference + other.reference, self.window + other.window, first, last)

    def is_shown(self, min_rows: int) -> bool:
        return all(is_shown(count, min_rows) for count in (self.reference, self.window))


def is_shown(count: int, min_rows: int) -> bool:
    """May a count be seen? None at all tells of nobody."""
    return count == 0 or count >= min_rows


def describe_bins(column: Column, show_all: bool = False, min_rows: int = MIN_SHOWN) -> tuple[Bin, ...]:
    """Labelled shares of both samples; empty when either has too few rows for any.

    `show_all`: names of rare categories, too (a model's own classes). Missing and mistyped values that are too few to
    be shown count in the largest cell, or the shares would tell how many they are.
    """
    if not column.window.valid or not column.reference.valid:
        return ()
    if column.ordered:
        cells = _merge_neighbours(_cells(column), min_rows)
        named = [(cell, *_interval(column, cell)) for cell in cells]
    else:
        named = [(cell, cell.name, None) for cell in _fold_categories(column, show_all, min_rows)]
    if not named:
        return ()
    references = _shares([cell.reference for cell, _, _ in named], column.reference.nulls, 0, min_rows)
    windows = _shares([cell.window for cell, _, _ in named], column.window.nulls, column.window.invalid, min_rows)
    return tuple(
        Bin(label, reference, window, upper)
        for (_, label, upper), reference, window in zip(named, references, windows, strict=True)
    )


def describe_counts(column: Column, show_all: bool = False, min_rows: int = MIN_SHOWN) -> ShownCounts:
    """The counts beside the bins, each only when it can be shown and no small count is what is left without it."""
    window = column.window
    if column.ordered:
        cells = _merge_neighbours(_cells(column), min_rows)
        around = sum(cell.window for cell in {*cells[:1], *cells[-1:]})
    else:
        around = sum(cell.window for cell in _fold_categories(column, show_all, min_rows) if cell.name == OTHERS)
    rests = (window.outside, window.valid - window.outside, max(0, around - window.outside))
    # A cell that also holds a few missing values would tell how many beside the number of those outside.
    exact = all(is_shown(count, min_rows) for count in (*rests, window.nulls, window.invalid))
    return ShownCounts(
        missing=_shown(window.nulls, min_rows),
        invalid=_shown(window.invalid, min_rows),
        outside=window.outside if exact or not window.outside else None,
        reference_missing=_shown(column.reference.nulls, min_rows),
    )


def _shown(count: int, min_rows: int) -> int | None:
    return count if is_shown(count, min_rows) else None


def _shares(counts: Sequence[int], missing: int, invalid: int, min_rows: int) -> list[float]:
    hidden = sum(count for count in (missing, invalid) if not is_shown(count, min_rows))
    filled = list(counts)
    filled[filled.index(max(filled))] += hidden
    total = max(1, sum(filled))
    return [count / total for count in filled]


def _cells(column: Column) -> list[_Cell]:
    counts = zip(column.reference.counts.tolist(), column.window.counts.tolist(), strict=True)
    return [_Cell(reference, window, index, index) for index, (reference, window) in enumerate(counts)]


def _merge_neighbours(cells: Sequence[_Cell], min_rows: int) -> list[_Cell]:
    merged: list[_Cell] = []
    waiting: _Cell | None = None
    for cell in cells:
        waiting = cell if waiting is None else waiting.merge(cell)
        if waiting.is_shown(min_rows):
            merged.append(waiting)
            waiting = None
    while waiting is not None and not waiting.is_shown(min_rows):
        if not merged:
            return []
        waiting = merged.pop().merge(waiting)
    return merged if waiting is None else [*merged, waiting]


def _interval(column: Column, cell: _Cell) -> tuple[str, str | None]:
    edges = [format_number(edge) for edge in column.entry["edges"]]
    low = edges[cell.first - 1] if cell.first > 0 else None
    high = edges[cell.last] if cell.last < len(edges) else None
    if low is None:
        return ("any value" if high is None else f"up to {high}"), high
    return (f"above {low}" if high is None else f"{low} to {high}"), high


def _fold_categories(column: Column, show_all: bool, min_rows: int) -> list[_Cell]:
    """The categories that can be shown, as the profile orders them, then the others together."""
    *categories, others = _cells(column)
    named = [
        _Cell(cell.reference, cell.window, cell.first, cell.last, name)
        for name, cell in zip(column.entry["categories"], categories, strict=True)
    ]
    shown = [cell for cell in named if cell.is_shown(min_rows) and (show_all or cell.reference >= MIN_SHOWN)]
    for cell in named:
        others = others if cell in shown else others.merge(cell)
    while shown and not others.is_shown(min_rows):
        smallest = min(shown, key=lambda cell: cell.reference + cell.window)
        shown.remove(smallest)
        others = others.merge(smallest)
    if not others.is_shown(min_rows):
        return []
    return [*shown, others] if others.reference or others.window else shown
