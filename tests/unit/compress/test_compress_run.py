"""A run that compresses: what is stored, measured and told is the smaller model."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from modelkit.artifact.model import StoredModel
from modelkit.contract import files
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.files import version_directory
from modelkit.contract.recipe import CompressConfig, SplitConfig, StudentConfig
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.run import run_training

NETWORK = {"hidden_layer_sizes": [32], "max_iter": 40}
EVERY_FILE = (files.MODEL_SKOPS, files.METRICS, files.SIGNATURE, files.SAMPLES, files.PROFILE, files.IMPORTANCE)


def run(
    root: Path, compress: CompressConfig | None, **changes: Any
) -> tuple[TrainingResult, dict[str, bytes], StoredModel]:
    """A run on digits: its result, its files, and the model as it is loaded again."""
    config = replace(
        TrainerConfig(
            namespace="default",
            name="small",
            number=1,
            version="1-abc",
            trigger="Created",
            store=StoreConfig(uri=f"file://{root}"),
            data=DataConfig(uri="builtin://digits", display_uri="builtin://digits", target="target"),
            candidates=(CandidateConfig(estimator="RandomForestClassifier", params={"n_estimators": 15}),),
            metric="accuracy",
            folds=3,
            seed=7,
            compress=compress,
        ),
        **changes,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run_training(config, {}, Progress(), 1)
    store, path = Store.open(config.store, {}), version_directory(config.namespace, config.name, config.version)
    found = {name: store.read(f"{path}/{name}") for name in (*EVERY_FILE, files.MODEL_ONNX, files.CARD)}
    folder = root / "loaded"
    folder.mkdir()
    for name, data in found.items():
        (folder / name).write_bytes(data)
    return result, found, StoredModel.open(folder)


ALL = CompressConfig(
    methods=("Pruning", "Distillation", "Quantization"),
    max_drop=0.1,
    student=StudentConfig(estimator="MLPClassifier", params=NETWORK),
)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[TrainingResult, dict[str, bytes], StoredModel]]:
    """The same run with all methods on two stores."""
    return [run(tmp_path_factory.mktemp("store"), ALL) for _ in range(2)]


def test_the_version_holds_the_compressed_model_and_its_metrics(twice: list[Any]) -> None:
    result, found, model = twice[0]
    assert [step.accepted for step in result.compressions] == [True, True, True]
    assert (result.estimator, result.format) == ("MLPClassifier", "Onnx")
    assert len(found[files.MODEL_ONNX]) == result.compressions[-1].bytes_after

    rows, target = load_digits(return_X_y=True)
    rows = rows[:, np.ptp(rows, axis=0) > 0]
    _, test, _, truth = train_test_split(rows, target, test_size=0.2, random_state=7, stratify=target)
    predictions, probabilities = model.answer(test)
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(truth, predictions), abs=1e-12)
    samples = json.loads(found[files.SAMPLES])
    assert samples["predictions"] == predictions[:20].tolist()
    assert probabilities is not None
    np.testing.assert_allclose(probabilities[:20], samples["probabilities"], atol=1e-6)


def test_every_step_is_in_the_files_without_its_times(twice: list[Any]) -> None:
    result, found, _ = twice[0]
    written = json.loads(found[files.METRICS])["compressions"]
    assert [step["method"] for step in written] == ["Pruning", "Distillation", "Quantization"]
    assert [step["bytes_after"] for step in written] == [step.bytes_after for step in result.compressions]
    assert not [key for step in written for key in step if "seconds" in key]
    assert "Quantization" in found[files.CARD].decode()


def test_it_is_the_same_byte_for_byte_when_it_is_trained_again(twice: list[Any]) -> None:
    one, two = (found for _, found, _ in twice)
    assert [name for name in one if one[name] != two[name]] == []


def test_with_a_validation_part_it_judges_and_is_learnt_from_in_the_end(tmp_path: Path) -> None:
    pruning = CompressConfig(methods=("Pruning",), max_drop=0.03)
    result, found, _ = run(tmp_path, pruning, split=SplitConfig(validation_fraction=0.2))
    (step,) = result.compressions
    assert step.accepted, step.message
    assert result.estimator == "RandomForestClassifier"
    assert "ccp_alpha" in found[files.CARD].decode()


def test_what_is_not_taken_leaves_the_model_as_without_compression(tmp_path: Path) -> None:
    tiny = StudentConfig(estimator="DecisionTreeClassifier", params={"max_depth": 1})
    asked = CompressConfig(methods=("Distillation",), max_drop=0.01, student=tiny)
    result, found, _ = run(tmp_path / "asked", asked)
    plain_result, plain, _ = run(tmp_path / "plain", None)
    assert [step.accepted for step in result.compressions] == [False]
    assert plain_result.compressions == ()
    assert result.estimator == "RandomForestClassifier"
    assert found[files.MODEL_ONNX] == plain[files.MODEL_ONNX]
    assert result.metrics == plain_result.metrics
