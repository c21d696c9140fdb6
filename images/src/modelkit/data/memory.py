"""Is there memory for a source? Asked before it is read, because the node kills a pod that takes too much, unheard.

The estimate rests on a sample: what its rows take in memory per stored byte, times the bytes of all files. Pure but
for the few files of /sys and /proc that say how much memory there is.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api import types

from modelkit.data.address import PARQUET
from modelkit.data.formats import read_table, to_frame
from modelkit.data.places import SourceFile
from modelkit.errors import RefusedError

NUMBER_COPIES = 5
"""How often numbers are in memory at the worst moment: the table as it was read, the model's view of it, that again in
parts (training and test), and what scaling and fitting add. Measured at 3.2 to 5.2 (docs/training/data.md)."""
TEXT_COPIES = 2
"""The same of texts, which parts share instead of copying; measured at 1.1 to 1.4."""
LINE_COPIES = 2
"""How often a parser of CSV or JSON lines has a file's text in memory beside the rows; measured at 1.0 to 2.0."""

_SAMPLE_BYTES = 1024 * 1024
_SAMPLE_ROWS = 2_000
_BUFFER_BYTES = 64 * 1024
"""What of a Parquet file's column is read at once."""
_NUMBER_BYTES = 8
_TEXT_BYTES = 57
"""Of a Python text beside its characters (49), and the reference to it (8)."""
_UNKNOWN_RATIO = 4.0
"""Bytes in memory per uncompressed byte where no sample can be parsed."""
_GZIP = 16 + zlib.MAX_WBITS
_NO_LIMIT = 1 << 60
"""cgroup v1 writes a number of this size for "no limit"."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What this process may take."""

    limit: int
    """Bytes."""
    is_pod_limit: bool
    """True: the container's limit; False: it has none, and this is what the node has free."""
    used: int
    """Bytes that the process has already."""


def read_memory(root: Path = Path("/")) -> Memory | None:
    """The container's memory limit (cgroup v2 or v1), or else what is free on the node; None when neither is known."""
    used = _read_used(root)
    limits = [
        limit
        for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
        if (limit := _read_limit(root / name)) is not None
    ]
    if limits:
        return Memory(min(limits), True, used)
    available = _read_field(root / "proc/meminfo", "MemAvailable:")
    return None if available is None else Memory(available + used, False, used)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a source takes."""

    numbers: int
    """All rows' numbers, booleans and moments, once."""
    texts: int
    """All rows' texts, once."""
    reading: int
    """What reading takes beside the rows, for the largest file."""
    files: int

    @property
    def rows(self) -> int:
        """All rows, once."""
        return self.numbers + self.texts

    @property
    def needed(self) -> int:
        """The most at any moment of a run: of reading, where several files are put together, or of training."""
        working = NUMBER_COPIES * self.numbers + TEXT_COPIES * self.texts
        return max(self.rows * min(2, self.files) + self.reading, working)


def require_memory(files: Sequence[SourceFile], memory: Memory, name: str) -> None:
    """Refuse the source `name` when its rows don't fit; raises RefusedError (DataTooLarge) with estimate and limit."""
    estimate = estimate_memory(files)
    needed = memory.used + estimate.needed
    if needed <= memory.limit:
        return
    has = (
        f"spec.resources.limits.memory is {_show(memory.limit)}; raise it"
        if memory.is_pod_limit
        else f"the node has {_show(memory.limit)} for it; set spec.resources to get a larger node"
    )
    raise RefusedError(
        "DataTooLarge",
        f"{name} needs about {_show(needed)} to be learnt from (its rows take {_show(estimate.rows)} once), {has}, or "
        "select rows and columns beforehand (spec.prepare)",
    )


def estimate_memory(files: Sequence[SourceFile]) -> Estimate:
    """What reading `files` and learning from them takes, judged by a sample of the largest."""
    largest = max(files, key=lambda file: file.size)
    ratio = _measure(largest)
    size = sum(file.size for file in files)
    held = 0 if largest.scheme == "file" else largest.size
    return Estimate(
        numbers=int(ratio.numbers * size),
        texts=int(ratio.texts * size),
        reading=int(ratio.reading * largest.size) + held,
        files=len(files),
    )


def bytes_in_memory(frame: pd.DataFrame) -> tuple[int, int]:
    """What the rows take as numbers (8 bytes each), and as Python texts, whatever pandas holds them as."""
    numbers = texts = 0
    for _, values in frame.items():
        if types.is_numeric_dtype(values.dtype) or types.is_datetime64_any_dtype(values.dtype):
            numbers += _NUMBER_BYTES * len(values)
        else:
            texts += sum(_TEXT_BYTES + len(value) if isinstance(value, str) else _NUMBER_BYTES for value in values)
    return numbers, texts


