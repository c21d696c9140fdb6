"""Bins in words, for people: only aggregates, and no category that fewer than `MIN_SHOWN` reference rows
had."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from modelkit.monitor.counts import Column
from modelkit.monitor.wording import format_number

MIN_SHOWN = 5
"""A category of fewer reference rows might tell of one person: it is shown as part of the others."""
OTHERS = "other"


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a distribution: shares of the rows with a value."""

    label: str
    reference: float
    window: float
    upper: str | None = None
    """The upper edge of a numeric bin; None for the last one and for categories."""


def describe_bins(column: Column, show_all: bool = False) -> tuple[Bin, ...]:
    """Labelled shares of both samples. `show_all`: rare categories too (a model's own classes)."""
    cells = _intervals(column) if column.ordered else _categories(column, show_all)
    total, rows = max(1, column.reference.valid), max(1, column.window.valid)
    return tuple(Bin(label, reference / total, window / rows, upper) for label, reference, window, upper in cells)


def _intervals(column: Column) -> Iterator[tuple[str, int, int, str | None]]:
    edges = [format_number(edge) for edge in column.entry["edges"]]
    if not edges:
        labels = ["any value"]
    else:
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        labels = [f"up to {edges[0]}", *between, f"above {edges[-1]}"]
    counts = zip(column.reference.counts.tolist(), column.window.counts.tolist(), strict=True)
    for label, (reference, window), upper in zip(labels, counts, [*edges, None], strict=True):
        yield label, reference, window, upper


def _categories(column: Column, show_all: bool) -> Iterator[tuple[str, int, int, str | None]]:
    hidden_reference, hidden_window = int(column.reference.counts[-1]), int(column.window.counts[-1])
    counts = zip(column.reference.counts.tolist(), column.window.counts.tolist(), strict=True)
    for name, (reference, window) in zip(column.entry["categories"], counts, strict=False):
        if show_all or reference >= MIN_SHOWN:
            yield name, reference, window, None
        else:
            hidden_reference, hidden_window = hidden_reference + reference, hidden_window + window
    if hidden_reference or hidden_window:
        yield OTHERS, hidden_reference, hidden_window, None
