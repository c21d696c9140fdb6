"""Is there memory for a source: the limit that is found, the estimate, and the refusal before anything is read."""

import gzip
import subprocess
import sys
import textwrap
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import DataConfig
from modelkit.data.address import parse_address
from modelkit.data.memory import Memory, bytes_in_memory, estimate_memory, read_memory
from modelkit.data.places import SourceFile, find_files
from modelkit.data.source import read_source
from modelkit.errors import RefusedError

GIB = 1 << 30
RNG = np.random.default_rng(0)
ROWS = 8_000
SHAPES = {
    "floats": pd.DataFrame(RNG.normal(size=(ROWS, 20))),
    "strings": pd.DataFrame({name: RNG.choice([f"label {i}" for i in range(30)], ROWS) for name in "abcd"}),
    "wide": pd.DataFrame(RNG.normal(size=(600, 400)).round(3)),
}


def _machine(root: Path, **files: str) -> Path:
    names = {
        "v2": "sys/fs/cgroup/memory.max",
        "v1": "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "node": "proc/meminfo",
        "self": "proc/self/status",
    }
    for key, text in files.items():
        (root / names[key]).parent.mkdir(parents=True, exist_ok=True)
        (root / names[key]).write_text(text)
    return root


NODE = "MemTotal: 8000 kB\nMemAvailable:    4000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"v2": "2147483648\n", "node": NODE}, Memory(2 * GIB, True, 0)),
        ({"v1": "1073741824\n", "node": NODE}, Memory(GIB, True, 0)),
        ({"v2": "max\n", "node": NODE}, Memory(4000 * 1024, False, 0)),
        ({"v1": "9223372036854771712\n", "node": NODE}, Memory(4000 * 1024, False, 0)),
        ({"node": NODE, "self": "Name: x\nVmRSS:  100 kB\n"}, Memory(4100 * 1024, False, 100 * 1024)),
        ({"v2": "2147483648", "self": "VmRSS:  100 kB\n"}, Memory(2 * GIB, True, 100 * 1024)),
        ({}, None),
    ],
)
def test_the_limit_is_the_containers_or_else_what_the_node_has(
    tmp_path: Path, files: dict[str, str], expected: Memory | None
) -> None:
    assert read_memory(_machine(tmp_path, **files)) == expected


def test_this_process_has_memory() -> None:
    found = read_memory()
    assert found is not None
    assert 0 < found.used < found.limit


def _write(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    file = folder / name
    frame = frame.rename(columns=str)
    if name.endswith(".parquet"):
        frame.to_parquet(file)
    elif "jsonl" in name:
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False)
    return file


def _files(uri: str) -> list[SourceFile]:
    config = DataConfig(uri=uri, display_uri=uri.replace("file:///", "pvc://claim/"), target="t")
    return find_files(parse_address(config), config, {})


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        *[(shape, f"t.{ending}") for shape in SHAPES for ending in ("csv", "parquet", "jsonl")],
        ("floats", "t.csv.gz"),
        ("strings", "t.jsonl.gz"),
    ],
)
def test_the_estimate_is_near_what_the_rows_take(tmp_path: Path, shape: str, name: str) -> None:
    _write(SHAPES[shape], tmp_path, name)
    estimate = estimate_memory(_files(f"file://{tmp_path}/{name}"))
    numbers, texts = bytes_in_memory(SHAPES[shape])
    assert estimate.numbers == pytest.approx(numbers, rel=0.1)
    assert estimate.texts == pytest.approx(texts, rel=0.1)
    assert estimate.needed > estimate.rows


def test_a_line_that_the_sample_cuts_counts_for_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["x" * 400_000] * 9, "n": range(9)})
    _write(frame, tmp_path, "t.csv")
    assert estimate_memory(_files(f"file://{tmp_path}/t.csv")).rows == pytest.approx(9 * 400_000, rel=0.01)


def test_many_files_are_estimated_together(tmp_path: Path) -> None:
    for index in range(4):
        _write(SHAPES["floats"].iloc[index * 1000 : (index + 1) * 1000], tmp_path, f"{index}.csv")
    estimate = estimate_memory(_files(f"file://{tmp_path}/"))
    assert estimate.rows == pytest.approx(4000 * 20 * 8, rel=0.02)
    assert estimate.files == 4


class _Remote:
    """A place of one file that tells what was asked of it."""

    def __init__(self, data: bytes, parts: bool = True) -> None:
        self.data, self.parts, self.given = data, parts, 0

    def list(self) -> list[tuple[str, int]]:
        return []

    def size(self, name: str) -> int | None:
        return len(self.data) if name else None

    def open(self, name: str) -> BytesIO:
        raise AssertionError(f"the whole of {name} must not be read")

    def read_part(self, name: str, start: int, length: int) -> bytes | None:
        if not name or (start and not self.parts):
            return None
        self.given += length
        return self.data[start : start + length]


