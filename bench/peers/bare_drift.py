"""The least that finds drift: pyarrow's batches, numpy's sort, counts between quantiles, a stability index.

No profile, no check of types or ranges, no significance. `bare_drift.py reference.parquet current.parquet`.
"""

import json
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet as pq

BATCH_ROWS = 65_536
LIMIT = 0.2


def count(path, edges):
    """Counts of each column, numbers between `edges`, and the number of rows."""
    counts, rows = {}, 0
    file = pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)
    for batch in file.iter_batches(BATCH_ROWS):
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in edges:
                ordered = np.sort(column.to_numpy())
                at_most = np.searchsorted(ordered, edges[name], side="right")
                found = np.diff(np.concatenate([[0], at_most, [len(ordered)]]))
                counts[name] = counts.get(name, 0) + found
            else:
                for item in column.value_counts().to_pylist():
                    counts.setdefault(name, Counter())[item["values"]] += item["counts"]
    return counts, rows


def stability(reference, current):
    """The population stability index of two rows of counts."""
    p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    q = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(((q - p) * np.log(q / p)).sum())


def main(reference_path, current_path):
    """Print the columns whose index is above the limit."""
    reference = pq.read_table(reference_path)
    edges = {
        field.name: np.quantile(reference[field.name].to_numpy(), np.arange(1, 10) / 10)
        for field in reference.schema
        if str(field.type) == "double"
    }
    expected, _ = count(reference_path, edges)
    found, rows = count(current_path, edges)
    drifted = []
    for name, counted in found.items():
        if name in edges:
            index = stability(expected[name], counted)
        else:
            names = sorted(expected[name] | counted)
            both = [np.array([side[key] for key in names], dtype=float) for side in (expected[name], counted)]
            index = stability(*both)
        if index > LIMIT:
            drifted.append(name)
    print(json.dumps({"rows": rows, "drifted": sorted(drifted)}))


main(*sys.argv[1:])
