"""Paths below a store's root: the one place that says which are acceptable.

A path is relative, uses `/`, and has no segment that could leave the root or clash with a half-written file.
"""

from modelkit.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"
"""Names of files that are being written; never listed, never readable through the store."""
_MAX_SEGMENT_BYTES = 255


def split_path(path: str) -> tuple[str, ...]:
    """The segments of a path below the root; raises StoreError for one that could leave it."""
    segments = tuple(path.split("/"))
    for segment in segments:
        if problem := _problem(segment):
            raise StoreError(
                f"{path!r} isn't a path below the store's root: {problem}; "
                "expected names separated by '/', such as models/default/cancer/1-abc/manifest.json"
            )
    return segments


def split_prefix(prefix: str) -> tuple[str, ...]:
    """The segments of a folder below the root; empty for the root itself. A trailing `/` is accepted."""
    trimmed = prefix[:-1] if prefix.endswith("/") else prefix
    return split_path(trimmed) if trimmed else ()


def _problem(segment: str) -> str | None:
    if segment in {"", ".", ".."}:
        return f"the part {segment!r} isn't a name"
    if segment.startswith(TEMPORARY_PREFIX):
        return f"names that begin with {TEMPORARY_PREFIX} are reserved"
    if "\\" in segment or any(ord(char) < 32 or ord(char) == 127 for char in segment):
        return "it has a backslash or a control character"
    if len(segment.encode(errors="replace")) > _MAX_SEGMENT_BYTES:
        return f"a name is longer than {_MAX_SEGMENT_BYTES} bytes"
    return None
