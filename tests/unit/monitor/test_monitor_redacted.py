"""A column that captures don't hold as it was sent is in no check: it is neither missing nor changed."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from modelkit.monitor.page import build_page
from modelkit.monitor.report import build_report
from modelkit.monitor.window import Examination
from tests.unit.monitor.rows import examine_table
from tests.unit.monitor.test_monitor_page import CONFIG, END, build_reference

ROWS = 120


def examine(redacted: list[list[str] | None], **columns: object) -> Examination:
    """A window with the reference's features a and b; `columns` changes or, with None, takes them away."""
    generator = np.random.default_rng(1)
    features = {name: generator.normal(size=ROWS) for name in ("a", "b")} | columns
    meta = pa.table(
        {
            "prediction": generator.normal(size=ROWS),
            "probabilities": pa.nulls(ROWS, pa.list_(pa.float64())),
            "redacted": pa.array(redacted, pa.list_(pa.string())),
            "label": pa.nulls(ROWS, pa.float64()),
        }
    )
    table = pa.table({name: values for name, values in features.items() if values is not None})
    return examine_table(CONFIG, build_reference(["a", "b"]), table, meta, (END - timedelta(hours=1), END))


def states(examination: Examination) -> dict[str, str]:
    return {check.name: check.state for check in examination.result.checks}


def test_a_dropped_column_is_not_missing_data() -> None:
    without = examine([None] * ROWS, a=None)
    assert states(without)["DataQuality"] == "Breached"
    examination = examine([["a"]] * ROWS, a=None)
    assert states(examination) == states(without) | {"DataQuality": "OK", "Drift": "OK"}
    assert [column.name for column in examination.counts.features] == ["b"]
    assert examination.redacted == ("a",)


def test_a_hashed_column_is_neither_mistyped_nor_drifted() -> None:
    examination = examine([["a"]] * ROWS, a=[f"{number:016x}" for number in range(ROWS)])
    assert states(examination)["DataQuality"] == "OK"
    assert states(examination)["Drift"] == "OK"


@pytest.mark.parametrize("position", [0, ROWS - 1])
def test_one_row_is_enough_for_a_window_in_which_the_setting_was_changed(position: int) -> None:
    names: list[list[str] | None] = [None] * ROWS
    names[position] = ["a"]
    assert examine(names).redacted == ("a",)


def test_the_checks_and_the_reports_say_how_many_were_left_out() -> None:
    examination = examine([["a", "no such feature"]] * ROWS, a=None)
    messages = {check.name: check.message for check in examination.result.checks}
    assert messages["DataQuality"].endswith("; 1 redacted feature was left out")
    assert messages["Drift"].endswith("; 1 redacted feature was left out")
    assert json.loads(build_report(CONFIG, examination))["redactedFeatures"] == ["a"]
    assert b"1 feature that captures don" in build_page(CONFIG, examination)


def test_without_any_feature_left_nothing_is_known_of_the_data() -> None:
    examination = examine([["a", "b"]] * ROWS, a=None, b=None)
    found = states(examination)
    assert (found["DataQuality"], found["Drift"]) == ("Unknown", "Unknown")
    assert found["PredictionDrift"] == "OK"
    assert json.loads(build_report(CONFIG, examination))["features"] == []
    assert b"2 features that captures don" in build_page(CONFIG, examination)


def test_too_few_rows_are_still_too_few() -> None:
    config = replace(CONFIG, min_rows=1000)
    examination = examine([["a"]] * ROWS, a=None)
    again = examine_table(
        config,
        build_reference(["a", "b"]),
        pa.table({"b": np.zeros(5)}),
        pa.table(
            {
                "prediction": np.zeros(5),
                "probabilities": pa.nulls(5, pa.list_(pa.float64())),
                "redacted": pa.array([["a"]] * 5),
                "label": pa.nulls(5, pa.float64()),
            }
        ),
        (END - timedelta(hours=1), END),
    )
    assert states(examination)["DataQuality"] == "OK"
    assert states(again)["DataQuality"] == "Unknown"
