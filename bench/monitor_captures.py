"""A window of captured rows for `make bench-monitor`: `write` puts rows of a Parquet file into a store as servers do,
`look` reads the window as the monitor does and prints how many rows there were.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modelkit.contract.codec import format_time
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import REQUESTS_STREAM, capture_hour
from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.gathering import gather_window
from modelkit.monitor.reference import parse_reference
from modelkit.monitor.window import examine_window
from modelkit.store.segments import SegmentNames, compress_segment
from modelkit.store.store import Store

HOURS = 24
END = datetime(2026, 3, 2, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
_SEGMENT_ROWS = 5000
"""About the 4 MiB after which a server begins another segment."""


def write_captures(store: Store, rows: Path) -> None:
    """Spread the rows over the hours of the window."""
    import orjson

    file = pq.ParquetFile(rows)
    per_hour = -(-file.metadata.num_rows // HOURS)
    names = SegmentNames("bench", "model", REQUESTS_STREAM, "pod", END)
    lines = _lines(file, per_hour)
    while part := list(islice(lines, _SEGMENT_ROWS)):
        hours: dict[str, list[bytes]] = {}
        for time, record in part:
            hours.setdefault(capture_hour(time), []).append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        for hour, written in hours.items():
            store.write(names.next_path(hour), compress_segment(written))


def _lines(file: pq.ParquetFile, per_hour: int) -> Iterator[tuple[datetime, dict[str, Any]]]:
    numbers = count()
    for batch in file.iter_batches(_SEGMENT_ROWS):
        for features in batch.to_pylist():
            number = next(numbers)
            time = END - timedelta(hours=HOURS) + timedelta(hours=1) * (number / per_hour)
            yield (
                time,
                {
                    "id": f"00000000-0000-4000-8000-{number:012}",
                    "row": 0,
                    "time": format_time(time),
                    "digest": DIGEST,
                    "version": 1,
                    "features": features,
                    "prediction": 0.0,
                    "probabilities": None,
                },
            )


def look(store: Store, profile: Path) -> dict[str, Any]:
    """Everything from the window's segments to the verdicts."""
    content = json.loads(profile.read_bytes())
    inputs = [{"name": name} for name in content["features"]]
    signature = {"task": "Regression", "classes": None, "inputs": inputs}
    reference = parse_reference(content, {"metric": "rmse", "metrics": {}}, signature)
    bounds = (END - timedelta(hours=HOURS), END)
    config = MonitorConfig(
        namespace="bench",
        name="monitor",
        deployment="model",
        version=VersionRef(number=1, path="models/bench/model/1", digest=DIGEST),
        version_since=bounds[0],
        store=StoreConfig(uri=store.uri),
        window_seconds=HOURS * 3600.0,
    )
    gathered = gather_window(store, config, reference, bounds, datetime.now(UTC))
    examination = examine_window(config, reference, gathered, bounds)
    drifted = [drift.name for drift in examination.drifts if drift.drifted]
    return {"rows": gathered.summary.rows, "drifted": drifted}


def main(arguments: list[str]) -> int:
    """Write, or look and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=("write", "look"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, help="Parquet rows to write, or the profile to look with")
    options = parser.parse_args(arguments)
    store = Store.open(StoreConfig(uri=f"file://{options.folder}"), {})
    if options.step == "write":
        write_captures(store, options.file)
    else:
        print(json.dumps(look(store, options.file)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
