"""What is served is what scikit-learn itself answers: for every estimator of the allow-list, fitted and exported as a
run does it, on numbers and on a mixed table, from ONNX where there is an ONNX form and from skops elsewhere."""

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from modelkit.artifact.moments import to_seconds
from modelkit.artifact.native import dump_native
from modelkit.artifact.signature import MISSING_TEXT, OutputColumn, Signature, dump_signature
from modelkit.artifact.version import write_version
from modelkit.contract import files as files_of
from modelkit.contract.config import (
    CandidateConfig,
    CaptureConfig,
    ColumnTypeConfig,
    DataConfig,
    PreprocessingConfig,
    StoreConfig,
    TrainerConfig,
    VersionRef,
)
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS
from modelkit.contract.files import version_directory
from modelkit.data.dataset import Dataset, build_dataset
from modelkit.serve.engine import answer_together
from modelkit.serve.loading import load_version
from modelkit.serve.question import Question, Request
from modelkit.serve.service import Answered, Service
from modelkit.serve.settings import Settings
from modelkit.store.store import Store
from modelkit.train.candidates import build_candidates
from modelkit.train.export import PROBABILITY_TOLERANCE, VALUE_TOLERANCE, export_onnx
from modelkit.train.pipeline import build_pipeline
from modelkit.train.search import Trial, answer, fit
from tests.unit.estimators.estimator_runs import FASTER, FIXED
from tests.unit.serve.serve_process import server_config

SAMPLES = 20
TRAINING_ROWS = 240
ROWS = 1000
WORDS = ("late", "delivery", "broken", "again", "thanks", "perfect", "fast", "refund")
TABLES = ("numbers", "mixed")
FEWER = {"n_estimators": 10, "max_iter": 200, "nu": 0.2, "reg_param": 0.1}
OWN: dict[str, dict[str, Any]] = {
    "OrthogonalMatchingPursuitCV": {"max_iter": 3},
    "TheilSenRegressor": {"n_subsamples": 60},
}


def draw(table: str, rows: int, seed: int) -> pd.DataFrame:
    """Random rows, as a client would have them; of later seeds also with values that training doesn't see."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({f"n{index}": rng.normal(index, 1 + index, rows) for index in range(4)})
    if table == "numbers":
        return frame
    frame.loc[rng.random(rows) < 0.1, "n1"] = np.nan
    cities = ["Rome", "Oslo", "München", None] + (["Nowhere"] if seed else [])
    frame["city"] = rng.choice(np.array(cities, object), rows)
    frame["count"] = rng.integers(0, 50, rows)
    frame["flag"] = rng.random(rows) < 0.5
    frame["note"] = [" ".join(rng.choice(WORDS, 4)) if found else None for found in rng.random(rows) > 0.1]
    days = rng.integers(0, 1000, rows).astype("timedelta64[D]") + np.datetime64("2024-01-01T08:30:00")
    frame["day"] = [f"{day}Z" for day in days]
    return frame


def target(frame: pd.DataFrame, task: str) -> pd.Series:
    score = frame["n0"] + 0.3 * frame["n3"]
    if "city" in frame:
        score = score + 2 * (frame["city"] == "Rome") + frame["flag"] + frame["count"] / 25
    if task == "Regression":
        return score - score.min() + 0.5  # positive, as gamma regression wants
    return pd.Series(np.select([score > 3, score > 1], ["high", "mid"], "low"))


@cache
def dataset_of(table: str, task: str) -> Dataset:
    """The training rows."""
    frame = draw(table, TRAINING_ROWS, 0)
    stated = (ColumnTypeConfig(name="note", type="Text"),) if table == "mixed" else ()
    config = DataConfig(uri="x", display_uri="x", target="target", columns=stated)
    return build_dataset(frame.assign(target=target(frame, task)), config, task)


def train(name: str, table: str, store: Store) -> tuple[Any, VersionRef]:
    """The fitted pipeline, and the version that a run makes of it."""
    task = "Classification" if name in CLASSIFIERS else "Regression"
    dataset = dataset_of(table, task)
    trial, fitted = fit_pipeline(name, dataset)
    # Parity is asked of as many rows as a small run has to test with.
    native = answer(trial, fitted, dataset.rows(), dataset.target, dataset.classes)
    export = export_onnx(name, fitted, dataset.columns, dataset.rows(), native)
    outputs = [OutputColumn(name="prediction", dtype="string" if dataset.classes else "float64")]
    if native.probabilities is not None:
        outputs.append(OutputColumn(name="probabilities", dtype="float64", shape=(-1, native.probabilities.shape[1])))
    signature = Signature(
        model="model",
        number=1,
        task=task,
        target="target",
        metric="f1",
        classes=dataset.classes,
        inputs=dataset.columns,
        outputs=tuple(outputs),
        onnx=export.layout,
    )
    files = {
        files_of.SIGNATURE: dump_signature(signature),
        files_of.SAMPLES: json.dumps(
            {
                "rows": records_of(dataset.frame[[column.name for column in dataset.columns]].head(SAMPLES)),
                "predictions": native.predictions[:SAMPLES].tolist(),
                "probabilities": None if native.probabilities is None else native.probabilities[:SAMPLES].tolist(),
            }
        ).encode(),
    }
    if export.model is not None:
        files[files_of.MODEL_ONNX] = export.model
    else:
        files[files_of.MODEL_SKOPS] = dump_native(fitted)
    path = version_directory("team", "model", "1-abc")
    return fitted, VersionRef(number=1, path=path, digest=write_version(store, path, files, {}))


def fit_pipeline(name: str, dataset: Dataset) -> tuple[Trial, Any]:
    """Preprocessing and the estimator, with parameters that are quick to fit."""
    known = getattr(importlib.import_module(ESTIMATORS[name]), name)().get_params(deep=False)
    fixed = {key: value for key, value in (FEWER | FIXED).items() if key in known}
    config = TrainerConfig(
        namespace="team",
        name="model",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri="file:///x"),
        data=DataConfig(uri="x", display_uri="x", target="target"),
        candidates=(CandidateConfig(estimator=name, params=fixed | FASTER.get(name, {}) | OWN.get(name, {})),),
    )
    metric = "accuracy" if dataset.classes else "rmse"
    candidate = build_candidates(config, metric)[0]
    trial = Trial(candidate, build_pipeline(name, candidate.estimator, dataset.columns, PreprocessingConfig()))
    return trial, fit(trial, dataset.rows(), dataset.target)


@contextmanager
def serving(store: Store, ref: VersionRef, folder: Path) -> Iterator[Service]:
    """The version, loaded as a server pod loads it."""
    config = server_config(Path(store.uri.removeprefix("file://")), ref, "model")
    config = replace(config, capture=CaptureConfig(sample_percent=0))
    loaded = load_version(Settings(config=config, port=0, work=folder, pod="pod-0"), store, 1)
    try:
        yield loaded.service
    finally:
        loaded.close()


def ask(service: Service, parse: Callable[[Request], Question], body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a body, as the engine has it answered."""
    (outcome,) = answer_together(service, [parse(Request(json.dumps(body).encode(), "id"))])
    assert isinstance(outcome, Answered), outcome
    answer: dict[str, Any] = json.loads(outcome.reply.body)
    return answer


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in JSON's types; null is missing."""
    records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return records


