"""Rows in Parquet files against a version's profile."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelkit.data.profile import build_profile, count_feature
from modelkit.monitor import shards
from modelkit.monitor.shards import count_shards, main, read_profile

CITIES = np.array(["Ulm", "Bonn", "Köln"], dtype=object)


def draw(rows: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    ages = generator.normal(40 + shift, 10, rows)
    ages[::50] = np.nan
    return {"age": ages, "size": generator.integers(0, 100, rows), "city": generator.choice(CITIES, rows)}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    kinds = {"age": "numeric", "size": "numeric", "city": "categorical"}
    content = build_profile(draw(1000, 0), kinds, np.arange(3.0), None, "Regression", None)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    return path


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table({**columns, "further": ["not of the model"] * len(columns["age"])}), path)
    return path


def test_files_count_as_one_array(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_BATCH_ROWS", 70)
    parts = [draw(300, 1), draw(500, 2)]
    files = [write(tmp_path / f"{index}.parquet", part) for index, part in enumerate(parts)]
    for column in count_shards(read_profile(profile), files):
        plain = count_feature(column.entry, np.concatenate([part[column.name] for part in parts]))
        assert column.window.counts.tolist() == plain.counts.tolist()
        assert (column.window.nulls, column.window.outside) == (plain.nulls, plain.outside)


def test_exactly_the_shifted_feature_is_named(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "rows.parquet", draw(2000, 1, shift=20))
    assert main(["--profile", str(profile), str(file)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["rows"], answer["drifted"], answer["check"]["state"]) == (2000, ["age"], "Breached")


def test_a_feature_that_no_file_has_is_missing_in_every_row(profile: Path, tmp_path: Path) -> None:
    columns = draw(100, 1)
    del columns["size"]
    size = count_shards(read_profile(profile), [write(tmp_path / "rows.parquet", columns)])[1]
    assert (size.name, size.window.nulls, size.window.valid) == ("size", 100, 0)


@pytest.mark.parametrize("damaged", ["profile", "rows"])
def test_what_can_not_be_read_is_named(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    file = write(tmp_path / "rows.parquet", draw(100, 1))
    spoilt = profile if damaged == "profile" else file
    spoilt.write_bytes(b"damaged")
    assert main(["--profile", str(profile), str(file)]) == 1
    assert str(spoilt) in capsys.readouterr().err


def test_a_profile_of_another_format_is_refused(profile: Path) -> None:
    profile.write_text('{"format": 9, "features": {}}')
    with pytest.raises(shards.ShardError, match="has the format 9"):
        read_profile(profile)
