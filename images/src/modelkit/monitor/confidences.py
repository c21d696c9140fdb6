"""A classifier's quality on rows without labels: confidence-based performance estimation from counts.

How often each probability came true on the version's own test rows says how many of the window's rows of such a
probability are answered rightly (Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance,
2022, and NannyML call the row-wise form average confidence, or CBPE). Added up over the bins this gives an expected
confusion matrix, and of it every metric of labels; of the bins in their order the metrics of ranks.

The share that came true is made monotone in the probability (isotonic calibration: Zadrozny and Elkan, Transforming
Classifier Scores into Accurate Multiclass Probability Estimates, 2002), after a tenth of a row of the model's own
opinion was added to each bin, so that a bin without any row has a share.

The estimate holds while the same features have the same answers (covariate shift), not when the relation changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.data.calibration import split_cells
from modelkit.data.profile import Histogram
from modelkit.evaluate import ranking
from modelkit.evaluate.metrics import tally_metric

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

RESAMPLES = 200
_PRIOR_ROWS = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One class's bins on the test rows; `[2, bins]`: rows answered with another class, rows answered with it."""

    position: int | None
    """In the version's classes; None: whichever class was answered."""
    rows: Counts
    members: Counts
    """Rows that are truly of the class."""
    mean: Floats
    """[bins] mean probability; further means of its square, its logarithm and that of the rest."""
    mean_square: Floats
    mean_log: Floats
    mean_rest_log: Floats

    def calibrate(self, members: Floats, rows: Floats) -> Floats:
        """[B, 2, bins] probability of being of the class, for B countings of the test rows."""
        return isotonic(members + _PRIOR_ROWS * self.mean, rows + _PRIOR_ROWS)


def read_tracks(entry: Mapping[str, Any]) -> tuple[Track, ...]:
    """The tracked classes of the profile's entry `calibration`."""
    means = ("mean", "mean_square", "mean_log", "mean_rest_log")
    return tuple(
        Track(
            track["position"],
            np.asarray(track["rows"], dtype=np.int64),
            np.asarray(track["members"], dtype=np.int64),
            *(np.asarray(track[name], dtype=np.float64) for name in means),
        )
        for track in entry["classes"]
    )


def isotonic(successes: Floats, rows: Floats) -> Floats:
    """[..., bins] shares of `successes` in `rows` (positive) that don't fall from bin to bin.

    Weighted least squares by the max-min formula (Barlow et al., Statistical Inference under Order Restrictions, 1972):
    equal to pool-adjacent-violators, for many countings at once.
    """
    shares = np.full(rows.shape, -np.inf)
    for first in range(rows.shape[-1]):
        means = np.cumsum(successes[..., first:], axis=-1) / np.cumsum(rows[..., first:], axis=-1)
        lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        shares[..., first:] = np.maximum(shares[..., first:], lowest)
    return shares


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """The expected confusion of B countings of rows: `evaluate.metrics.Tallies`."""

    hits: Floats
    support: Floats
    predicted: Floats
    total: Floats


