"""The segment format of captured requests and feedback: names and bytes, for writers.

A segment is a gzip file of JSON lines, written once and never changed. It lies in the folder of the hour (UTC) of its
records, so a reader of a time window lists only the hours that it needs::

    captures/<namespace>/<deployment>/<stream>/<hour>/<pod>-<start>-<sequence>.jsonl.gz

`start` is the microsecond at which the writing process began: a restarted pod never meets its own older names.

One line of the stream `requests` is one row that was answered::

    {"id": str, "row": int, "time": RFC 3339, "digest": str, "version": int,
     "features": {column: value}, "prediction": value, "probabilities": [float] | null,
     "redacted": [column]}

`redacted`, which most rows don't have, names the columns whose values aren't in `features` as they were sent: left
out, or a keyed hash in their place.

One line of the stream `feedback` is one true label, `received` ordering corrections of the same row::

    {"id": str, "row": int, "label": value, "time": RFC 3339, "received": RFC 3339}

Without pyarrow, which the server image doesn't have; the reader is `modelkit.store.captures`. Only writers need isal.
"""

import re
import zlib
from collections.abc import Iterable
from datetime import datetime
from itertools import count

from modelkit.contract.files import captures_directory
from modelkit.errors import ModelKitError

SUFFIX = ".jsonl.gz"
MAX_SEGMENT_BYTES = 256 * 1024 * 1024
"""Uncompressed; a reader refuses more, so that a forged segment can't take all memory."""

_PIECE_BYTES = 64 * 1024
"""Plain text that is compressed at once. Each call gives the interpreter up and must get it back from threads that
answer requests: a call for every line would disturb them at every line."""
_GZIP = 16 + zlib.MAX_WBITS
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class CorruptSegmentError(ModelKitError):
    """A segment that is truncated, damaged or larger than any writer makes."""


class SegmentNames:
    """Paths for the objects of one process, never the same twice, also over restarts of the pod."""

    def __init__(
        self, namespace: str, deployment: str, stream: str, pod: str, started: datetime, suffix: str = SUFFIX
    ) -> None:
        self._directory = captures_directory(namespace, deployment, stream)
        self._prefix = f"{_UNSAFE.sub('-', pod)}-{int(started.timestamp() * 1_000_000)}"
        self._sequence = count()
        self._suffix = suffix

    def next_path(self, hour: str) -> str:
        """The path of the next object, for records of `hour` (see contract.files.capture_hour)."""
        return f"{self._directory}/{hour}/{self._prefix}-{next(self._sequence):06d}{self._suffix}"


class SegmentBuilder:
    """The bytes of one segment, compressed piece by piece so that a writer never holds all of the plain text."""

    __slots__ = ("_compressor", "_lines", "_parts", "_plain", "rows", "size")

    def __init__(self) -> None:
        # The server pays for it, beside answering: a quarter of zlib's own time at its fastest, and smaller.
        from isal import isal_zlib

        self._compressor = isal_zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        self._parts: list[bytes] = []
        self._lines: list[bytes] = []
        self._plain = 0
        self.rows = 0
        self.size = 0
        """Uncompressed bytes."""

    def add(self, line: bytes) -> None:
        """Append a line, which must end in a newline."""
        self.rows += 1
        self.size += len(line)
        self._lines.append(line)
        self._plain += len(line)
        if self._plain >= _PIECE_BYTES:
            self._compress()

    def finish(self) -> bytes:
        """The whole segment; nothing can be added after it."""
        self._compress()
        return b"".join([*self._parts, self._compressor.flush()])

    def _compress(self) -> None:
        if part := self._compressor.compress(b"".join(self._lines)):
            self._parts.append(part)
        self._lines, self._plain = [], 0


def compress_segment(lines: Iterable[bytes]) -> bytes:
    """JSON lines, each ending in a newline, as the bytes of a segment."""
    builder = SegmentBuilder()
    for line in lines:
        builder.add(line)
    return builder.finish()


def decompress_segment(data: bytes) -> bytes:
    """The JSON lines of a segment; raises CorruptSegmentError."""
    decompressor = zlib.decompressobj(_GZIP)
    try:
        lines = decompressor.decompress(data, MAX_SEGMENT_BYTES)
    except zlib.error as exc:
        raise CorruptSegmentError("the segment is damaged") from exc
    if not decompressor.eof:
        raise CorruptSegmentError("the segment is truncated, or larger than any writer makes")
    if lines and not lines.endswith(b"\n"):
        raise CorruptSegmentError("the segment's last line is incomplete")
    return lines
