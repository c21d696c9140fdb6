"""Moments, words and coded categories all the way: learnt, stored, served, captured, watched and learnt again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from modelkit.artifact.signature import InputColumn, Signature, load_signature
from modelkit.artifact.version import fetch_version
from modelkit.contract.config import DataConfig, FeedbackConfig, LimitsConfig, TrainerConfig
from modelkit.contract.files import FEEDBACK_STREAM, PROFILE, REQUESTS_STREAM, SAMPLES, SIGNATURE, capture_hour
from modelkit.contract.monitoring import DataQualityConfig, DriftConfig
from modelkit.contract.recipe import ColumnTypeConfig
from modelkit.contract.result import TrainingResult
from modelkit.monitor.counts import Counts, build_counts, count_rows
from modelkit.monitor.data_quality import find_problems
from modelkit.monitor.drift import compare_columns
from modelkit.monitor.reference import read_reference
from modelkit.serve.batch import Features
from modelkit.serve.capture import CapturedRequest, RowFormat
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.model import Answer, load_model
from modelkit.serve.plain import parse_predict
from modelkit.serve.v2 import model_metadata, parse_infer
from modelkit.serve.warmup import warm_up
from modelkit.store.captures import read_captured
from modelkit.store.segments import SegmentNames, compress_segment

if TYPE_CHECKING:
    from .conftest import Trainer

ROWS = 240
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
TYPES = (ColumnTypeConfig(name="plan", type="Category"), ColumnTypeConfig(name="vip", type="Category"))


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    plan = rng.integers(1, 4, ROWS)
    angry = rng.integers(0, 2, ROWS)
    words = rng.choice(["please", "my", "invoice", "line", "router", "again"], (ROWS, 5))
    notes = [
        f"{' '.join(row)} {('broken', 'thanks')[mood]} {n}"
        for n, (row, mood) in enumerate(zip(words, angry, strict=True))
    ]
    table = pd.DataFrame(
        {
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 2000, ROWS), unit="D"),
            "plan": plan,
            "vip": rng.integers(0, 2, ROWS).astype(bool),
            "note": notes,
            "amount": rng.normal(size=ROWS).round(3),
            "stays": np.where((plan == 2) & (angry == 1), "yes", "no"),
        }
    )
    table.loc[5, "since"] = None
    return table


@pytest.fixture
def config(trainer: "Trainer", tmp_path: Path) -> TrainerConfig:
    table = _table()
    table["since"] = table["since"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    table.to_csv(tmp_path / "t.csv", index=False)
    uri = f"file://{tmp_path}/t.csv"
    return _with_data(trainer, uri)


def _with_data(trainer: "Trainer", uri: str, **changes: Any) -> TrainerConfig:
    data = DataConfig(uri=uri, display_uri="pvc://claim/t.csv", target="stays", columns=TYPES)
    return replace(trainer.config(**changes), data=data)


def _served(trainer: "Trainer", config: TrainerConfig, result: TrainingResult, folder: Path) -> tuple[Path, Signature]:
    directory = fetch_version(trainer.store, trainer.ref(config, result), folder / "version")
    return directory, load_signature((directory / SIGNATURE).read_bytes())


def _requests(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as a client sends them."""
    rows = table.drop(columns=["stays", "since"]).to_dict("records")
    moments = [None if pd.isna(moment) else moment.isoformat() for moment in table["since"]]
    return [
        {str(name): value for name, value in row.items()} | {"since": moment}
        for row, moment in zip(rows, moments, strict=True)
    ]


