"""Which captured rows are of the world before a change: the answers that were given to them tell.

A retrain is asked for rows since the window in which a change began, and the first of these are mostly older than the
change. Where the version that answered them suddenly errs more, the new world begins.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FEWEST = 50
"""Rows on each side of a change: of fewer, a handful of chance errors looks like another level."""
CHANCE = 0.001
"""That rows without a change look like one, at most."""


def find_onset(errors: NDArray[np.float64]) -> int:
    """How many of the first rows are of the world before a change; 0 where no change is clear.

    `errors` [n], in the order of the rows, all answered by one version: 1 for a wrong class, 0 for the right one; of a
    regression the absolute error. The rows are split where the difference of the two means is clearest (the maximally
    selected two-sample statistic, Hawkins 1977); the p-value is multiplied by the number of splits (Bonferroni). Only a
    rise counts.
    """
    count = len(errors)
    if count < 2 * FEWEST:
        return 0
    before = np.arange(FEWEST, count - FEWEST + 1)
    after, sums = count - before, np.cumsum(errors)
    means = sums[before - 1] / before, (sums[-1] - sums[before - 1]) / after
    # The spread that holds without a change: that of all rows.
    deviation = max(float(errors.std()), 1e-12) * np.sqrt(1 / before + 1 / after)
    scores = (means[1] - means[0]) / deviation
    best = int(scores.argmax())
    return int(before[best]) if ndtr(-scores[best]) * len(before) < CHANCE else 0