def tensors_of(records: list[dict[str, Any]], signature: Signature) -> list[dict[str, Any]]:
    """The same rows as tensors of the Open Inference Protocol, one per column."""
    datatypes = {"float64": "FP64", "int64": "INT64", "bool": "BOOL", "string": "BYTES", "datetime": "BYTES"}
    return [
        {
            "name": column.name,
            "shape": [len(records), 1],
            "datatype": datatypes[column.dtype],
            "data": [record[column.name] for record in records],
        }
        for column in signature.inputs
    ]


def rows_of(records: list[dict[str, Any]], signature: Signature) -> NDArray[Any]:
    """The same rows as the pipeline takes them: see modelkit.artifact.native."""

    def value(record: dict[str, Any], name: str, dtype: str, kind: str) -> Any:
        found = record[name]
        if kind != "numeric":
            return MISSING_TEXT if found is None else str(found).lower() if dtype == "bool" else str(found)
        if dtype == "datetime":
            return to_seconds(found)
        return np.nan if found is None else float(found)

    is_plain = all(column.kind == "numeric" for column in signature.inputs)
    rows = [
        [value(record, column.name, column.dtype, column.kind) for column in signature.inputs] for record in records
    ]
    return np.array(rows, dtype=np.float64 if is_plain else object)


def is_tie(pipeline: Any, probabilities: NDArray[Any] | None, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """[rows] where scikit-learn's best two classes are equal but for the parity's tolerance: either label is right."""
    if probabilities is not None:
        scores = np.asarray(probabilities)
    elif hasattr(pipeline, "decision_function"):
        found = np.asarray(pipeline.decision_function(rows))
        scores = np.column_stack([-found, found]) if found.ndim == 1 else found
    else:
        return np.zeros(len(rows), bool)
    best = np.sort(scores, axis=1)
    return np.asarray(best[:, -1] - best[:, -2] <= PROBABILITY_TOLERANCE)


def check(signature: Signature, pipeline: Any, rows: NDArray[Any], predictions: Any, probabilities: Any) -> None:
    """Hold served answers against scikit-learn's own."""
    expected = np.asarray(pipeline.predict(rows)).ravel()
    has_probabilities = len(signature.outputs) == 2
    wanted = pipeline.predict_proba(rows) if has_probabilities else None
    ties = is_tie(pipeline, wanted, rows) if signature.classes else np.zeros(len(rows), bool)
    if signature.classes is None:
        scale = np.maximum(np.abs(expected), VALUE_TOLERANCE * np.std(expected))
        assert np.max(np.abs(np.array(predictions) - expected) / scale) <= VALUE_TOLERANCE
        return
    assert (probabilities is None) == (wanted is None)
    if wanted is not None:
        np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=PROBABILITY_TOLERANCE)
    differ = np.array(predictions, object) != np.array(expected.tolist(), object)
    assert not np.any(differ & ~ties)
    assert ties.mean() < 0.5


@cache
def asked(table: str) -> list[dict[str, Any]]:
    """The random rows."""
    return records_of(draw(table, ROWS, 1))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.filterwarnings("ignore")  # few rows and iterations are wanted
def test_a_thousand_random_rows_get_scikit_learns_own_answers(name: str, table: str, tmp_path: Path) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path}/store"), {})
    pipeline, ref = train(name, table, store)
    records = asked(table)
    with serving(store, ref, tmp_path / "work") as service:
        signature = service.signature
        rows = rows_of(records, signature)
        plain = ask(service, service.predict, {"features": records})
        check(signature, pipeline, rows, plain["predictions"], plain.get("probabilities"))
        tensors = ask(service, service.infer, {"inputs": tensors_of(records, signature)})["outputs"]
    assert tensors[0]["data"] == plain["predictions"]
    assert len(tensors) == len(signature.outputs)
    if len(tensors) == 2:
        assert np.reshape(tensors[1]["data"], tensors[1]["shape"]).tolist() == plain["probabilities"]
