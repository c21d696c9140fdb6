"""Metrics of scores against a yes-or-no truth: by rank, and by how well scores are probabilities.

Rows of equal score are one group, so that no number depends on the order of the rows; every function is one of row
weights, for many weightings at once. What depends on the scores alone (the order, the groups) is made once by `Order`,
and of a weighting only the running sums are kept: the cost per resample is one gather and one sum over the rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]

CALIBRATION_BINS = 10
_ROUNDING = 1e-12
"""Share of the mass below which what is left of a subtraction is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The rows by ascending score."""

    rows: Positions
    """[n] positions of the rows."""
    scores: Floats
    """[groups], ascending."""
    starts: Positions
    """[groups] where each group begins in `rows`."""
    positive: Positions
    """[p] where the positive rows are in `rows`."""
    positive_starts: Positions
    """[holders] where each group with a positive row begins in `positive`."""
    holders: Positions
    """[holders] the groups that have a positive row."""

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: Floats) -> "Order":
        """Group rows by `scores` [n]; `positive` is their truth."""
        rows = np.argsort(scores, kind="stable")
        ordered = scores[rows]
        is_start = np.r_[True, ordered[1:] != ordered[:-1]]
        found = np.flatnonzero(positive[rows])
        groups = (np.cumsum(is_start) - 1)[found]
        positive_starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(found) else found
        return cls(
            rows=rows,
            scores=ordered[is_start],
            starts=np.flatnonzero(is_start),
            positive=found,
            positive_starts=positive_starts,
            holders=groups[positive_starts],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """An order under B weightings."""

    order: Order
    mass: Floats
    """[B, groups]."""
    running: Floats
    """[B, groups] of the mass up to and with each group."""
    positives: Floats
    """[B, holders] positive mass of the groups that have any."""
    running_positives: Floats
    """[B, holders]."""

    @property
    def total(self) -> Floats:
        """[B] mass of all rows."""
        return np.asarray(self.running[:, -1])

    @property
    def total_positives(self) -> Floats:
        """[B] mass of the positive rows."""
        return self.running_positives[:, -1] if self.positives.shape[1] else np.zeros(len(self.mass))


def weigh(order: Order, weights: Floats) -> Ranking:
    """`order` under the weightings [B, n] of its rows."""
    ranked = np.take(weights, order.rows, axis=1)
    positives = _sums(np.take(ranked, order.positive, axis=1), order.positive_starts)
    mass = _sums(ranked, order.starts)
    return Ranking(order, mass, np.cumsum(mass, axis=1), positives, np.cumsum(positives, axis=1))


def rank_groups(mass: Floats, positives: Floats) -> Ranking:
    """Groups of ascending score, [B, groups] each, whose rows are known only by their mass and their positive mass."""
    groups = np.arange(mass.shape[1])
    order = Order(
        rows=groups,
        scores=groups.astype(np.float64),
        starts=groups,
        positive=groups,
        positive_starts=groups,
        holders=groups,
    )
    return Ranking(order, mass, np.cumsum(mass, axis=1), positives, np.cumsum(positives, axis=1))


def _sums(values: Floats, starts: Positions) -> Floats:
    return values if len(starts) == values.shape[1] else np.add.reduceat(values, starts, axis=1)


def roc_auc(ranking: Ranking) -> Floats:
    """The probability that a positive row scores above a negative one, ties half (Mann-Whitney U); [B]."""
    holders, positives = ranking.order.holders, ranking.positives
    negatives = np.take(ranking.mass, holders, axis=1) - positives
    below = np.take(ranking.running, holders, axis=1) - ranking.running_positives - negatives / 2
    total_negatives = ranking.total - ranking.total_positives
    total_negatives[total_negatives <= _ROUNDING * ranking.total] = 0.0
    return np.asarray((positives * below).sum(axis=1) / (ranking.total_positives * total_negatives))


def average_precision(ranking: Ranking) -> Floats:
    """The precision at each threshold, weighted by the recall gained there, as scikit-learn's; [B]."""
    holders, positives = ranking.order.holders, ranking.positives
    said = ranking.total[:, None] - np.take(ranking.running - ranking.mass, holders, axis=1)
    right = ranking.total_positives[:, None] - (ranking.running_positives - positives)
    gained = np.where(positives > 0, positives * right / said, 0.0)
    return np.asarray(gained.sum(axis=1) / ranking.total_positives)


def calibration_error(ranking: Ranking) -> Floats:
    """Expected calibration error over 10 bins of equal mass; [B].

    Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015: the mean of
    |share of positives - mean score| over the bins, weighted by their mass. A group of equal scores falls whole into
    the bin of the middle of its mass. It is biased upwards: also a perfect model has one of about 0.8 times the root
    of p (1 - p) / (rows per bin).
    """
    outcomes, said, _ = calibration_bins(ranking)
    return np.asarray(np.abs(outcomes - said).sum(axis=1) / ranking.total)


def calibration_bins(ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """Positive mass, sum of the scores and mass of each bin of `calibration_error`, [B, 10] each."""
    middle = (ranking.running - ranking.mass / 2) / ranking.total[:, None] * CALIBRATION_BINS
    edges = np.arange(1, CALIBRATION_BINS)
    # The groups of a bin are neighbours: their sums are differences of running sums at the bins' ends.
    ends = np.stack([np.searchsorted(row, edges) for row in middle])
    ends = np.column_stack([np.zeros(len(ends), np.intp), ends, np.full(len(ends), middle.shape[1])])
    scores = np.cumsum(ranking.mass * ranking.order.scores, axis=1)
    held = np.searchsorted(ranking.order.holders, ends)
    return (
        np.diff(_up_to(ranking.running_positives, held), axis=1),
        np.diff(_up_to(scores, ends), axis=1),
        np.diff(_up_to(ranking.running, ends), axis=1),
    )


def _up_to(running: Floats, ends: Positions) -> Floats:
    """Running sums [B, m] before each of the positions `ends` [B, e]."""
    padded = np.column_stack([np.zeros(len(running)), running])
    return np.take_along_axis(padded, ends, axis=1)
