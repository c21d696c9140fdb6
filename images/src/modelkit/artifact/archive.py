"""Look at model.skops as an archive before anything is read from it: names, sizes and flags of what it holds.

A skops file is a zip archive of `schema.json` and array files. Nothing of it is ever written to a folder; what is
guarded here is memory and time (a small archive can unfold to any size) and what two readers of an archive could see
differently (names that come twice, encrypted or oddly compressed entries). What may be *constructed* from it is
`native`'s business.
"""

import io
import re
import stat
import zipfile
import zlib
from copy import copy

from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_SKOPS

MAX_ENTRIES = 200_000
"""A forest has a few entries per tree."""
MAX_RATIO = 100
MAX_ALWAYS = 256 * 1024 * 1024
"""Bytes that any archive may unfold to; beyond it at most MAX_RATIO times its own size: arrays of trees shrink to a
fifth or tenth, a bomb to a thousandth."""

_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}\.(npy|npz|bin|json)")
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_PART_BYTES = 1_048_576
_TYPE_BITS = 16
"""Where a Unix mode lies in an entry's external attributes."""


def check_archive(data: bytes) -> None:
    """Raise ArtifactError for what isn't an archive as skops writes it, or would unfold beyond all measure."""
    try:
        _check(data, max(MAX_ALWAYS, MAX_RATIO * len(data)), is_nested=False)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, zlib.error) as exc:
        raise ArtifactError(
            f"{MODEL_SKOPS} doesn't load: it isn't an archive that can be read ({type(exc).__name__}); train again"
        ) from exc


def _check(data: bytes, budget: int, *, is_nested: bool) -> int:
    """What remains of `budget` bytes; a sparse matrix is an archive of its own in an entry `.npz`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise _refused(f"it has {len(entries)} entries, more than {MAX_ENTRIES}")
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise _refused("a name comes twice in it")
        for entry in entries:
            _check_entry(entry)
            budget -= entry.file_size
        if budget < 0:
            raise _refused("it unfolds to far more than its own size")
        for entry in entries:
            is_archive = not is_nested and entry.filename.endswith(".npz")
            content = _unfold(archive, entry, is_kept=is_archive)
            if is_archive:
                budget = _check(content, budget, is_nested=True)
    return budget


def _unfold(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, is_kept: bool) -> bytes:
    """The content of an entry, empty unless `is_kept`; raises ArtifactError when it is more than the entry says.

    Whoever reads such an entry whole unfolds all of it, up to 2 GiB, before it is cut to the size that was said.
    """
    wide = copy(entry)
    wide.file_size += 1  # Else the archive's reader would cut it here too.
    content, size = io.BytesIO(), 0
    with archive.open(wide) as file:
        while part := file.read(_PART_BYTES):
            size += len(part)
            if size > entry.file_size:
                raise _refused(f"the entry {entry.filename} unfolds to more than it says")
            if is_kept:
                content.write(part)
    return content.getvalue()


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if not _NAME.fullmatch(entry.filename) or entry.orig_filename != entry.filename:
        raise _refused(f"{entry.filename[:80]!r} isn't the name of an entry that is written into it")
    mode = entry.external_attr >> _TYPE_BITS
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _refused(f"the entry {entry.filename} isn't a regular file")
    if entry.flag_bits & _ENCRYPTED:
        raise _refused(f"the entry {entry.filename} is encrypted")
    if entry.compress_type not in _COMPRESSIONS:
        raise _refused(f"the entry {entry.filename} is compressed in a way that isn't used")


def _refused(why: str) -> ArtifactError:
    return ArtifactError(f"{MODEL_SKOPS} isn't loaded: {why}; nothing that modelloop writes looks like this")
