"""The Parquet data of `make bench-monitor`, and the profile of its reference rows; seeded.

Processes of their own, so that the bench itself stays small: a process is charged with its parent's peak memory.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modelkit.data.profile import build_profile

NUMBERS, CATEGORIES = 20, 5
_GROUP_ROWS = 1_000_000

Floats = NDArray[np.float64]


def draw_rows(generator: np.random.Generator, rows: int, shifted: bool) -> pa.Table:
    """Some rows; with `shifted`, a number with another mean, one with another spread, a category with other shares."""
    columns: dict[str, pa.Array] = {}
    for index in range(NUMBERS):
        values = generator.standard_normal(rows)
        if shifted and index == 3:
            values += 1.0
        if shifted and index == 11:
            values *= 2.0
        columns[f"n{index:02}"] = pa.array(np.exp(values) if index % 4 == 1 else values)
    for index in range(CATEGORIES):
        names = pa.array([f"value {number}" for number in range(4 * (index + 1))])
        shares = np.linspace(1.0, 3.0, len(names))
        if shifted and index == 2:
            shares = shares[::-1]
        codes = generator.choice(len(names), rows, p=shares / shares.sum()).astype(np.int32)
        columns[f"c{index}"] = pa.DictionaryArray.from_arrays(pa.array(codes), names).cast(pa.string())
    return pa.table(columns)


def write_rows(path: Path, rows: int, seed: int, shifted: bool) -> None:
    """Write a file in row groups of a million."""
    generator = np.random.default_rng(seed)
    schema = draw_rows(generator, 0, shifted).schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, _GROUP_ROWS):
            writer.write_table(draw_rows(generator, min(_GROUP_ROWS, rows - start), shifted))


def write_profile(path: Path, reference: Path) -> None:
    """What the trainer writes of the same rows."""
    table = pq.read_table(reference)
    features = {name: table[name].to_numpy() for name in table.column_names}
    kinds = {name: "numeric" if name.startswith("n") else "categorical" for name in features}
    path.write_text(json.dumps(build_profile(features, kinds, np.zeros(1), None, "Regression", None)))


def main(arguments: list[str]) -> int:
    """Write one file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--reference", type=Path, help="write the profile of these rows")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shifted", action="store_true")
    options = parser.parse_args(arguments)
    if options.reference:
        write_profile(options.path, options.reference)
    else:
        write_rows(options.path, options.rows, options.seed, options.shifted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
