"""`python -m modelkit.monitor.shards`: drift of rows in Parquet files against a version's profile, as JSON.

For rows that no server captured: of a batch job, or another platform. The files are shards of one set of rows. They are
read in batches, whatever their size, and only counts are printed.
"""

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit.contract.codec import to_plain
from modelkit.contract.monitoring import METHODS, DriftConfig
from modelkit.errors import ModelKitError

if TYPE_CHECKING:
    import pyarrow as pa

    from modelkit.data.profile import Histogram
    from modelkit.monitor.counts import Column

_BATCH_ROWS = 65_536
"""A column of so many numbers is 512 KiB; larger batches aren't faster."""
_BUFFER_BYTES = 64 * 1024
"""Read of a column at once: without it a reader holds whole column chunks."""
_THREADS = 2
"""Batches that are counted while the next one is decoded."""


class ShardError(ModelKitError):
    """A profile or a Parquet file that can't be used."""


def read_profile(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The entries of the features of a profile.json; raises ShardError."""
    from modelkit.data.profile import FORMAT

    try:
        profile = json.loads(path.read_bytes())
        found, features = profile["format"], profile["features"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ShardError(f"{path} can't be read as a version's profile.json: {type(exc).__name__}") from exc
    if found != FORMAT:
        raise ShardError(f"{path} has the format {found}; this release reads {FORMAT}")
    entries: Mapping[str, Mapping[str, Any]] = features
    return entries


def count_shards(entries: Mapping[str, Mapping[str, Any]], paths: Sequence[Path]) -> tuple["Column", ...]:
    """Count the rows of all files; raises ShardError. Memory: some batches, and a buffer for each column."""
    import pyarrow as pa

    from modelkit.monitor.counts import build_columns
    from modelkit.monitor.summary import empty_histogram

    counted = {name: empty_histogram(entry) for name, entry in entries.items()}
    for path in paths:
        try:
            for batch in _count_batches(entries, _read_batches(entries, path)):
                counted = {name: histogram + batch[name] for name, histogram in counted.items()}
        except (OSError, pa.ArrowException) as exc:
            raise ShardError(f"{path} can't be read as a Parquet file: {type(exc).__name__}") from exc
    return build_columns(entries, counted)


def _count_batches(
    entries: Mapping[str, Mapping[str, Any]], tables: Iterator["pa.Table"]
) -> Iterator[dict[str, "Histogram"]]:
    """The counts of each batch, in order; numpy and Arrow let go of the interpreter, so threads help."""
    from modelkit.monitor.counts import count_features

    waiting: deque[Future[dict[str, Histogram]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for table in tables:
            if len(waiting) == _THREADS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(count_features, entries, table, table.num_rows))
        while waiting:
            yield waiting.popleft().result()


def _read_batches(entries: Mapping[str, Mapping[str, Any]], path: Path) -> Iterator["pa.Table"]:
    """The columns that the version has, in batches; categories as dictionaries where the file has them as such."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from modelkit.data.profile import CATEGORICAL

    categories = [name for name, entry in entries.items() if entry["kind"] == CATEGORICAL]
    with pq.ParquetFile(path, read_dictionary=categories, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        names = [name for name in file.schema_arrow.names if name in entries]
        for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
            yield pa.Table.from_batches([batch])


def build_answer(columns: Sequence["Column"], config: DriftConfig, min_rows: int) -> dict[str, Any]:
    """The check and each feature's distance, in plain JSON types."""
    from modelkit.monitor.drift import check_drift, compare_columns

    rows = columns[0].window.rows if columns else 0
    drifts = compare_columns(columns, config, min_rows)
    return {
        "rows": rows,
        "check": to_plain(check_drift(drifts, len(columns), rows, config, min_rows)),
        "drifted": [drift.name for drift in drifts if drift.drifted],
        "features": [
            {
                "name": drift.name,
                "method": drift.method,
                "distance": drift.distance,
                "pValue": drift.p_value,
                "rows": drift.rows,
            }
            for drift in drifts
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Print the answer; 1 when something can't be read."""
    parser = argparse.ArgumentParser(prog="python -m modelkit.monitor.shards", description=__doc__)
    parser.add_argument("--profile", type=Path, required=True, help="profile.json of the version")
    parser.add_argument("--method", choices=METHODS, default=DriftConfig().method)
    parser.add_argument("--max-distance", type=float, default=DriftConfig().max_distance)
    parser.add_argument("--min-rows", type=int, default=50)
    parser.add_argument("files", type=Path, nargs="+", help="Parquet files")
    options = parser.parse_args(arguments)
    config = DriftConfig(method=options.method, max_distance=options.max_distance)
    with ThreadPoolExecutor(1) as pool:
        try:
            entries = read_profile(options.profile)
            # scipy takes a fifth of a second to load, and isn't needed before all rows are counted.
            pool.submit(import_module, "modelkit.monitor.drift")
            columns = count_shards(entries, options.files)
        except ShardError as exc:
            print(exc, file=sys.stderr)
            return 1
    print(json.dumps(build_answer(columns, config, options.min_rows), allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