def _watched(trainer: "Trainer", config: TrainerConfig, result: TrainingResult, captured: CapturedRequest) -> Counts:
    """What the monitor counts of a captured request."""
    names = SegmentNames("default", "cancer", REQUESTS_STREAM, "pod", NOW)
    trainer.store.write(names.next_path(capture_hour(NOW)), compress_segment(captured.lines()))
    found = read_captured(trainer.store, "default", "cancer", NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    reference = read_reference(trainer.store, trainer.ref(config, result))
    return build_counts(reference, count_rows(reference, found.features, found.meta))


def test_every_kind_is_learnt_served_captured_watched_and_learnt_again(
    trainer: "Trainer", config: TrainerConfig, tmp_path: Path
) -> None:
    result = trainer.run(config)
    assert result.metrics["accuracy"] > 0.8
    directory, signature = _served(trainer, config, result, tmp_path)
    assert [(c.name, c.dtype, c.kind, c.nullable) for c in signature.inputs] == [
        ("since", "datetime", "numeric", True),
        ("plan", "int64", "categorical", False),
        ("vip", "bool", "categorical", False),
        ("note", "string", "text", False),
        ("amount", "float64", "numeric", False),
    ]
    sample = json.loads((directory / SAMPLES).read_bytes())["rows"][0]
    assert sample["since"].endswith("T00:00:00Z")
    assert (type(sample["plan"]), type(sample["vip"])) == (int, bool)

    # Served: its own samples first, then everything as a client sends it.
    model, features = load_model(directory, signature, 1), Features.of(signature)
    warm_up(directory, signature, model)
    table = _table()
    body = json.dumps({"features": _requests(table)}).encode()
    batch = parse_predict(features, body, LimitsConfig(max_rows=ROWS))
    answer = model.predict(batch)
    assert np.mean(np.array(answer.predictions) == table["stays"]) > 0.8
    metadata = json.loads(model_metadata(signature, "m", "p"))
    assert [entry["datatype"] for entry in metadata["inputs"]] == ["BYTES", "INT64", "BOOL", "BYTES", "FP64"]
    v2 = [
        {
            "name": entry["name"],
            "shape": [ROWS],
            "datatype": entry["datatype"],
            "data": [row[entry["name"]] for row in _requests(table)],
        }
        for entry in metadata["inputs"]
    ]
    again = parse_infer(features, signature, json.dumps({"inputs": v2}).encode(), LimitsConfig(max_rows=ROWS))
    assert model.predict(again.batch).predictions == answer.predictions

    # Captured and watched: the rows that were learnt from are no drift and no bad data.
    captured = CapturedRequest(RowFormat("sha256:0", 1, features), "r1", NOW, batch, answer)
    written = [json.loads(line)["features"] for line in captured.lines()]
    for row, sent in zip(written, _requests(table), strict=True):
        seconds = None if sent["since"] is None else pd.Timestamp(sent["since"]).timestamp()
        assert row == sent | {"since": seconds}
        assert (type(row["plan"]), type(row["vip"])) == (int, bool)
    counts = _watched(trainer, config, result, captured)
    for column in counts.features:
        assert column.window.counts.tolist() == column.reference.counts.tolist(), column.name
        assert (column.window.nulls, column.window.invalid) == (column.reference.nulls, 0)
    assert not any(problem.found for problem in find_problems(counts.features, DataQualityConfig(), 50))

    # Learnt again with feedback, beside the champion, which answers the same rows.
    truth = [
        json.dumps(
            {"id": "r1", "row": row, "label": label, "time": NOW.isoformat(), "received": NOW.isoformat()}
        ).encode()
        + b"\n"
        for row, label in enumerate(table["stays"])
    ]
    names = SegmentNames("default", "cancer", FEEDBACK_STREAM, "pod", NOW)
    trainer.store.write(names.next_path(capture_hour(NOW)), compress_segment(truth))
    feedback = FeedbackConfig(deployment="cancer", since=NOW - timedelta(hours=1), until=NOW + timedelta(hours=1))
    champion = trainer.ref(config, result)
    second = trainer.run(_with_data(trainer, config.data.uri, number=2, feedback=feedback, champion=champion))
    assert second.champion is not None, second.champion_message
    assert second.champion.metrics["accuracy"] > 0.8
    assert (second.feedback_rows, second.evaluated_on) == (ROWS, "Recent")


def test_later_moments_are_no_drift_but_longer_words_are(
    trainer: "Trainer", config: TrainerConfig, tmp_path: Path
) -> None:
    result = trainer.run(config)
    profile = json.loads(trainer.file(config, PROFILE))["features"]
    assert profile["since"]["measure"] == "presence"
    assert profile["note"]["measure"] == "length"
    assert profile["since"]["counts"] == [ROWS - 1]
    _, signature = _served(trainer, config, result, tmp_path)
    features = Features.of(signature)
    later = _table().assign(since=pd.Timestamp("2031-01-01"), note="x" * 500)
    batch = parse_predict(features, json.dumps({"features": _requests(later)}).encode(), LimitsConfig(max_rows=ROWS))
    answer = Answer(["yes"] * ROWS, None)
    captured = CapturedRequest(RowFormat("sha256:0", 1, features), "r1", NOW, batch, answer)
    counts = _watched(trainer, config, result, captured)
    drifts = compare_columns(counts.features, DriftConfig(), 50)
    assert [drift.name for drift in drifts if drift.drifted] == ["note"]
    assert {
        problem.feature for problem in find_problems(counts.features, DataQualityConfig(), 50) if problem.found
    } == {"note"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"since": "secret"}, "the column 'since' must hold ISO 8601 dates"),
        ({"since": True}, "the column 'since' must hold dates; found a boolean"),
        ({"plan": "2"}, "the column 'plan' must hold numbers; found text"),
        ({"plan": 2.5}, "the column 'plan' must hold whole numbers"),
        ({"plan": None}, "the column 'plan' must not be null"),
        ({"vip": "secret"}, "the column 'vip' must hold true or false"),
        ({"note": 3}, "the column 'note' must hold text"),
    ],
)
def test_a_request_with_another_kind_of_value_is_refused_without_the_value(change: dict[str, Any], text: str) -> None:
    row = _requests(_table())[0] | change
    with pytest.raises(MalformedRequestError) as caught:
        parse_predict(Features.of(_signature()), json.dumps({"features": [row]}).encode(), LimitsConfig(max_rows=10))
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def _signature() -> Signature:
    kinds = [("since", "datetime", "numeric"), ("plan", "int64", "categorical"), ("vip", "bool", "categorical")]
    kinds += [("note", "string", "text"), ("amount", "float64", "numeric")]
    inputs = tuple(InputColumn(name=n, dtype=d, kind=k, nullable=n == "since") for n, d, k in kinds)
    return Signature(model="m", number=1, task="Regression", target="t", metric="rmse", inputs=inputs, outputs=())


def test_a_moment_is_seen_alike_as_text_and_as_seconds_and_may_be_missing() -> None:
    rows = [_requests(_table())[0] | {"since": value} for value in ("2026-01-01T00:00:00+00:00", 1767225600, None)]
    batch = parse_predict(Features.of(_signature()), json.dumps({"features": rows}).encode(), LimitsConfig(max_rows=10))
    assert batch.column(0).tolist()[:2] == [1767225600.0, 1767225600.0]
    assert np.isnan(batch.column(0)[2])
    assert batch.column(1).tolist() == [str(rows[0]["plan"])] * 3
    assert batch.column(2).tolist() == [str(rows[0]["vip"]).lower()] * 3