class Expectation:
    """What is to be expected of rows of which only the probabilities are known, under B countings."""

    def __init__(self, tracks: Sequence[Track], rows: Sequence[Floats], shares: Sequence[Floats]) -> None:
        """`rows`: [B, 2, bins] for each track; `shares`: the same of `Track.calibrate`."""
        self._tracks, self._rows = tracks, rows
        self._members = [counted * share for counted, share in zip(rows, shares, strict=True)]

    def metric(self, name: str) -> Floats | None:
        """[parts, B] whose sum is the metric: one part, or one for each class where the metric is a sum over classes.

        None for a metric that can't be expected of probabilities, or of so many classes.
        """
        if self._tracks[0].position is None and name != "accuracy":
            return None
        found = tally_metric(self._tally(), name)
        if found is not None:
            return found[None]
        if name not in _PARTS:
            return None
        parts = zip(self._tracks, self._rows, self._members, strict=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.stack([_PARTS[name](*part, self._is_binary) for part in parts])
        return values / len(values) if name in _MEANS else values

    def _tally(self) -> Expected:
        hits = np.column_stack([members[:, 1].sum(axis=1) for members in self._members])
        support = np.column_stack([members.sum(axis=(1, 2)) for members in self._members])
        predicted = np.column_stack([rows[:, 1].sum(axis=1) for rows in self._rows])
        total = self._rows[0].sum(axis=(1, 2))
        if self._is_binary:
            others, missed = self._rows[0][:, 0].sum(axis=1), self._members[0][:, 0].sum(axis=1)
            hits = np.column_stack([others - missed, hits])
            support = np.column_stack([total - support[:, 0], support])
            predicted = np.column_stack([others, predicted])
        return Expected(hits, support, predicted, total)

    @property
    def _is_binary(self) -> bool:
        return len(self._tracks) == 1 and self._tracks[0].position is not None


def _roc_auc(_: Track, rows: Floats, members: Floats, __: bool) -> Floats:
    return ranking.roc_auc(ranking.rank_groups(rows.sum(axis=1), members.sum(axis=1)))


def _average_precision(_: Track, rows: Floats, members: Floats, __: bool) -> Floats:
    return ranking.average_precision(ranking.rank_groups(rows.sum(axis=1), members.sum(axis=1)))


def _log_loss(track: Track, rows: Floats, members: Floats, is_binary: bool) -> Floats:
    of_class, every = members.sum(axis=1), rows.sum(axis=1)
    losses = -of_class @ track.mean_log
    if is_binary:
        losses -= (every - of_class) @ track.mean_rest_log
    return np.asarray(losses / every.sum(axis=1))


def _brier(track: Track, rows: Floats, members: Floats, _: bool) -> Floats:
    every = rows.sum(axis=1)
    squares = every @ track.mean_square + members.sum(axis=1) @ (1 - 2 * track.mean)
    return np.asarray(squares / every.sum(axis=1))


_PARTS = {"roc_auc": _roc_auc, "average_precision": _average_precision, "log_loss": _log_loss, "brier": _brier}
"""[B] what one class adds: of its track, and the rows and members in its bins [B, 2, bins]."""
_MEANS = frozenset({"roc_auc", "average_precision"})


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A metric expected of the window and, in the same way, of the test rows."""

    window: Floats
    """[parts, 1 + RESAMPLES] parts of the metric: of the rows themselves, then of resamples."""
    reference: Floats
    """The same of the test rows, resampled beside the window."""

    @property
    def value(self) -> float:
        """Of the window."""
        return float(self.window[:, 0].sum())

    @property
    def reference_value(self) -> float:
        """Of the test rows."""
        return float(self.reference[:, 0].sum())

    @property
    def value_error(self) -> float | None:
        """Standard error of `value`; None when most resamples have no metric."""
        return _deviation(self.window[:, 1:])

    @property
    def error(self) -> float | None:
        """Standard error of the difference of both."""
        return _deviation(self.window[:, 1:] - self.reference[:, 1:])


def _deviation(parts: Floats) -> float | None:
    """Of the sum of the parts, at most: classes are resampled apart, but their parts come from the same rows."""
    usual = np.isfinite(parts).all(axis=0)
    if usual.mean() < 0.5:
        return None
    return float(np.std(parts[:, usual], axis=1, ddof=1).sum())


def expect_metric(entry: Mapping[str, Any], counted: Histogram, metric: str) -> Comparison | None:
    """Expect `metric` of the window's cells `counted`; None where that can't be done.

    Resampled are the window's rows, the test rows, and how many of these were of the class, from the calibrated shares
    (parametric bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 6.5). Seeded.
    """
    generator = np.random.default_rng(0)
    tracks = read_tracks(entry)
    window = [np.asarray(cells) for cells in split_cells(entry, counted.counts)]
    test = [track.rows for track in tracks]
    window_rows, test_rows = _resample(generator, window), _resample(generator, test)
    shares = []
    for track, rows in zip(tracks, test_rows, strict=True):
        share = track.calibrate(track.members[None].astype(np.float64), track.rows[None].astype(np.float64))
        drawn = generator.binomial(rows[1:], np.clip(share, 0.0, 1.0)).astype(np.float64)
        shares.append(np.concatenate([share, track.calibrate(drawn, rows[1:].astype(np.float64))]))
    found = Expectation(tracks, [rows.astype(np.float64) for rows in window_rows], shares).metric(metric)
    reference = Expectation(tracks, [rows.astype(np.float64) for rows in test_rows], shares).metric(metric)
    return None if found is None or reference is None else Comparison(found, reference)


def _resample(generator: np.random.Generator, counts: Sequence[Counts]) -> list[Counts]:
    """For each track `[1 + RESAMPLES, 2, bins]`: the counts, then those of as many rows drawn with replacement.

    A row is answered with one class: those cells are drawn together over all classes.
    """
    if len(counts) == 1:
        return [_draw(generator, counts[0].sum(), counts[0].ravel()).reshape(-1, *counts[0].shape)]
    rows = int(counts[0].sum())
    said = _draw(generator, rows, np.concatenate([cells[1] for cells in counts]))
    borders = np.cumsum([cells.shape[1] for cells in counts])[:-1]
    drawn = []
    for cells, chosen in zip(counts, np.split(said, borders, axis=1), strict=True):
        others = _draw(generator, rows - chosen[1:].sum(axis=1), cells[0])
        drawn.append(np.stack([others, chosen], axis=1))
    return drawn


def _draw(generator: np.random.Generator, rows: Any, cells: Counts) -> Counts:
    """`cells` and resamples of `rows` rows in their shares, [1 + RESAMPLES, cells]."""
    total = cells.sum()
    if total == 0:
        return np.zeros((1 + RESAMPLES, len(cells)), dtype=np.int64)
    drawn = generator.multinomial(rows, cells / total, size=RESAMPLES)
    return np.concatenate([cells[None], drawn])