@dataclass(frozen=True, slots=True)
class _Ratio:
    """Bytes in memory per stored byte."""

    numbers: float
    texts: float
    reading: float


def _measure(file: SourceFile) -> _Ratio:
    try:
        return _measure_parquet(file) if file.format == PARQUET else _measure_lines(file)
    except RefusedError:
        # A sample may be cut within a value; the reader has the last word on the whole file.
        return _Ratio(_UNKNOWN_RATIO, 0.0, LINE_COPIES)


def _measure_parquet(file: SourceFile) -> _Ratio:
    """Numbers as the file's footer counts them; texts by a sample of one column after another.

    To read rows of all columns at once would take a page and a dictionary of each, and without a buffer size even all
    of their bytes: in a small pod the sample itself could be what the node kills it for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = file.open() if file.scheme == "file" else pa.PythonFile(_Parts(file), mode="r")
    try:
        parquet = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
        names = [field.name for field in schema if not _is_number(field.type)]
        numbers = _NUMBER_BYTES * rows * (len(schema) - len(names))
        texts = sum(rows * _sample_column(parquet, name, file.name) for name in dict.fromkeys(names))
    except (pa.ArrowException, OSError) as exc:
        raise RefusedError("DataUnreadable", "no sample can be read") from exc
    # Reading has the rows a second time, as an Arrow table.
    return _Ratio(numbers / file.size, texts / file.size, (numbers + texts) / file.size)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_temporal)
    return any(is_number(kind) for is_number in tests)


def _sample_column(parquet: Any, name: str, file_name: str) -> float:
    """Bytes that one row's text of the column takes, by the first rows of the file."""
    import pyarrow as pa

    groups = range(min(1, parquet.num_row_groups))
    batches = parquet.iter_batches(batch_size=_SAMPLE_ROWS, row_groups=groups, columns=[name], use_threads=False)
    batch = next(batches, None)
    if not batch:
        return 0.0
    frame = to_frame(pa.Table.from_batches([batch]).select([name]), file_name)
    numbers, texts = bytes_in_memory(frame)
    return (numbers + texts) / len(frame)


def _measure_lines(file: SourceFile) -> _Ratio:
    frame, stored, text = _sample_lines(file)
    numbers, texts = bytes_in_memory(frame)
    return _Ratio(numbers / stored, texts / stored, LINE_COPIES * text / stored)


def _sample_lines(file: SourceFile) -> tuple[pd.DataFrame, float, int]:
    """The rows of the first MiB, how many stored bytes are theirs, and how long their text is."""
    start = file.read_part(0, _SAMPLE_BYTES) or b""
    text, stored = start, float(len(start))
    if file.is_compressed:
        decompressor = zlib.decompressobj(_GZIP)
        try:
            text = decompressor.decompress(start, 4 * _SAMPLE_BYTES)
        except zlib.error as exc:
            raise RefusedError("DataUnreadable", "it isn't gzip") from exc
        stored = float(len(start) - len(decompressor.unconsumed_tail))
    if stored < file.size:
        whole = text.rpartition(b"\n")[0] + b"\n"
        stored *= len(whole) / max(1, len(text))
        text = whole
    frame = read_table(BytesIO(text), file.format, file.name, compressed=False)
    if frame.empty and stored < file.size:
        raise RefusedError("DataUnreadable", "no row ends within the sample")
    return frame, max(1.0, stored), len(text)


class _Parts:
    """A remote file that Arrow reads by ranges."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._position = 0
        self.closed = False

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of io.RawIOBase."""
        self._position = offset + (0, self._position, self._file.size)[whence]
        return self._position

    def tell(self) -> int:
        """As of io.RawIOBase."""
        return self._position

    def read(self, length: int = -1) -> bytes:
        """As of io.RawIOBase; OSError from a server that gives no parts."""
        wanted = self._file.size - self._position if length < 0 else length
        part = self._file.read_part(self._position, wanted)
        if part is None:
            raise OSError("the server gives whole files only")
        self._position += len(part)
        return part

    def close(self) -> None:
        """As of io.RawIOBase."""
        self.closed = True

    def readable(self) -> bool:
        """As of io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """As of io.RawIOBase."""
        return True

    def writable(self) -> bool:
        """As of io.RawIOBase."""
        return False


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _read_field(file: Path, name: str) -> int | None:
    """Bytes of a line such as `MemAvailable:  123 kB`."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found: Any = next((line.split() for line in lines if line.startswith(name)), None)
    return int(found[1]) * 1024 if found else None


def _read_used(root: Path) -> int:
    return _read_field(root / "proc/self/status", "VmRSS:") or 0


def _show(size: int) -> str:
    """Bytes as Kubernetes writes them."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= one:
            return f"{size / one:.1f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{size / 1024:.0f} KiB"
