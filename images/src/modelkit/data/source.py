"""Read the training source into a data frame, whatever it is: a built-in data set, CSV or Parquet, file or S3.

Every problem ends in a RefusedError that names the address as the user wrote it, except an unreachable store
(StoreError), which another attempt may mend.
"""

import re
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from modelkit.contract.config import DataConfig, StoreConfig
from modelkit.contract.estimators import BUILTIN_DATASETS
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.store import Store

_SLICE = re.compile(r"(-?\d*):(-?\d*)")
_CSV_SUFFIXES = (".csv", ".csv.gz")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_INDEX_COLUMN = re.compile(r"__index_level_\d+__")


def read_source(config: DataConfig, environ: Mapping[str, str]) -> pd.DataFrame:
    """The whole table at `config.uri`, one column per name in the file, all rows in the file's order.

    `builtin://<name>` is a data set of scikit-learn with the column `target`; `?rows=start:stop` takes a slice of
    its shipped order, as in Python. `file://` and `s3://` name one CSV file with a header or one Parquet file.
    Raises RefusedError (DataNotFound, PermissionDenied, DataUnreadable, EmptyData, BadDataAddress) or StoreError.
    """
    scheme = urlsplit(config.uri).scheme
    if scheme == "builtin":
        frame = _read_builtin(config)
    elif scheme in {"file", "s3"}:
        frame = _read_file(config, environ)
    else:
        raise RefusedError(
            "BadDataAddress",
            f"the data address {config.display_uri} must begin with builtin://, pvc:// or s3://",
        )
    if frame.empty:
        raise RefusedError(
            "EmptyData",
            f"{config.display_uri} has {len(frame)} rows and {len(frame.columns)} columns; there is nothing to learn",
        )
    return frame


def _read_builtin(config: DataConfig) -> pd.DataFrame:
    parts = urlsplit(config.uri)
    loader = BUILTIN_DATASETS.get(parts.netloc)
    if loader is None or parts.path not in {"", "/"}:
        raise RefusedError(
            "DataNotFound",
            f"there is no data set {config.display_uri}; built in are: {', '.join(BUILTIN_DATASETS)}"
            + suggest(parts.netloc, BUILTIN_DATASETS),
        )
    import sklearn.datasets

    frame: pd.DataFrame = getattr(sklearn.datasets, loader)(as_frame=True).frame
    options = parse_qs(parts.query, keep_blank_values=True)
    if not options:
        return frame
    match = _SLICE.fullmatch(options.get("rows", [""])[0])
    if match is None or set(options) != {"rows"}:
        raise RefusedError(
            "BadDataAddress",
            f"the data address {config.display_uri} must end in ?rows=start:stop, such as ?rows=0:300",
        )
    start, stop = (int(bound) if bound else None for bound in match.groups())
    return frame.iloc[start:stop].reset_index(drop=True)


def _read_file(config: DataConfig, environ: Mapping[str, str]) -> pd.DataFrame:
    parts = urlsplit(config.uri)
    path = unquote(parts.path)
    lowered = path.lower()
    if not lowered.endswith((*_CSV_SUFFIXES, *_PARQUET_SUFFIXES)):
        raise RefusedError(
            "BadDataAddress",
            f"the data address {config.display_uri} must name one file that ends in .csv, .csv.gz or .parquet",
        )
    source: Path | BytesIO = (
        _local(path, config) if parts.scheme == "file" else BytesIO(_remote(parts.netloc, path, config, environ))
    )
    try:
        if lowered.endswith(_PARQUET_SUFFIXES):
            return _read_parquet(source, config)
        return _read_csv(source, config, compressed=lowered.endswith(".gz"))
    except PermissionError as exc:
        raise _denied(config, "the pod's user may not read the file") from exc


def _local(path: str, config: DataConfig) -> Path:
    local = Path(path)
    if ".." in local.parts:
        raise RefusedError("BadDataAddress", f"the data address {config.display_uri} must not hold '..'")
    try:
        if local.is_file():
            return local
        beside = [entry.name for entry in local.parent.iterdir()] if local.parent.is_dir() else []
    except PermissionError as exc:
        raise _denied(config, "the pod's user may not open the folder") from exc
    raise RefusedError(
        "DataNotFound",
        f"there is no file at {config.display_uri}; check the path below the claim" + suggest(local.name, beside),
    )


def _remote(bucket: str, path: str, config: DataConfig, environ: Mapping[str, str]) -> bytes:
    store = Store.open(StoreConfig(uri=f"s3://{bucket}", env_prefix=config.env_prefix), environ)
    try:
        return store.read(str(PurePosixPath(path)).lstrip("/"))
    except StoreObjectNotFoundError as exc:
        raise RefusedError("DataNotFound", f"there is no object at {config.display_uri}") from exc
    except StorePermissionError as exc:
        raise _denied(config, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its Secret") from exc


def _denied(config: DataConfig, advice: str) -> RefusedError:
    return RefusedError("PermissionDenied", f"no permission to read {config.display_uri}: {advice}")


def _read_csv(source: Path | BytesIO, config: DataConfig, *, compressed: bool) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Without an error here, pandas cuts rows that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(source, index_col=False, low_memory=False, compression="gzip" if compressed else None)
    except pd.errors.EmptyDataError as exc:
        raise RefusedError(
            "EmptyData", f"{config.display_uri} is empty; expected a header and at least one row"
        ) from exc
    except UnicodeDecodeError as exc:
        raise _unreadable(config, f"it isn't UTF-8 (byte {exc.start}); convert it to UTF-8") from exc
    except pd.errors.ParserWarning as exc:
        raise _unreadable(config, "rows have more values than the header has names") from exc
    except (pd.errors.ParserError, ValueError, EOFError, OSError) as exc:
        if isinstance(exc, PermissionError):
            raise
        raise _unreadable(config, f"it isn't CSV: {_without_values(exc)}") from exc
    if len(frame.columns) == 1 and (found := re.search(r"[;\t|]", str(frame.columns[0]))):
        raise _unreadable(
            config, f"its header holds {found.group()!r} and no comma; save it with commas between the values"
        )
    return frame


def _read_parquet(source: Path | BytesIO, config: DataConfig) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(source).read()
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, PermissionError):
            raise
        raise _unreadable(config, f"it isn't Parquet, or cut off: {_without_values(exc)}") from exc
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise _unreadable(config, f"the column {repeated[0]!r} occurs {names.count(repeated[0])} times")
    plain = []
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(column.type.value_type))
        elif pa.types.is_decimal(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(pa.float64()))
        elif pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise _unreadable(
                config,
                f"the column {column.name!r} is of type {column.type}; expected numbers, text or booleans",
            )
        if not _INDEX_COLUMN.fullmatch(column.name):
            plain.append(column.name)
    frame: pd.DataFrame = table.select(plain).to_pandas(ignore_metadata=True)
    return frame


def _unreadable(config: DataConfig, problem: str) -> RefusedError:
    return RefusedError("DataUnreadable", f"{config.display_uri} can't be read: {problem}")


def _without_values(exc: Exception) -> str:
    """The parser's first line without quoted text, which may be a value of the data."""
    line = (str(exc).splitlines() or [type(exc).__name__])[0].strip()
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", line)[:200]
