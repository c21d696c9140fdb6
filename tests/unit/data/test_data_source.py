"""Reading a source: every form gives the same table, every problem a message that names the address."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_breast_cancer

from modelkit.contract.config import DataConfig
from modelkit.data.source import read_source
from modelkit.errors import RefusedError

FRAME = pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": ["x", None], "d": [True, False]})


def _config(uri: str) -> DataConfig:
    return DataConfig(uri=uri, display_uri=uri.replace("file://", "pvc://"), target="target")


def _refusal(uri: str) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        read_source(_config(uri), {})
    return caught.value.reason, caught.value.message


def test_a_built_in_set_has_its_features_and_target() -> None:
    frame = read_source(_config("builtin://breast_cancer"), {})
    pd.testing.assert_frame_equal(frame, load_breast_cancer(as_frame=True).frame)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("0:300", slice(0, 300)), ("300:", slice(300, None)), (":-10", slice(None, -10)), (":", slice(None))],
)
def test_a_built_in_set_can_be_cut_as_in_python(rows: str, expected: slice) -> None:
    whole = load_breast_cancer(as_frame=True).frame
    frame = read_source(_config(f"builtin://breast_cancer?rows={rows}"), {})
    pd.testing.assert_frame_equal(frame, whole.iloc[expected].reset_index(drop=True))


def test_csv_and_parquet_give_the_same_table(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    FRAME.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.csv.gz", "t.parquet"):
        found = read_source(_config(f"file://{tmp_path}/{name}"), {})
        assert found.to_json() == FRAME.to_json()


def test_parquet_dictionaries_decimals_and_indexes_are_read_as_plain_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["x", "y"]).dictionary_encode(),
            "price": pa.array([1, 2]).cast(pa.decimal128(21, 2)),
            "__index_level_0__": [7, 8],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_source(_config(f"file://{tmp_path}/t.parquet"), {})
    assert found.to_dict("list") == {"text": ["x", "y"], "price": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("uri", "reason", "text"),
    [
        ("builtin://breast_cancr", "DataNotFound", "did you mean 'breast_cancer'"),
        ("builtin://breast_cancer?rows=1-2", "BadDataAddress", "?rows=start:stop"),
        ("builtin://breast_cancer?cols=1", "BadDataAddress", "?rows=start:stop"),
        ("builtin://breast_cancer?rows=5:5", "EmptyData", "0 rows"),
        ("ftp://host/t.csv", "BadDataAddress", "must begin with"),
        ("file:///data/claim/table.txt", "BadDataAddress", "files that end in .csv"),
        ("file:///data/../etc/t.csv", "BadDataAddress", "'..'"),
        ("file:///missing/t.csv", "DataNotFound", "no file at pvc:///missing/t.csv"),
    ],
)
def test_a_bad_address_is_refused(uri: str, reason: str, text: str) -> None:
    found, message = _refusal(uri)
    assert found == reason
    assert text in message


def test_a_missing_file_suggests_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("a\n1\n")
    reason, message = _refusal(f"file://{tmp_path}/patient.csv")
    assert reason == "DataNotFound"
    assert message.endswith("did you mean 'patients.csv'?")


@pytest.mark.parametrize(
    ("name", "content", "reason", "text"),
    [
        ("t.csv", b"", "EmptyData", "is empty"),
        ("t.csv", b"a,b\n", "EmptyData", "0 rows"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "DataUnreadable", "Expected 2 fields in line 3"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "DataUnreadable", "more values than the header"),
        ("t.csv", b"a;b\n1;2\n", "DataUnreadable", "save it with commas"),
        ("t.csv", "a,b\nü,2\n".encode("latin-1"), "DataUnreadable", "isn't UTF-8"),
        ("t.csv", b'a,b\n"secret,2\n', "DataUnreadable", "isn't CSV"),
        ("t.csv.gz", b"not gzip", "DataUnreadable", "isn't CSV"),
        ("t.parquet", b"not parquet", "DataUnreadable", "isn't Parquet"),
        ("t.parquet", b"", "DataUnreadable", "isn't Parquet"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: bytes, reason: str, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    found, message = _refusal(f"file://{tmp_path}/{name}")
    assert found == reason
    assert text in message
    assert f"pvc://{tmp_path}/{name}" in message
    assert "secret" not in message


def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    FRAME.to_parquet(file)
    file.write_bytes(file.read_bytes()[:-20])
    assert _refusal(f"file://{file}")[0] == "DataUnreadable"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"a": [[1], [2]]}, "of type list"),
        ({"a": [b"1", b"2"]}, "of type binary"),
    ],
)
def test_parquet_types_without_a_meaning_are_refused(tmp_path: Path, columns: dict[str, Any], text: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    reason, message = _refusal(f"file://{tmp_path}/t.parquet")
    assert reason == "DataUnreadable"
    assert text in message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    assert _refusal(f"file://{tmp_path}/t.csv")[0] == "DataNotFound"