def _remote(place: _Remote, name: str, form: str) -> SourceFile:
    return SourceFile(f"s3://lake/{name}", name, form, len(place.data), place, "s3")


def test_a_remote_parquet_file_is_judged_by_its_end_and_a_few_rows(tmp_path: Path) -> None:
    frame = SHAPES["floats"].rename(columns=str)
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=1_000)
    place = _Remote((tmp_path / "t.parquet").read_bytes())
    estimate = estimate_memory([_remote(place, "t.parquet", "Parquet")])
    assert estimate.numbers == pytest.approx(ROWS * 20 * 8, rel=0.05)
    assert place.given < 0.75 * len(place.data)
    # The bytes themselves are held while they are parsed.
    assert estimate.reading >= len(place.data)


def test_a_server_without_ranges_is_judged_by_the_size_alone(tmp_path: Path) -> None:
    SHAPES["floats"].rename(columns=str).to_parquet(tmp_path / "t.parquet")
    place = _Remote((tmp_path / "t.parquet").read_bytes(), parts=False)
    estimate = estimate_memory([_remote(place, "t.parquet", "Parquet")])
    assert estimate.rows == 4 * len(place.data)


def test_a_sample_that_cannot_be_parsed_is_judged_by_the_size_alone() -> None:
    place = _Remote(b'a,b\n1,"' + b"x" * 3_000_000)
    assert estimate_memory([_remote(place, "t.csv", "CSV")]).rows == 4 * len(place.data)
    place = _Remote(b"no gzip")
    assert estimate_memory([_remote(place, "t.csv.gz", "CSV")]).rows == 4 * len(place.data)


@pytest.mark.parametrize(
    ("memory", "texts"),
    [
        (Memory(52 << 20, True, 50 << 20), ["spec.resources.limits.memory is 52 MiB; raise it", "spec.prepare"]),
        (Memory(52 << 20, False, 50 << 20), ["the node has 52 MiB for it", "spec.resources"]),
    ],
)
def test_a_source_over_memory_is_refused_with_estimate_and_limit(
    tmp_path: Path, memory: Memory, texts: list[str]
) -> None:
    file = _write(SHAPES["floats"], tmp_path, "t.csv")
    config = DataConfig(uri=f"file://{file}", display_uri="pvc://claim/t.csv", target="t")
    with pytest.raises(RefusedError) as caught:
        read_source(config, {}, memory)
    assert caught.value.reason == "DataTooLarge"
    assert "pvc://claim/t.csv needs about 5" in caught.value.message
    assert "(its rows take 1.2 MiB once)" in caught.value.message
    assert all(text in caught.value.message for text in texts)
    assert len(read_source(config, {}, Memory(GIB, True, 50 << 20))) == ROWS


def test_a_bomb_of_gzip_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "t.csv.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(b"a,b\n")
        for _ in range(32):
            out.write(b"0.5,0.5\n" * (1 << 17))
    assert file.stat().st_size < 1 << 20
    config = DataConfig(uri=f"file://{file}", display_uri="pvc://claim/t.csv.gz", target="t")
    with pytest.raises(RefusedError, match=r"needs about \d+\.\d MiB") as caught:
        read_source(config, {}, Memory(128 << 20, True, 0))
    assert caught.value.reason == "DataTooLarge"


def test_what_is_accepted_stays_within_the_limit_in_a_real_process(tmp_path: Path) -> None:
    """The estimate against the process's own peak: with less than that much memory it would have been killed."""
    file = _write(pd.DataFrame(RNG.normal(size=(300_000, 20))).assign(target=1), tmp_path, "t.parquet")
    program = f"""
        from pathlib import Path
        import pandas, pyarrow.parquet
        from modelkit.contract.config import DataConfig
        from modelkit.data.address import parse_address
        from modelkit.data.memory import Memory, estimate_memory, read_memory
        from modelkit.data.places import find_files
        from modelkit.data.source import read_source
        from modelkit.data.columns import infer_columns, to_rows

        config = DataConfig(uri="file://{file}", display_uri="x", target="target")
        # Not getrusage: its peak is that of the process that started this one, when that was larger.
        def peak():
            status = Path("/proc/self/status").read_text().split()
            return int(status[status.index("VmHWM:") + 1]) * 1024

        before = read_memory().used
        needed = estimate_memory(find_files(parse_address(config), config, {{}})).needed
        asking = peak() - before
        frame = read_source(config, {{}}, Memory(1 << 40, True, 0))
        rows = to_rows(frame, infer_columns(frame, frame.columns))
        train, test = rows[:240_000].copy(), rows[240_000:].copy()
        print(needed / (peak() - before), asking)
    """
    done: Any = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=True
    )
    times, asking = map(float, done.stdout.split())
    assert 0.8 < times < 3
    assert asking < 16 << 20, "asking takes memory of its own, which a small pod may not have"
