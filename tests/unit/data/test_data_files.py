"""Sources of several files, and JSON lines: one table, or a refusal that names file and column."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelkit.contract.config import DataConfig
from modelkit.data.source import read_source
from modelkit.errors import RefusedError


def _config(uri: str) -> DataConfig:
    return DataConfig(uri=uri, display_uri=uri.replace("file:///", "pvc://"), target="target")


def _read(folder: Path, names: str = "") -> pd.DataFrame:
    return read_source(_config(f"file://{folder}/{names}"), {})


def _refusal(folder: Path, names: str = "") -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        _read(folder, names)
    return caught.value


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_files_of_a_prefix_are_put_together_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    pd.DataFrame({"y": [3], "x": ["c"]}).to_parquet(tmp_path / "b" / "2.parquet")
    (tmp_path / "a.csv").write_text("x,y\na,1\nb,2\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(_lines([{"x": "d", "y": 4}])))
    (tmp_path / "readme.md").write_text("not data")
    assert _read(tmp_path).to_dict("list") == {"x": ["a", "b", "c", "d"], "y": [1, 2, 3, 4]}


def test_a_glob_reads_only_what_matches(tmp_path: Path) -> None:
    for month in ("01", "02", "11"):
        (tmp_path / f"2026-{month}.csv").write_text(f"x\n{month}\n")
    assert _read(tmp_path, "2026-0?.csv")["x"].tolist() == [1, 2]


def test_a_part_without_values_takes_the_type_of_the_others(tmp_path: Path) -> None:
    moments = pd.to_datetime(["2026-01-01", "2026-01-02"])
    pd.DataFrame({"when": [None, None], "n": [None, None], "s": [None, None], "none": [None, None]}).to_parquet(
        tmp_path / "0.parquet"
    )
    pd.DataFrame({"when": moments, "n": [1.5, 2], "s": ["a", "b"], "none": [None, None]}).to_parquet(
        tmp_path / "1.parquet"
    )
    (tmp_path / "2.csv").write_text("when,n,s,none\n")
    found = _read(tmp_path)
    assert list(found.columns) == ["when", "n", "s", "none"]
    assert len(found) == 4
    assert found["n"].dtype == np.float64
    assert pd.api.types.is_datetime64_any_dtype(found["when"].dtype)
    assert found["s"].tolist()[2:] == ["a", "b"]


@pytest.mark.parametrize(
    ("second", "texts"),
    [("a,c\n1,2\n", ["lacks 'b'", "adds 'c'"]), ("a\n1\n", ["lacks 'b'"]), ("a,b,c\n1,2,3\n", ["adds 'c'"])],
)
def test_a_file_with_other_columns_is_refused_by_name(tmp_path: Path, second: str, texts: list[str]) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text(second)
    found = _refusal(tmp_path)
    assert found.reason == "DifferentColumns"
    assert found.message.startswith(f"pvc://{str(tmp_path)[1:]}/2.csv has other columns than")
    assert all(text in found.message for text in texts)


def test_a_column_of_another_type_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,b\n1,secret\n")
    found = _refusal(tmp_path)
    assert found.reason == "DataUnreadable"
    assert "2.csv can't be read: the column 'b' holds text here and numbers in" in found.message
    assert "secret" not in found.message


def test_json_lines_keep_the_types_that_json_has(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "f": 1, "t": "007", "b": True, "d": "2026-03-01", "m": None},
        {"n": 2, "f": 2.5, "t": None, "b": False, "d": "2026-03-02T10:00:00Z"},
    ]
    (tmp_path / "t.ndjson").write_bytes(_lines(rows) + b"\n")
    found = _read(tmp_path, "t.ndjson")
    assert found["n"].tolist() == [1, 2]
    assert found["f"].tolist() == [1.0, 2.5]
    assert found["t"].tolist()[0] == "007"
    assert found["b"].tolist() == [True, False]
    assert found["d"].tolist() == [pd.Timestamp("2026-03-01"), pd.Timestamp("2026-03-02T10:00:00")]
    assert found["m"].isna().all()


def test_types_that_change_between_blocks_of_json_widen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkit.data.formats._JSON_BLOCK", 64)
    (tmp_path / "t.jsonl").write_bytes(_lines([{"a": 1}] * 20 + [{"a": 0.5, "b": "x"}] * 20))
    found = _read(tmp_path, "t.jsonl")
    assert found["a"].tolist() == [1.0] * 20 + [0.5] * 20
    assert found["b"].notna().sum() == 20


@pytest.mark.parametrize(
    ("name", "content", "reason", "text"),
    [
        ("t.jsonl", b"", "EmptyData", "is empty"),
        ("t.jsonl", b"[1, 2]\n", "DataUnreadable", "one JSON object per line"),
        ("t.jsonl", b'{"a": 1}\n{"a": "secret', "DataUnreadable", "one JSON object per line"),
        ("t.jsonl", b'{"a": 1}\n{"a": "secret"}\n', "DataUnreadable", "changed from number to string"),
        ("t.jsonl", b'{"a": {"secret": 1}}\n', "DataUnreadable", "the column 'a' is of type struct"),
        ("t.jsonl", b'{"a": "\xfcsecret"}\n', "DataUnreadable", "isn't UTF-8"),
        ("t.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "DataUnreadable", "one JSON object per line"),
        ("t.csv", b"a,b,c\n1,2,3\n4,5", "DataUnreadable", "its last line has 2 of 3 values"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-9], "DataUnreadable", "isn't CSV"),
    ],
)
def test_a_broken_or_cut_off_file_is_refused(tmp_path: Path, name: str, content: bytes, reason: str, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = _refusal(tmp_path, name)
    assert found.reason == reason
    assert text in found.message
    assert "secret" not in found.message.replace("struct<secret", "")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,4", b'a,b\n1,"x\ny"', b"a\n1\n\n", b"a,b\n1,2\n3,\n"])
def test_a_whole_file_needs_no_line_break_at_its_end(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert len(_read(tmp_path, "t.csv")) >= 1


def test_parquet_moments_are_utc_whatever_zone_they_were_written_in(tmp_path: Path) -> None:
    days = pa.array([20000, 20001], pa.date32())
    zoned = pa.array([0, 1], pa.timestamp("ns", "Asia/Tokyo"))
    pq.write_table(pa.table({"day": days, "zoned": zoned}), tmp_path / "t.parquet")
    found = _read(tmp_path, "t.parquet")
    assert found["day"].tolist() == [pd.Timestamp("2024-10-04"), pd.Timestamp("2024-10-05")]
    assert found["zoned"].tolist()[0] == pd.Timestamp(0)


@pytest.mark.parametrize("kind", [pa.time32("s"), pa.duration("s")])
def test_parquet_times_of_day_and_durations_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"a": pa.array([1], kind)}), tmp_path / "t.parquet")
    found = _refusal(tmp_path, "t.parquet")
    assert found.reason == "DataUnreadable"
    assert "the column 'a' is of type" in found.message
