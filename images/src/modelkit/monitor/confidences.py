"""A classifier's quality on rows without labels: confidence-based performance estimation from counts.

How often each probability came true on the version's own test rows says how many of the window's rows of such a
probability are answered rightly (Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance,
2022, and NannyML call the row-wise form average confidence, or CBPE). Added up over the bins this gives an expected
confusion matrix, and of it every metric of labels; of the bins in their order the metrics of ranks.

The share that came true is made monotone in the probability (isotonic calibration: Zadrozny and Elkan, Transforming
Classifier Scores into Accurate Multiclass Probability Estimates, 2002), after half a row of the model's own opinion
was added to each bin: few test rows prove no certainty.

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
_PRIOR_ROWS = 0.5


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
    bins = rows.shape[-1]
    gained, mass = (np.cumsum(values, axis=-1) for values in (successes, rows))
    before = [np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums[..., :-1]], axis=-1) for sums in (gained, mass)]
    is_block = np.tri(bins, dtype=bool).T  # from the first bin (outer) to the last one (inner)
    widths = np.where(is_block, mass[..., None, :] - before[1][..., :, None], 1.0)
    means = np.where(is_block, (gained[..., None, :] - before[0][..., :, None]) / widths, np.inf)
    lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    highest = np.maximum.accumulate(np.where(is_block, lowest, -np.inf), axis=-2)
    shares: Floats = np.diagonal(highest, axis1=-2, axis2=-1).copy()
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
        """[B] values; None for a metric that can't be expected of probabilities, or of so many classes."""
        if self._tracks[0].position is None and name != "accuracy":
            return None
        found = tally_metric(self._tally(), name)
        return found if found is not None else self._of_probabilities(name)

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

    def _of_probabilities(self, name: str) -> Floats | None:
        measures = {
            "roc_auc": lambda: self._over_classes(ranking.roc_auc),
            "average_precision": lambda: self._over_classes(ranking.average_precision),
            "log_loss": self._log_loss,
            "brier": self._brier,
        }
        if name not in measures:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return measures[name]()

    def _over_classes(self, measure: Any) -> Floats:
        ranked = [
            measure(ranking.rank_groups(rows.sum(axis=1), members.sum(axis=1)))
            for rows, members in zip(self._rows, self._members, strict=True)
        ]
        return np.asarray(np.mean(ranked, axis=0))

    def _log_loss(self) -> Floats:
        losses = np.zeros(len(self._rows[0]))
        for track, rows, members in zip(self._tracks, self._rows, self._members, strict=True):
            of_class = members.sum(axis=1)
            losses -= of_class @ track.mean_log
            if self._is_binary:
                losses -= (rows.sum(axis=1) - of_class) @ track.mean_rest_log
        return np.asarray(losses / self._rows[0].sum(axis=(1, 2)))

    def _brier(self) -> Floats:
        squares = np.zeros(len(self._rows[0]))
        for track, rows, members in zip(self._tracks, self._rows, self._members, strict=True):
            of_class = members.sum(axis=1)
            squares += rows.sum(axis=1) @ track.mean_square + of_class @ (1 - 2 * track.mean)
        return np.asarray(squares / self._rows[0].sum(axis=(1, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A metric expected of the window and, in the same way, of the test rows: the first value of each is of the rows
    themselves, the others of resamples of the window and of the test rows."""

    window: Floats
    reference: Floats


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
