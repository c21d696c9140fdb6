"""How many rows of a window repeat another's features: counted in a sketch that merges, so that no row is kept.

The sketch holds the k smallest of the rows' 64-bit hashes and how often each came (Bar-Yossef et al. 2002; Beyer et al.
2007): up to k different rows it is exact, beyond it an estimate from a random part of the different rows. A hash can
tell whoever guesses a whole row whether it was there, so a stored sketch lies beside the captures and goes with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from math import sqrt

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelkit.data.profile import category_key
from modelkit.data.row_hash import Hashes, hash_numbers, hash_rows

K = 4096
"""Hashes that are kept: a standard error of 1.6 % of the number of different rows."""
_MISSING = "missing"
"""Hashed for a value that isn't there; no value is, because theirs begin with `=`."""


def _no_hashes() -> Hashes:
    return np.empty(0, dtype=np.uint64)


def _no_counts() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class RowSketch:
    """Some rows, by their hashes. Sketches of parts merge to the sketch of the whole, however the rows were split."""

    rows: int = 0
    """All that were looked at."""
    hashes: Hashes = field(default_factory=_no_hashes)
    """The K smallest, ascending."""
    counts: NDArray[np.int64] = field(default_factory=_no_counts)
    """Rows with each of `hashes`."""

    def merge(self, other: "RowSketch") -> "RowSketch":
        """The sketch of the rows of both; commutative and associative."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        hashes, position = np.unique(np.concatenate([self.hashes, other.hashes]), return_inverse=True)
        counts = np.zeros(len(hashes), dtype=np.int64)
        np.add.at(counts, position, np.concatenate([self.counts, other.counts]))
        return RowSketch(self.rows + other.rows, hashes[:K], counts[:K])

    @property
    def share(self) -> float:
        """Share of the rows that repeat an earlier one; exact below K different rows.

        Two estimates, each good where the other isn't. How often the kept rows came tells a small share well, but
        misses a single row that came a million times; the number of different rows, (K - 1) / largest hash, knows it,
        give or take 1.6 points. The second counts where the two differ by more than three of its standard errors.
        """
        if not self.rows:
            return 0.0
        by_count = 1.0 - len(self.hashes) / int(self.counts.sum())
        if len(self.hashes) < K:
            return by_count
        different = (K - 1) * 2.0**64 / float(self.hashes[-1])
        by_number = max(0.0, 1.0 - different / self.rows)
        return by_number if abs(by_number - by_count) > 3 / sqrt(K - 2) else by_count


def sketch_rows(names: Sequence[str], table: pa.Table, rows: int) -> RowSketch:
    """The sketch of a batch of rows by the features `names`; one that `table` doesn't have is missing in each row."""
    found = dict(zip(table.column_names, table.columns, strict=True))
    missing = np.full(rows, _hash_text(_MISSING), dtype=np.uint64)
    columns = (_hash_column(found[name], missing) if name in found else missing for name in names)
    hashes, counts = np.unique(hash_rows(columns, rows), return_counts=True)
    return RowSketch(rows, hashes[:K], counts[:K])


def sketch_to_bytes(sketch: RowSketch) -> bytes:
    """An Arrow file of the hashes and their counts."""
    table = pa.table({"hash": sketch.hashes, "count": sketch.counts}).replace_schema_metadata(
        {"rows": str(sketch.rows)}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def sketch_from_bytes(content: bytes) -> RowSketch:
    """The inverse; raises ArrowException, KeyError, TypeError or ValueError for anything else."""
    table = pa.ipc.open_file(BytesIO(content)).read_all()
    rows = int((table.schema.metadata or {})[b"rows"])
    return RowSketch(rows, table["hash"].to_numpy(), table["count"].to_numpy())


def _hash_column(values: pa.ChunkedArray, missing: Hashes) -> Hashes:
    """A hash for each value, whatever type the batch has it in: the number 1 is also that of another batch."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers = hash_numbers(values.cast(pa.float64(), safe=False).to_numpy())
        return np.where(numbers == _NAN, missing, numbers)
    if pa.types.is_null(values.type):
        return missing
    encoded = values.combine_chunks().dictionary_encode()
    keys = [category_key(value) for value in encoded.dictionary.to_pylist()]
    known = [_hash_text(_MISSING if key is None else f"={key}") for key in [*keys, None]]
    codes = encoded.indices.fill_null(len(keys)).to_numpy(zero_copy_only=False)
    hashes: Hashes = np.array(known, dtype=np.uint64)[codes]
    return hashes


def _hash_text(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


_NAN = hash_numbers(np.array([np.nan]))[0]
