"""Metrics of scores against a yes-or-no truth: by rank, and by how well scores are probabilities.

Rows of equal score are one group, so that no number depends on the order of the rows; every function is one of row
weights, for many weightings at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Weights of positive and negative rows per group of equal scores, for B weightings."""

    scores: Floats
    """[groups], ascending."""
    positives: Floats
    """[B, groups]."""
    negatives: Floats
    """[B, groups]."""


def rank(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Ranking:
    """Group rows by `scores` [n]; `weights` is [B, n]."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranked = weights[:, order]
    return Ranking(
        scores=ordered[starts],
        positives=np.add.reduceat(ranked * positive, starts, axis=1),
        negatives=np.add.reduceat(ranked * ~positive, starts, axis=1),
    )


def roc_auc(ranking: Ranking) -> Floats:
    """The probability that a positive row scores above a negative one, ties half (Mann-Whitney U); [B]."""
    positives, negatives = ranking.positives, ranking.negatives
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.asarray((positives * below).sum(axis=1) / pairs)


def average_precision(ranking: Ranking) -> Floats:
    """The precision at each threshold, weighted by the recall gained there, as scikit-learn's; [B]."""
    positives = ranking.positives[:, ::-1]
    said = np.cumsum(positives + ranking.negatives[:, ::-1], axis=1)
    precision = np.where(said > 0, np.cumsum(positives, axis=1) / said, 0.0)
    return np.asarray((positives * precision).sum(axis=1) / positives.sum(axis=1))


def calibration_error(ranking: Ranking) -> Floats:
    """Expected calibration error over 10 bins of equal mass; [B].

    Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015: the mean of
    |share of positives - mean score| over the bins, weighted by their mass. A group of equal scores falls whole into
    the bin of the middle of its mass. It is biased upwards: also a perfect model has one of about 0.8 times the root
    of p (1 - p) / (rows per bin).
    """
    mass = ranking.positives + ranking.negatives
    total = mass.sum(axis=1, keepdims=True)
    middle = (np.cumsum(mass, axis=1) - mass / 2) / total
    bins = np.minimum((middle * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    many = len(mass)
    places = (bins + np.arange(many)[:, None] * CALIBRATION_BINS).ravel()
    gaps = np.bincount(places, (ranking.positives - mass * ranking.scores).ravel(), many * CALIBRATION_BINS)
    return np.asarray(np.abs(gaps.reshape(many, CALIBRATION_BINS)).sum(axis=1) / total[:, 0])
