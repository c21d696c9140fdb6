"""A user's own image trains: it gets inputs, leaves outputs, and the trainer does all the rest."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.codec import loads
from modelkit.contract.config import ComparisonConfig
from modelkit.contract.recipe import SplitConfig
from modelkit.contract.result import TrainingResult
from tests.unit.custom.custom_world import NEAREST, World


def test_the_three_steps_of_a_pod_make_a_version(tmp_path: Path) -> None:
    world = World.of(tmp_path)
    for step in (["stage"], [], ["finish"]):
        if step:
            command = [sys.executable, "-m", "modelkit.train", *step]
            ended = subprocess.run(command, env=os.environ | world.variables(), capture_output=True, check=False)
            assert ended.returncode == 0, ended.stderr.decode()
        else:
            world.train(NEAREST)
    result = loads(TrainingResult, world.log.read_bytes())
    assert (result.outcome, result.estimator, result.format) == ("Succeeded", "Custom", "Custom")
    assert result.metrics["accuracy"] > 0.8 > result.trivial["accuracy"]
    assert result.format_message is not None
    assert "wrote no model.onnx" in result.format_message
    names = set(world.json("manifest.json")["files"])
    assert {"model/weights/means.npy", "model/config.json", "signature.json", "profile.json", "metrics.json"} <= names
    assert not {"model.onnx", "model.skops", "samples.json"} & names
    card = world.file("card.md").decode()
    assert "It looks for the nearest mean." in card
    assert "- means: 3" in card
    assert '{"depth": 3}' in card


def test_the_image_never_sees_the_truth_of_the_test_part(world: World) -> None:
    test, train = (pd.read_parquet(world.inputs / name) for name in ("test.parquet", "train.parquet"))
    schema = json.loads((world.inputs / "schema.json").read_text())
    names = [column["name"] for column in schema["columns"]]
    assert list(test) == names
    assert list(train) == [*names, "target"]
    assert (len(train), len(test), schema["classes"]) == (120, 30, [0, 1, 2])
    told = json.loads((world.inputs / "config.json").read_text())
    assert told == {"namespace": "default", "name": "flowers", "run": 1, "seed": 7, "params": {"depth": 3}}
    assert sorted(path.name for path in world.inputs.iterdir()) == [
        "config.json", "schema.json", "test.parquet", "train.parquet",
    ]  # fmt: skip


def test_the_numbers_are_those_of_scikit_learn(world: World) -> None:
    from sklearn.datasets import load_iris
    from sklearn.metrics import f1_score, log_loss
    from sklearn.model_selection import train_test_split

    data = load_iris()
    *_, truth = train_test_split(data.data, data.target, test_size=0.2, random_state=7, stratify=data.target)
    said = pd.read_parquet(world.outputs / "predictions.parquet")
    metrics = world.finish().result.metrics
    assert metrics["f1"] == pytest.approx(f1_score(truth, said["prediction"], average="macro"))
    probabilities = said[[f"probability_{label}" for label in (0, 1, 2)]].to_numpy()
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, probabilities))


def test_a_finished_run_that_is_asked_again_reports_the_same_version(world: World) -> None:
    first, second = world.finish(), world.finish()
    assert first.result.digest is not None
    assert (first.code, second.code, second.result.digest) == (0, 0, first.result.digest)


def test_the_same_outputs_make_the_same_files(world: World, trained: Path, tmp_path: Path) -> None:
    again = World.of(tmp_path / "again")
    shutil.copytree(trained / "pod", tmp_path / "again" / "pod")
    assert world.finish().code == again.finish().code == 0
    assert world.json("manifest.json")["files"] == again.json("manifest.json")["files"]


def test_a_regression_is_judged_by_its_numbers(staged: Callable[..., World]) -> None:
    world = staged("builtin://diabetes?rows=:200", task="Regression")
    rows = len(pd.read_parquet(world.inputs / "test.parquet"))
    values = np.linspace(100, 200, rows)
    pd.DataFrame({"prediction": values}).to_csv(world.outputs / "predictions.csv", index=False)
    (world.outputs / "model").mkdir()
    (world.outputs / "model" / "line.txt").write_text("100..200")
    ended = world.finish()
    assert ended.said == (0, None), ended.result.message
    assert ended.result.task == "Regression"
    assert ended.result.metrics["rmse"] > 0


def test_texts_weights_and_a_validation_part_reach_the_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=100),
            "count": rng.integers(0, 9, 100),
            "open": rng.random(100) > 0.5,
            "colour": np.where(rng.random(100) > 0.3, "red", None),
            "weight": rng.random(100) + 0.5,
        }
    )
    frame["target"] = np.where(frame["size"] > 0, "yes", "no")
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    address = f"file://{tmp_path}/rows.parquet"
    data = replace(World.of(tmp_path).config.data, uri=address, display_uri=address, weight="weight")
    world = World.of(tmp_path, split=SplitConfig(validation_fraction=0.2))
    world = World(tmp_path, replace(world.config, data=data))
    assert world.stage().code == 0, world.log.read_text()
    train, validation = (pd.read_parquet(world.inputs / f"{name}.parquet") for name in ("train", "validation"))
    assert (len(train), len(validation)) == (60, 20)
    assert list(train) == ["size", "count", "open", "colour", "target", "weight"]
    assert [str(train[name].dtype) for name in ("size", "count", "open", "weight")] == [
        "float64", "int64", "bool", "float64",
    ]  # fmt: skip
    assert set(train["colour"].dropna()) == {"red"}
    assert train["colour"].isna().any()
    assert json.loads((world.inputs / "schema.json").read_text())["classes"] == ["no", "yes"]


def test_a_champion_that_does_not_run_here_is_not_compared_and_says_so(world: World) -> None:
    first = world.finish()
    champion = world.ref(first.result)
    again = world.another(number=2, version="2-abc", champion=champion, comparisons=(ComparisonConfig(metric="f1"),))
    assert again.stage().code == 0
    again.train()
    ended = again.finish()
    assert ended.code == 0, ended.result.message
    assert ended.result.champion is None
    assert ended.result.champion_message == (
        "version 1 is of a custom training without model.onnx, which is all that runs here of other frameworks"
    )


def test_a_source_that_changed_meanwhile_is_tried_again(staged: Callable[..., World], tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    frame = pd.DataFrame({"size": np.arange(60.0), "target": ["a", "b"] * 30})
    frame.to_csv(source, index=False)
    world = staged(f"file://{source}")
    world.train()
    frame["size"] += 1
    frame.to_csv(source, index=False)
    assert world.finish().said == (1, "SourceChanged")
    frame["size"] -= 1
    frame.to_csv(source, index=False)
    assert world.finish().code == 0


def test_the_task_must_be_stated(tmp_path: Path) -> None:
    ended = World.of(tmp_path, task=None).stage()
    assert ended.said == (2, "TaskMissing")


def test_bad_data_is_told_before_the_image_runs(tmp_path: Path) -> None:
    ended = World.of(tmp_path, target="species").stage()
    assert ended.said == (2, "ColumnNotFound")
    assert not (tmp_path / "pod" / "inputs").exists()


def test_the_step_before_an_image_is_refused_without_one(tmp_path: Path) -> None:
    world = World.of(tmp_path)
    assert World(tmp_path, replace(world.config, custom=None)).stage().said == (2, "BadConfiguration")
