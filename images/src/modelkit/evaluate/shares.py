"""Shapley values of any function of columns: what each column adds to one answer.

The game that is shared out is interventional (Lundberg and Lee, A Unified Approach to Interpreting Model Predictions,
2017): the worth of a set of columns is the mean answer when these have the explained row's values and all others those
of a background row, over all background rows. Up to `MOST_EXACT` columns every set is asked (Shapley, A Value for
n-Person Games, 1953). Beyond, orders of the columns are sampled, each also backwards (Mitchell et al., Sampling
Permutations for Shapley Value Estimation, 2022), which is exact for functions whose columns interact in pairs at most.

Both share out all of the difference between the row's answer and the background's mean answer, a column that changes no
answer gets exactly 0, and the same question always gets the same values: the sampled orders are fixed.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
"""[sets, columns]: which columns are in each set."""

Worth = Callable[[Masks], Floats]
"""The worth [sets] of sets of columns. It's asked for neither the empty set nor that of all columns."""

MOST_EXACT = 8
"""Columns of which every set is asked."""
_SETS = 256
"""About as many sets are asked beyond that, as long as one order and its reverse need no more."""
_MASK_CELLS = 1 << 20
"""Cells of the masks that are held at once."""


def count_sets(columns: int) -> int:
    """How many sets `share_out` asks the worth of."""
    if columns <= MOST_EXACT:
        return max(0, (1 << columns) - 2)
    return 2 * _pairs(columns) * (columns - 1)


def is_exact(columns: int) -> bool:
    """Is every set asked?"""
    return columns <= MOST_EXACT


def share_out(worth: Worth, columns: int, base: float, answer: float) -> Floats:
    """Shapley values [columns], whose sum is `answer` - `base`, the worths of all columns and of none."""
    if columns == 0:
        return np.zeros(0)
    if is_exact(columns):
        return _share_exactly(worth, columns, base, answer)
    values = np.zeros(columns)
    orders = _orders(columns)
    for order in orders:
        worths = np.concatenate([[base], *map(worth, _prefixes(order)), [answer]])
        values[order] += np.diff(worths)
    return values / len(orders)


def _share_exactly(worth: Worth, columns: int, base: float, answer: float) -> Floats:
    masks = _every_set(columns)
    inner = worth(masks[1:-1]) if len(masks) > 2 else np.zeros(0)
    cube = np.concatenate([[base], inner, [answer]]).reshape((2,) * columns)
    weights = _set_weights(columns)
    # Axis i of the cube is column i. Differences first: a column that changes nothing gets exactly 0.
    return np.array([float((np.diff(cube, axis=column).ravel() * weights).sum()) for column in range(columns)])


@cache
def _every_set(columns: int) -> Masks:
    """[2**columns, columns]; the first column is the highest bit, as in the axes of a reshaped array."""
    bits = np.arange(columns - 1, -1, -1)
    return (np.arange(2**columns)[:, None] >> bits & 1).astype(bool)


@cache
def _set_weights(columns: int) -> Floats:
    """[2**(columns - 1)]: the share of orders in which a set of the other columns comes first, then the column."""
    sizes = _every_set(columns - 1).sum(axis=1) if columns > 1 else np.zeros(1, np.int64)
    return np.array([1 / (columns * comb(columns - 1, int(size))) for size in sizes])


def _pairs(columns: int) -> int:
    return max(1, _SETS // (2 * (columns - 1)))


@lru_cache(maxsize=4)
def _orders(columns: int) -> Sequence[NDArray[np.intp]]:
    generator = np.random.default_rng(columns)
    drawn = [generator.permutation(columns) for _ in range(_pairs(columns))]
    return [turned for order in drawn for turned in (order, order[::-1])]


def _prefixes(order: NDArray[np.intp]) -> Iterator[Masks]:
    """The sets of the first 1, 2, … columns of `order`, but not of all, a few at a time."""
    columns = len(order)
    ranks = np.empty(columns, np.intp)
    ranks[order] = np.arange(columns)
    step = max(1, _MASK_CELLS // columns)
    for first in range(1, columns, step):
        yield ranks[None, :] < np.arange(first, min(first + step, columns))[:, None]
