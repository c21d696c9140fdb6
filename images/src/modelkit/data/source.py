"""Read the training source into a data frame, whatever it is and wherever it lies.

Every problem ends in a RefusedError that names the address as the user wrote it, except a place that can't be reached
(StoreError), which another attempt may mend.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pandas.api import types

from modelkit.contract.config import DataConfig
from modelkit.data.address import WEB, parse_address
from modelkit.data.builtin import read_builtin
from modelkit.data.formats import read_table, unreadable
from modelkit.data.memory import Memory, read_memory, require_memory
from modelkit.data.places import SourceFile, find_files
from modelkit.data.suggest import enumerate_names
from modelkit.errors import RefusedError

_SCHEMES = ("builtin", "file", "s3", "gs", "az", *WEB)


def read_source(config: DataConfig, environ: Mapping[str, str], memory: Memory | None = None) -> pd.DataFrame:
    """The whole table at `config.uri`, one column per name in the files, rows in the order of files and lines.

    `builtin://<name>` is a data set of scikit-learn. All else is CSV with a header, Parquet or JSON lines in one file,
    the files that match a glob, or those below a prefix (see `data.address`), which must have the same columns.
    `memory` is what the process may take; without it, what the container or the node has.
    Raises RefusedError (DataNotFound, PermissionDenied, DataUnreadable, EmptyData, BadDataAddress, TooManyFiles,
    DifferentColumns, DataTooLarge) or StoreError.
    """
    scheme = urlsplit(config.uri).scheme
    if scheme not in _SCHEMES:
        raise RefusedError(
            "BadDataAddress",
            f"the data address {config.display_uri} must begin with builtin://, pvc://, s3://, gs://, az://, https:// "
            "or work://",
        )
    frame = read_builtin(config) if scheme == "builtin" else _read_files(config, environ, memory)
    if frame.empty:
        raise RefusedError(
            "EmptyData",
            f"{config.display_uri} has {len(frame)} rows and {len(frame.columns)} columns; there is nothing to learn",
        )
    return frame


def _read_files(config: DataConfig, environ: Mapping[str, str], memory: Memory | None) -> pd.DataFrame:
    files = find_files(parse_address(config), config, environ)
    if (available := memory or read_memory()) is not None:
        require_memory(files, available, config.display_uri)
    first = _read(files[0])
    if len(files) == 1:
        return first
    frames = [first]
    for file in files[1:]:
        frame = _read(file)
        _refuse_other_columns(frame, first, file, files[0])
        frames.append(frame[first.columns])
    _refuse_other_types(frames, files)
    return _concatenate(frames)


def _read(file: SourceFile) -> pd.DataFrame:
    try:
        frame = read_table(file.open(), file.format, file.name, compressed=file.is_compressed)
    except PermissionError as exc:
        raise RefusedError(
            "PermissionDenied", f"no permission to read {file.name}: the pod's user may not read the file"
        ) from exc
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _refuse_other_columns(frame: pd.DataFrame, first: pd.DataFrame, file: SourceFile, first_file: SourceFile) -> None:
    lacks = [name for name in first.columns if name not in frame.columns]
    adds = [name for name in frame.columns if name not in first.columns]
    if lacks or adds:
        problems = [
            f"{verb} {enumerate_names(map(repr, names))}" for verb, names in (("lacks", lacks), ("adds", adds)) if names
        ]
        raise RefusedError(
            "DifferentColumns",
            f"{file.name} has other columns than {first_file.name}: it {' and '.join(problems)}; all files of one "
            "source must have the same columns",
        )


def _refuse_other_types(frames: list[pd.DataFrame], files: list[SourceFile]) -> None:
    for name in frames[0].columns:
        known: tuple[str, SourceFile] | None = None
        for frame, file in zip(frames, files, strict=True):
            if not frame[name].notna().any():
                continue
            kind = _kind(frame[name])
            if known is None:
                known = kind, file
            elif kind != known[0]:
                raise unreadable(file.name, f"the column {name!r} holds {kind} here and {known[0]} in {known[1].name}")


def _kind(values: "pd.Series[Any]") -> str:
    present = values.dropna()
    if types.is_bool_dtype(values.dtype) or all(isinstance(value, bool) for value in present.head(1)):
        return "booleans"
    if types.is_numeric_dtype(values.dtype):
        return "numbers"
    return "dates" if types.is_datetime64_any_dtype(values.dtype) else "text"


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows. A part without any value in a column says nothing of the column's type."""
    filled = [{name for name in frame.columns if frame[name].notna().any()} for frame in frames]
    known = set[str]().union(*filled)
    parts = [
        frame[[name for name in frame.columns if name in has or name not in known]]
        for frame, has in zip(frames, filled, strict=True)
        if len(frame)
    ]
    return pd.concat(parts, ignore_index=True)[frames[0].columns] if parts else frames[0]
