"""Which features had one value only: told by one byte for each, which merges and names no value.

The byte is a hash of the one value. Two parts with different values share a byte once in 256 times; their rows then
still lie in one bin, which the check wants to be all but impossible by chance.
"""

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.data.profile import NUMERIC, category_key, is_length, parse_numbers

if TYPE_CHECKING:
    import pyarrow as pa

SEVERAL = -1
"""Two or more values were there."""
_NUMBERS = ("double", "int64")
"""Types in which captured numbers come; one number has one key there."""
_FEW = 64
"""Values that are looked at first: nearly every feature varies within them."""


def find_constants(
    entries: Mapping[str, Mapping[str, Any]], table: "pa.Table", redacted: Collection[str] = ()
) -> dict[str, int]:
    """For each feature of a batch that has a value: a byte of its only one, or SEVERAL."""
    found = {}
    for name, values in zip(table.column_names, table.columns, strict=True):
        entry = entries.get(name)
        if entry is not None and name not in redacted and (byte := _only_value(name, entry, values)) is not None:
            found[name] = byte
    return {name: found[name] for name in entries if name in found}


def merge_constants(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """What both together say; commutative and associative. A feature that one of them lacks had no value there."""
    merged = dict(first)
    for name, byte in second.items():
        merged[name] = byte if merged.get(name, byte) == byte else SEVERAL
    return merged


def _only_value(name: str, entry: Mapping[str, Any], values: "pa.ChunkedArray") -> int | None:
    if len(values) and str(values.type) in _NUMBERS:
        # Of most features already the first and the last value differ, and unique() costs as much as counting them.
        ends = {category_key(values[position].as_py()) for position in (0, len(values) - 1)}
        if len(ends - {None}) > 1:
            return SEVERAL
    for part in (values.slice(0, _FEW), values):
        keys = _keys(entry, part)
        if len(keys) > 1:
            return SEVERAL
    return blake2b(f"{name}\0{keys.pop()}".encode(), digest_size=1).digest()[0] if keys else None


def _keys(entry: Mapping[str, Any], values: "pa.ChunkedArray") -> set[str]:
    """The different values that count: numbers of a numeric feature, categories or texts of another."""
    different = values.unique()
    if entry["kind"] == NUMERIC and not is_length(entry):
        numbers, _ = parse_numbers(different.to_numpy(zero_copy_only=False))
        return {repr(number) for number in (numbers[~np.isnan(numbers)] + 0.0).tolist()}
    return {key for value in different.to_pylist() if (key := category_key(value)) is not None}
