"""Rows as hashes of 64 bits, to find those that repeat another's values."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_ODD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


def hash_numbers(values: NDArray[Any]) -> Hashes:
    """The bits of each number as float64 [n]: the same for 1 and 1.0, for 0.0 and -0.0, and for every NaN."""
    numbers = values.astype(np.float64, copy=False) + 0.0
    missing = np.isnan(numbers)
    if missing.any():
        numbers[missing] = np.nan
    return numbers.view(np.uint64)


def hash_rows(columns: Iterable[Hashes], rows: int) -> Hashes:
    """One hash for each row from the hashes of its values, column by column; the same in every process.

    Every step maps one to one, so that two rows that differ in one column never share a hash; others do about once in
    2**64. The end makes the hashes even over their range (Steele, Lea and Flood 2014), which sketches rely on.
    """
    hashes = np.zeros(rows, dtype=np.uint64)
    for column in columns:
        hashes ^= column
        hashes *= _ODD
        hashes ^= hashes >> _HALF
    hashes *= _MIX
    hashes ^= hashes >> _HALF
    return hashes


def measure_duplicates(features: Mapping[str, NDArray[Any]]) -> float:
    """Share of the rows that repeat an earlier one in every column; 0 without rows or columns."""
    rows = len(next(iter(features.values()), ()))
    if rows == 0:
        return 0.0
    return 1.0 - len(np.unique(hash_rows(map(_hash_values, features.values()), rows))) / rows


def _hash_values(values: NDArray[Any]) -> Hashes:
    if values.dtype.kind in "fiub":
        return hash_numbers(values)
    # Python's own hashes differ between processes: only what is compared here and now may use them.
    return np.fromiter(map(hash, values.tolist()), np.int64, len(values)).view(np.uint64)
