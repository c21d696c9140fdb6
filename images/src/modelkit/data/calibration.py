"""How often a classifier's probabilities came true on its own held-out rows, as counts over frozen bins.

Later rows without labels are counted over the same bins. What they hold of each probability, and how often such a
probability came true here, tell how good the answers are to be expected to be; labelled ones tell whether the
probabilities still come true. The module only counts: what follows is decided by the monitor.

A class is tracked by two rows of bins over its probability: rows that were answered with another class, and rows that
were answered with this one. Edges are quantiles of both and a regular grid, so that also a region where few rows were
has bins of its own: a shift may lead there. Each edge lies midway between two probabilities that occurred: one that
comes out in another last digit elsewhere stays in its bin, and no bin is empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.profile import Histogram, category_key

MAX_CLASSES = 20
"""Of more classes only the probability of the predicted one is tracked."""
_QUANTILES = np.arange(1, 10) / 10
_GRID = np.arange(1, 20) / 20
_EDGE_ROWS = 20_000
"""Rows that edges are made of: more cost time and move no edge."""
_CONFIDENCE_BINS = 10
_ROWS_PER_CONFIDENCE_BIN = 20

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Scores = tuple[Floats, NDArray[np.bool_]]


def build_calibration(truth: Codes, predicted: Codes, probabilities: Floats, classes: Sequence[Any]) -> dict[str, Any]:
    """The entry `calibration` of profile.json, in plain JSON types.

    `truth` and `predicted`: [n] positions in `classes`, -1 for another class; `probabilities`: [n, classes]. They must
    come from rows that the model was not fitted on.
    """
    usable = predicted >= 0
    truth, predicted, probabilities = truth[usable], predicted[usable], probabilities[usable]
    tracks = []
    for position in _tracked(len(classes)):
        scores, said = _scores_of(position, predicted, probabilities)
        members = truth == (predicted if position is None else position)
        label = None if position is None else category_key(classes[position])
        tracks.append({"class": label, "position": position, **_build_track(scores, said, members)})
    confidence = probabilities[np.arange(len(predicted)), predicted]
    return {"classes": tracks, "confidence": _build_confidence(confidence, truth == predicted)}


def count_confidences(entry: Mapping[str, Any], predicted: Codes, probabilities: Floats) -> Histogram:
    """Count rows over all cells of an entry, class after class (see `split_cells`).

    `predicted`: [n] positions, -1 for a class that the version doesn't know; `probabilities`: [n, classes], NaN where
    there are none. Such rows are nulls.
    """
    usable = (predicted >= 0) & np.isfinite(probabilities).all(axis=1)
    predicted, probabilities = predicted[usable], probabilities[usable]
    counts = []
    for track in entry["classes"]:
        scores, said = _scores_of(track["position"], predicted, probabilities)
        bins = len(track["edges"]) + 1
        counts.append(np.bincount(_cells(track["edges"], scores, said), minlength=2 * bins))
    return Histogram(counts=np.concatenate(counts).astype(np.int64), nulls=int(np.count_nonzero(~usable)))


def empty_confidences(entry: Mapping[str, Any]) -> Histogram:
    """No rows over the cells of an entry."""
    return Histogram(np.zeros(sum(2 * len(track["edges"]) + 2 for track in entry["classes"]), dtype=np.int64))


def split_cells(entry: Mapping[str, Any], counts: Codes) -> Iterator[Codes]:
    """For each tracked class the rows in its bins, [2, bins]: answered with another class, answered with this one."""
    start = 0
    for track in entry["classes"]:
        end = start + 2 * len(track["edges"]) + 2
        yield counts[start:end].reshape(2, -1)
        start = end


def bin_confidences(entry: Mapping[str, Any], confidences: Floats) -> Codes:
    """[n] bins of the predicted class's probabilities, for the reliability curve."""
    return np.searchsorted(entry["confidence"]["edges"], confidences, side="left").astype(np.int64)


def _tracked(classes: int) -> Sequence[int | None]:
    """Of two classes the last says everything about the first."""
    if classes == 2:
        return (1,)
    return range(classes) if classes <= MAX_CLASSES else (None,)


def _scores_of(position: int | None, predicted: Codes, probabilities: Floats) -> Scores:
    """A tracked class's probabilities, and whether it was the answer; None: always the predicted class."""
    if position is None:
        return probabilities[np.arange(len(predicted)), predicted], np.ones(len(predicted), dtype=bool)
    return probabilities[:, position], predicted == position


def _cells(edges: Sequence[float], scores: Floats, said: NDArray[np.bool_]) -> Codes:
    return np.searchsorted(edges, scores, side="left") + said * (len(edges) + 1)


def _build_track(scores: Floats, said: NDArray[np.bool_], members: NDArray[np.bool_]) -> dict[str, Any]:
    edges = _choose_edges(scores, said)
    bins = len(edges) + 1
    cells = _cells(edges, scores, said)
    rows = np.bincount(cells, minlength=2 * bins).reshape(2, bins)
    tiny = np.finfo(np.float64).eps
    clipped = np.clip(scores, tiny, 1 - tiny)
    sums = (scores, scores**2, np.log(clipped), np.log1p(-clipped))
    means = [np.bincount(cells % bins, term, minlength=bins) / np.maximum(rows.sum(axis=0), 1) for term in sums]
    return {
        "edges": edges,
        "rows": rows.tolist(),
        "members": np.bincount(cells[members], minlength=2 * bins).reshape(2, bins).tolist(),
        # Of the probability, its square, its logarithm and that of the rest, of all rows in the bin.
        **{name: [float(f"{mean:.6g}") for mean in found] for name, found in zip(_MEANS, means, strict=True)},
    }


_MEANS = ("mean", "mean_square", "mean_log", "mean_rest_log")


def _choose_edges(scores: Floats, said: NDArray[np.bool_]) -> list[float]:
    step = max(1, len(scores) // _EDGE_ROWS)
    groups = [scores[::step][said[::step]], scores[::step][~said[::step]]]
    quantiles = [np.quantile(group, _QUANTILES, method="inverted_cdf") for group in groups if len(group)]
    return _between(np.unique(scores[::step]), np.concatenate([_GRID, *quantiles]))


def _between(distinct: Floats, wanted: Floats) -> list[float]:
    """For each wanted edge the middle of the two of the `distinct` ascending values around it."""
    above = np.unique(np.searchsorted(distinct, wanted, side="right"))
    above = above[(above > 0) & (above < len(distinct))]
    middles: list[float] = ((distinct[above - 1] + distinct[above]) / 2).tolist()
    return middles


def _build_confidence(confidence: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    bins = max(2, min(_CONFIDENCE_BINS, len(confidence) // _ROWS_PER_CONFIDENCE_BIN))
    quantiles = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    edges = _between(np.unique(confidence), quantiles)
    cells = np.searchsorted(edges, confidence, side="left")
    sums = np.bincount(cells, confidence, minlength=len(edges) + 1)
    return {
        "edges": edges,
        "rows": np.bincount(cells, minlength=len(edges) + 1).tolist(),
        "right": np.bincount(cells[right], minlength=len(edges) + 1).tolist(),
        "sum": [float(f"{total:.9g}") for total in sums],
    }
