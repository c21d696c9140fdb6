"""What a custom image may leave and what not: each mistake ends the run with what to write instead."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract import exchange
from modelkit.errors import RefusedError
from modelkit.train.custom.outputs import Outputs, read_outputs
from tests.unit.custom.custom_world import World

ROWS = 6
CLASSES = ("no", "yes")
WHOLE = (0, 1, 2)
Spoil = Callable[[Path], Any]


def good(folder: Path, **columns: Any) -> Path:
    """Outputs of a good image, with other columns in the predictions."""
    table = {
        "prediction": ["no", "yes"] * 3,
        "probability_no": [0.75, 0.25] * 3,
        "probability_yes": [0.25, 0.75] * 3,
    }
    write(folder, {name: values for name, values in (table | columns).items() if values is not None})
    (folder / "model" / "weights").mkdir(parents=True)
    (folder / "model" / "weights" / "epoch=3.ckpt").write_bytes(b"weights")
    return folder


def write(folder: Path, table: dict[str, Any], name: str = "predictions.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(table)
    if name.endswith(".csv"):
        frame.to_csv(folder / name, index=False)
    else:
        frame.to_parquet(folder / name, index=False)


def refused(folder: Path, classes: tuple[Any, ...] | None = CLASSES, rows: int = ROWS) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        read_outputs(folder, rows, classes)
    return caught.value.reason, caught.value.message


def test_good_outputs_are_read(tmp_path: Path) -> None:
    found: Outputs = read_outputs(good(tmp_path), ROWS, CLASSES)
    assert found.predictions.predictions.tolist() == ["no", "yes"] * 3
    assert found.predictions.probabilities is not None
    assert found.predictions.probabilities[0].tolist() == [0.75, 0.25]
    assert list(found.model) == ["model/weights/epoch=3.ckpt"]
    assert (found.onnx, found.card, found.reported, found.notes) == (None, "", {}, ())


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"prediction": None}, ["no column 'prediction'", "probability_no"]),
        ({"prediction": ["no", "maybe"] * 3}, ["something else than a class in 3 of 6 rows", "row 2", "no, yes"]),
        ({"prediction": ["no", None] * 3}, ["something else than a class in 3 of 6"]),
        ({"probability_no": [0.5, np.nan] * 3}, ["'probability_no'", "no finite number in 3 of 6 rows", "row 2"]),
        ({"probability_no": [0.5, np.inf] * 3}, ["no finite number"]),
        ({"probability_no": ["a", "b"] * 3}, ["'probability_no' holds", "expected numbers"]),
        ({"probability_no": [2.0, -1.0] * 3}, ["isn't within 0 and 1 in 6 rows"]),
        ({"probability_no": [0.9, 0.9] * 3}, ["don't add up to 1", "softmax"]),
        ({"probability_no": None}, ["probability columns must be probability_no, probability_yes"]),
        ({"probability_maybe": [0.0] * 6}, ["found probability_no, probability_yes, probability_maybe"]),
    ],
)
def test_answers_that_cannot_be_judged_name_column_rule_and_row(
    tmp_path: Path, columns: dict[str, Any], texts: list[str]
) -> None:
    reason, message = refused(good(tmp_path, **columns))
    assert reason == "BadPredictions"
    assert all(text in message for text in texts), message
    assert "maybe'" not in message


@pytest.mark.parametrize("name", exchange.PREDICTIONS)
@pytest.mark.parametrize("count", [0, 5, 7, 5000])
def test_every_row_needs_its_answer(tmp_path: Path, name: str, count: int) -> None:
    write(good(tmp_path), {"prediction": ["no"] * count}, name)
    if name.endswith(".csv"):
        (tmp_path / "predictions.parquet").unlink()
    reason, message = refused(tmp_path)
    assert reason == "BadPredictions"
    assert "test.parquet has 6" in message


def _link(folder: Path, name: str, target: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(target)


@pytest.mark.parametrize(
    ("spoil", "reason", "text"),
    [
        (lambda f: (f / "predictions.parquet").unlink(), "OutputMissing", "found neither"),
        (lambda f: write(f, {"prediction": ["no"]}, "predictions.csv"), "BadOutput", "found both"),
        (lambda f: (f / "predictions.parquet").write_bytes(b"PAR1 cut off"), "BadPredictions", "isn't Parquet"),
        (lambda f: (f / "predictions.parquet").write_bytes(b""), "BadPredictions", "isn't Parquet"),
        (lambda f: (f / "model/weights/epoch=3.ckpt").unlink(), "OutputMissing", "wrote no model"),
        (lambda f: _link(f, "model/secret", "/etc/passwd"), "BadOutput", "outputs/model/secret is a link"),
        (lambda f: _link(f, "model/up", "../.."), "BadOutput", "outputs/model/up is a link"),
        (lambda f: _link(f, "card.md", "/etc/passwd"), "BadOutput", "outputs/card.md is a link"),
        (lambda f: os.mkfifo(f / "model" / "pipe"), "BadOutput", "a special file"),
        (lambda f: (f / "model" / ".hidden").write_text(""), "BadOutput", "can't be stored under its name"),
        (lambda f: (f / "model" / "a b").write_text(""), "BadOutput", "can't be stored under its name"),
        (lambda f: (f / "model" / "a\nb").write_text(""), "BadOutput", "model/a?b can't be stored"),
        (lambda f: (f / "model" / ("d/" * 12)).mkdir(parents=True), "BadOutput", "nested too deeply"),
        (lambda f: (f / "card.md").write_bytes(b"x" * 70_000), "OutputTooLarge", "at most 65536"),
        (lambda f: (f / "metrics.json").write_text("{"), "BadOutput", "it isn't JSON"),
        (lambda f: (f / "metrics.json").write_text("[1]"), "BadOutput", "isn't an object"),
        (lambda f: (f / "metrics.json").write_text('{"a": NaN}'), "BadOutput", "isn't a finite number"),
        (lambda f: (f / "metrics.json").write_text('{"a": "b"}'), "BadOutput", "isn't a finite number"),
    ],
)
def test_files_that_break_the_contract_are_refused(tmp_path: Path, spoil: Spoil, reason: str, text: str) -> None:
    spoil(good(tmp_path))
    found, message = refused(tmp_path)
    assert (found, text in message) == (reason, True), message


def test_a_linked_outputs_folder_is_no_way_out(tmp_path: Path) -> None:
    good(tmp_path / "elsewhere")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "model").symlink_to(tmp_path / "elsewhere" / "model")
    assert refused(tmp_path / "outputs")[0] == "BadOutput"


def test_nothing_at_all_is_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "outputs")[0] == "OutputMissing"


def test_too_many_or_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path)
    monkeypatch.setattr(exchange, "MOST_MODEL_BYTES", 3)
    assert refused(tmp_path)[0] == "OutputTooLarge"
    monkeypatch.setattr(exchange, "MOST_MODEL_FILES", 0)
    assert "at most 0" in refused(tmp_path)[1]


def test_files_outside_the_contract_are_left_out_and_noted(tmp_path: Path) -> None:
    good(tmp_path)
    (tmp_path / "train.log").write_text("epoch 1")
    found = read_outputs(tmp_path, ROWS, CLASSES)
    assert found.notes == ("outputs/train.log isn't part of the contract and was left out",)


@pytest.mark.parametrize("name", exchange.PREDICTIONS)
@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1, 2, 2, 1, 0], WHOLE),
        ([0.0, 1.0, 2.0, 2.0, 1.0, 0.0], WHOLE),
        (["0", "1", "2", "2", "1", "0"], WHOLE),
        ([False, True, True, False, True, False], (0, 1)),
        (["007", "NA", "1.0", "007", "NA", "1.0"], ("007", "1.0", "NA")),
    ],
    ids=["whole", "float", "text", "boolean", "odd labels"],
)
def test_labels_are_read_in_the_classes_own_type(
    tmp_path: Path, name: str, values: list[Any], classes: tuple[Any, ...]
) -> None:
    good(tmp_path)
    (tmp_path / "predictions.parquet").unlink()
    write(tmp_path, {"prediction": values}, name)
    found = read_outputs(tmp_path, ROWS, classes).predictions
    expected = values if isinstance(classes[0], str) else [int(float(value)) for value in values]
    assert found.predictions.tolist() == expected
    assert found.probabilities is None


def test_numbers_of_a_regression_must_be_finite(tmp_path: Path) -> None:
    good(tmp_path)
    write(tmp_path, {"prediction": [1.5] * 6})
    assert read_outputs(tmp_path, ROWS, None).predictions.predictions.tolist() == [1.5] * 6
    write(tmp_path, {"prediction": [1.5] * 5 + [np.nan]})
    assert "no finite number in 1 of 6 rows, first in row 6" in refused(tmp_path, None)[1]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_predictions_end_in_a_refusal_or_an_answer(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for name in exchange.PREDICTIONS:
        folder = tmp_path_factory.mktemp("outputs")
        (folder / "model").mkdir()
        (folder / "model" / "m").write_bytes(b"m")
        (folder / name).write_bytes(content)
        try:
            read_outputs(folder, 1, CLASSES)
        except RefusedError as exc:
            assert exc.reason == "BadPredictions"  # noqa: PT017 - an answer is right too


def test_a_run_ends_with_the_mistake_and_stores_nothing(world: World) -> None:
    frame = pd.read_parquet(world.outputs / "predictions.parquet")
    frame.iloc[:-1].to_parquet(world.outputs / "predictions.parquet", index=False)
    ended = world.finish()
    assert ended.said == (2, "BadPredictions")
    assert ended.result.message == (
        "outputs/predictions.parquet can't be used: it has 29 rows; test.parquet has 30, and each needs its answer, in "
        "the same order"
    )
    assert list(world.store.list()) == []
