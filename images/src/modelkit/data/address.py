"""What a data address means: one file, a glob or a prefix, and in which format. Pure: nothing is looked at.

A glob has `*` (any part of a name), `?` (one character) and `**` (any folders, none too). A prefix ends in `/` and
means every file of a known format below it. Names that begin with `.` or `_`, such as Spark's `_SUCCESS`, are found
only by a pattern that begins so.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from modelkit.contract.config import DataConfig
from modelkit.errors import RefusedError

CSV, PARQUET, JSON_LINES = "CSV", "Parquet", "JSONLines"
FORMATS = (CSV, PARQUET, JSON_LINES)
FILE, GLOB, PREFIX = "file", "glob", "prefix"
WEB = ("https", "http")

_ENDINGS = {
    ".csv": CSV,
    ".csv.gz": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".jsonl": JSON_LINES,
    ".jsonl.gz": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".ndjson.gz": JSON_LINES,
}
_WRITTEN_ENDINGS = ".csv, .parquet, .jsonl or .ndjson (all but Parquet also with .gz)"
_WILDCARD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address."""

    scheme: str
    """file, s3, gs, az, https or http."""
    container: str
    """The bucket, container or host; empty for file."""
    folder: str
    """Without wildcards, without `/` at its ends but, for file, the leading one; may be empty."""
    names: str
    """The file's path or the pattern below `folder`; a prefix has the pattern `**/*`."""
    kind: str
    """file, glob or prefix."""
    shown_folder: str
    """`folder` as the user writes it, with `/` at its end."""

    def shown(self, name: str) -> str:
        """The address of `name`, a path below the folder, as the user would write it."""
        return self.shown_folder + name


def parse_address(config: DataConfig) -> Address:
    """The address in `config`; raises RefusedError (BadDataAddress) for one that can't be meant."""
    scheme, _, rest = config.uri.partition("://")
    container, _, path = rest.partition("/")
    if scheme in WEB:
        return _parse_web(scheme, config)
    if _WILDCARD.search(container) or (scheme != "file" and not container):
        raise _bad(config, "must name a bucket or container, without wildcards")
    segments = [unquote(segment) for segment in path.split("/") if segment not in {"", "."}]
    if ".." in segments:
        raise _bad(config, "must not hold '..'")
    if path.endswith("/") or not segments:
        kind, folder, names = PREFIX, segments, "**/*"
    else:
        fixed = next((i for i, segment in enumerate(segments) if _WILDCARD.search(segment)), len(segments) - 1)
        folder, names = segments[:fixed], "/".join(segments[fixed:])
        kind = GLOB if _WILDCARD.search(names) else FILE
    root = "/" if scheme == "file" else ""
    return Address(scheme, container, root + "/".join(folder), names, kind, _shown_folder(config.display_uri))


def format_of(name: str, stated: str | None) -> str | None:
    """CSV, Parquet or JSONLines; `stated` wins over the name's ending. None for an unknown ending."""
    if stated is not None:
        return stated
    lowered = name.lower()
    return next((known for ending, known in _ENDINGS.items() if lowered.endswith(ending)), None)


def require_format(name: str, config: DataConfig) -> str:
    """The format of a file that the address names; raises RefusedError (BadDataAddress)."""
    if config.format is not None and config.format not in FORMATS:
        raise RefusedError("BadDataAddress", f"the format must be {', '.join(FORMATS)}; found {config.format!r}")
    found = format_of(name, config.format)
    if found is None:
        raise _bad(config, f"must name files that end in {_WRITTEN_ENDINGS}; state the format when they don't")
    return found


def compile_names(pattern: str) -> re.Pattern[str]:
    """The expression that a path below the folder matches as a whole."""
    expression = ""
    *folders, last = pattern.split("/")
    for segment in folders:
        expression += r"(?:(?![._])[^/]+/)*" if segment == "**" else _segment(segment) + "/"
    return re.compile(expression + _segment(last))


def _segment(pattern: str) -> str:
    signs = {"*": "[^/]*", "?": "[^/]"}
    hidden = r"(?![._])" if pattern[:1] in signs else ""
    return hidden + "".join(signs.get(char, re.escape(char)) for char in pattern)


def _parse_web(scheme: str, config: DataConfig) -> Address:
    parts = urlsplit(config.uri)
    folder, _, name = unquote(parts.path).strip("/").rpartition("/")
    if not name or parts.path.endswith("/") or "*" in parts.path:
        raise _bad(config, "must name one file: a web server can't list what it has")
    return Address(scheme, parts.netloc, folder, name, FILE, _shown_folder(config.display_uri.partition("?")[0]))


def _shown_folder(uri: str) -> str:
    wildcard = _WILDCARD.search(uri)
    fixed = uri if wildcard is None else uri[: wildcard.start()]
    return fixed[: fixed.rfind("/") + 1]


def _bad(config: DataConfig, rule: str) -> RefusedError:
    return RefusedError("BadDataAddress", f"the data address {config.display_uri} {rule}")
