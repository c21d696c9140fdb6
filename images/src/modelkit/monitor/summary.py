"""What is left of rows that were looked at: counts over the version's frozen bins, which add up.

Summaries of hours, pods and shards merge to the summary of a window, in any order and however the rows were split. None
holds a value of a row, so it may be stored for longer than the rows: all but the sketch of whole rows, which isn't part
of its plain form and is stored with the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelkit.contract.codec import from_plain, to_plain
from modelkit.data.calibration import empty_confidences
from modelkit.data.profile import Histogram, reference_histogram
from modelkit.errors import ModelKitError
from modelkit.monitor.constants import merge_constants
from modelkit.monitor.duplicates import RowSketch
from modelkit.monitor.groups import expected_shape
from modelkit.monitor.reference import Reference

PREDICTION, SCORE = "prediction", "score"

Value = TypeVar("Value")


class SummaryError(ModelKitError):
    """A stored summary doesn't fit the version's bins."""


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Counts of some of a version's rows."""

    rows: int
    features: Mapping[str, Histogram]
    """Of every feature of the version that isn't redacted, in the order of the signature."""
    outputs: Mapping[str, Histogram]
    """`prediction`, and `score` where the model has scores."""
    confidences: Histogram | None = None
    """Rows by their probabilities (`data.calibration`); None for a version that has none frozen."""
    redacted: frozenset[str] = frozenset()
    """Columns that any row doesn't hold as they were sent. They have no counts: they would look missing or changed."""
    skipped_segments: int = 0
    """Segments whose rows are missing, because they were damaged or vanished."""
    constants: Mapping[str, int] = field(default_factory=dict)
    """As `constants.find_constants` gives them."""
    groups: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """For each feature whose groups are compared: rows by group and cell of their prediction [groups, cells]."""
    sketch: RowSketch = field(default_factory=RowSketch)
    """Of whole rows; of fewer than `rows` where the captures are gone."""

    def merge(self, other: "Summary") -> "Summary":
        """The summary of the rows of both, which are of one version; commutative and associative."""
        redacted = self.redacted | other.redacted
        return Summary(
            rows=self.rows + other.rows,
            features={
                name: counted + other.features[name] for name, counted in self.features.items() if name not in redacted
            },
            outputs={name: counted + other.outputs[name] for name, counted in self.outputs.items()},
            confidences=_add(self.confidences, other.confidences),
            redacted=redacted,
            skipped_segments=self.skipped_segments + other.skipped_segments,
            constants=_without(merge_constants(self.constants, other.constants), redacted),
            groups=_without(_add_groups(self.groups, other.groups), redacted),
            sketch=self.sketch.merge(other.sketch),
        )

    def skip(self, segments: int) -> "Summary":
        """The same rows, with so many more segments that are missing."""
        return replace(self, skipped_segments=self.skipped_segments + segments)


def _without(found: Mapping[str, Value], names: frozenset[str]) -> dict[str, Value]:
    return {name: value for name, value in found.items() if name not in names}


def _add_groups(
    first: Mapping[str, NDArray[np.int64]], second: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """A column that only one of them counted had no rows in the other."""
    both = {name: first[name] + second[name] for name in first if name in second}
    return {**first, **second, **both}


def empty_summary(reference: Reference) -> Summary:
    """Of no rows: what merging begins with."""
    return Summary(
        rows=0,
        features={name: empty_histogram(entry) for name, entry in reference.features.items()},
        outputs={name: empty_histogram(entry) for name, entry in output_entries(reference).items()},
        confidences=None if reference.calibration is None else empty_confidences(reference.calibration),
    )


def output_entries(reference: Reference) -> dict[str, Mapping[str, Any]]:
    """Profile entries of what the model answers."""
    scores = {} if reference.scores is None else {SCORE: reference.scores}
    return {PREDICTION: reference.predictions, **scores}


def empty_histogram(entry: Mapping[str, Any], nulls: int = 0) -> Histogram:
    """No values over the bins of a profile entry, and so many missing ones."""
    return Histogram(counts=np.zeros_like(reference_histogram(entry).counts), nulls=nulls)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlainHistogram:
    counts: tuple[int, ...]
    nulls: int = 0
    outside: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlainSummary:
    rows: int
    features: Mapping[str, _PlainHistogram]
    outputs: Mapping[str, _PlainHistogram]
    confidences: _PlainHistogram | None = None
    redacted: tuple[str, ...] = field(default=())
    skipped_segments: int = 0
    constants: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)


def summary_to_plain(summary: Summary) -> dict[str, Any]:
    """Plain JSON types, without the sketch of whole rows."""
    plain: dict[str, Any] = to_plain(
        _PlainSummary(
            rows=summary.rows,
            features={name: _plain(counted) for name, counted in summary.features.items()},
            outputs={name: _plain(counted) for name, counted in summary.outputs.items()},
            confidences=None if summary.confidences is None else _plain(summary.confidences),
            redacted=tuple(sorted(summary.redacted)),
            skipped_segments=summary.skipped_segments,
            constants=dict(sorted(summary.constants.items())),
            groups={name: tuple(map(tuple, counted.tolist())) for name, counted in sorted(summary.groups.items())},
        )
    )
    return plain


def summary_from_plain(plain: Any, reference: Reference) -> Summary:
    """The inverse; raises ContractError for another shape and SummaryError for other columns or bins."""
    found = from_plain(_PlainSummary, plain)
    empty, redacted = empty_summary(reference), frozenset(found.redacted)
    shown = {name: counted for name, counted in empty.features.items() if name not in redacted}
    return Summary(
        rows=found.rows,
        features=_histograms(found.features, shown),
        outputs=_histograms(found.outputs, empty.outputs),
        confidences=_confidences(found.confidences, empty.confidences),
        redacted=redacted,
        skipped_segments=found.skipped_segments,
        constants=found.constants,
        groups={name: _group_counts(name, counted, reference) for name, counted in found.groups.items()},
    )


def _add(first: Histogram | None, second: Histogram | None) -> Histogram | None:
    return None if first is None or second is None else first + second


def _group_counts(name: str, found: Sequence[Sequence[int]], reference: Reference) -> NDArray[np.int64]:
    counted, expected = [list(row) for row in found], expected_shape(reference, name)
    if (len(counted), *{len(row) for row in counted}) != expected:
        raise SummaryError(f"the summary has {len(counted)} groups of {name!r}: not those of the version")
    return np.array(counted, dtype=np.int64)


def _plain(counted: Histogram) -> _PlainHistogram:
    return _PlainHistogram(
        counts=tuple(counted.counts.tolist()),
        nulls=counted.nulls,
        outside=counted.outside,
        invalid=counted.invalid,
    )


def _confidences(found: _PlainHistogram | None, expected: Histogram | None) -> Histogram | None:
    named = {} if found is None else {"confidences": found}
    return _histograms(named, {} if expected is None else {"confidences": expected}).get("confidences")


def _histograms(found: Mapping[str, _PlainHistogram], expected: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """`found` in the order of `expected`, whose columns and bins it must have."""
    if found.keys() != expected.keys():
        raise SummaryError(f"the summary has {len(found)} columns that aren't the {len(expected)} of the version")
    for name, counted in found.items():
        if len(counted.counts) != len(expected[name].counts):
            raise SummaryError(f"the summary has {len(counted.counts)} bins of {name!r}: not those of the version")
    return {
        name: Histogram(
            counts=np.asarray(found[name].counts, dtype=np.int64),
            nulls=found[name].nulls,
            outside=found[name].outside,
            invalid=found[name].invalid,
        )
        for name in expected
    }
