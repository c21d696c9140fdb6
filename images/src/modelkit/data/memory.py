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

WORKING_COPIES = 3
"""How often the rows are in memory at the worst moment: the table as it was read, the model's view of it, and that
again in parts (training and test) while the first of these live; measured at 2.0 to 2.9, see docs/training/data.md."""

_SAMPLE_BYTES = 1024 * 1024
_SAMPLE_ROWS = 10_000
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


def require_memory(files: Sequence[SourceFile], memory: Memory, name: str) -> None:
    """Refuse the source `name` when its rows don't fit; raises RefusedError (DataTooLarge) with estimate and limit."""
    rows = estimate_bytes(files)
    held = max((file.size for file in files), default=0) if files and files[0].scheme != "file" else 0
    needed = memory.used + WORKING_COPIES * rows + held
    if needed <= memory.limit:
        return
    has = (
        f"spec.resources.limits.memory is {_show(memory.limit)}; raise it"
        if memory.is_pod_limit
        else f"the node has {_show(memory.limit)} free; set spec.resources to get a larger one"
    )
    raise RefusedError(
        "DataTooLarge",
        f"{name} needs about {_show(needed)} ({_show(rows)} as a table, {WORKING_COPIES} times that while it is worked "
        f"on), {has}, or select rows or columns beforehand (spec.prepare)",
    )


def estimate_bytes(files: Sequence[SourceFile]) -> int:
    """Bytes that all rows take in memory, once."""
    largest = max(files, key=lambda file: file.size)
    return int(_measure_ratio(largest) * sum(file.size for file in files))


def bytes_in_memory(frame: pd.DataFrame) -> int:
    """What the rows take as numbers (8 bytes) and Python texts, whatever pandas holds them as."""
    total = 0
    for _, values in frame.items():
        if types.is_numeric_dtype(values.dtype) or types.is_datetime64_any_dtype(values.dtype):
            total += _NUMBER_BYTES * len(values)
        else:
            total += sum(_TEXT_BYTES + len(value) if isinstance(value, str) else _NUMBER_BYTES for value in values)
    return total


def _measure_ratio(file: SourceFile) -> float:
    """Bytes in memory per stored byte of `file`."""
    try:
        frame, stored = _sample_parquet(file) if file.format == PARQUET else _sample_lines(file)
    except RefusedError:
        # A sample may be cut within a value; the reader has the last word on the whole file.
        return _UNKNOWN_RATIO
    return bytes_in_memory(frame) / max(1.0, stored)


def _sample_parquet(file: SourceFile) -> tuple[pd.DataFrame, float]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = file.open() if file.scheme == "file" else pa.PythonFile(_Parts(file), mode="r")
    try:
        parquet = pq.ParquetFile(source, buffer_size=64 * 1024)
        batch = next(parquet.iter_batches(batch_size=_SAMPLE_ROWS), None)
        rows = parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as exc:
        raise RefusedError("DataUnreadable", "no sample can be read") from exc
    if batch is None:
        return pd.DataFrame(), 1.0
    frame = to_frame(pa.Table.from_batches([batch]), file.name)
    return frame, file.size * len(frame) / rows


def _sample_lines(file: SourceFile) -> tuple[pd.DataFrame, float]:
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
    return read_table(BytesIO(text), file.format, file.name, compressed=False), stored


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
