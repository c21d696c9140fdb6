"""The first step of a custom training: read, check and split as any run, and write what the custom image may see.

The truth of the test part stays out: it isn't written anywhere, the last step reads the source again. A digest of the
rows, kept where the custom image has no access, tells whether they are still the same by then.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelkit.artifact.signature import InputColumn
from modelkit.contract import exchange
from modelkit.contract.config import TrainerConfig
from modelkit.contract.recipe import CustomConfig
from modelkit.contract.result import TrainingResult
from modelkit.data.columns import Rows, column_of
from modelkit.data.dataset import Dataset
from modelkit.errors import RefusedError, SourceChangedError
from modelkit.evaluate.answers import CLASSIFICATION, REGRESSION
from modelkit.train.candidates import resolve_metric
from modelkit.train.incomplete import drop_incomplete
from modelkit.train.parts import Labelled, Parts, divide
from modelkit.train.progress import Progress
from modelkit.train.run import digest_rows, find_signer, open_store, read_rows


def run_stage(config: TrainerConfig, environ: Mapping[str, str], progress: Progress) -> TrainingResult:
    """Write the custom image's inputs; raises RefusedError and StoreError as a run does."""
    started = time.monotonic()
    custom = require_custom(config)
    task = require_task(config)
    metric = resolve_metric(config, task)
    find_signer(config)  # a key that can't sign is told before anything is learnt
    dataset, feedback = read_rows(config, environ, open_store(config, environ), task, progress)
    parts = drop_incomplete(divide(dataset, feedback, config), dataset.columns, config.preprocessing)
    progress.count_rows("train", len(parts.train.target))
    progress.count_rows("test", len(parts.evaluation.target))
    _write_inputs(config, custom, metric, dataset, parts)
    result = TrainingResult(outcome="Succeeded", task=task, metric=metric)
    return replace(result, seconds=round(time.monotonic() - started, 3))


def require_custom(config: TrainerConfig) -> CustomConfig:
    """The configuration's custom part; RefusedError without one."""
    if config.custom is None:
        raise RefusedError("BadConfiguration", "this step is one of custom training, which wasn't asked for")
    return config.custom


def require_task(config: TrainerConfig) -> str:
    """The stated task: with no candidates there is nothing to infer it from."""
    if config.task not in (CLASSIFICATION, REGRESSION):
        raise RefusedError(
            "TaskMissing", f"spec.task must be {CLASSIFICATION} or {REGRESSION} when spec.command trains the model"
        )
    return config.task


def known_classes(dataset: Dataset, parts: Parts) -> tuple[Any, ...] | None:
    """The classes of the training part, sorted: all that a model can know of; None for regression."""
    return None if dataset.classes is None else tuple(sorted(set(parts.train.target.tolist())))


def check_unchanged(custom: CustomConfig, dataset: Dataset, parts: Parts) -> None:
    """Raise SourceChangedError when the rows aren't those that the inputs were written from."""
    try:
        staged = json.loads(Path(custom.state).read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SourceChangedError(f"what the first step left in {custom.state} can't be read") from exc
    if staged != digest_rows(dataset.columns, parts):
        raise SourceChangedError("the data was changed while the custom image trained on it; the run is tried again")


def to_frame(rows: Rows, columns: Sequence[InputColumn]) -> pd.DataFrame:
    """The model's view of rows as a table with its columns' names and types; missing values are nulls."""
    return pd.DataFrame({column.name: _typed(column_of(rows, index), column) for index, column in enumerate(columns)})


def _typed(values: Any, column: InputColumn) -> Any:
    if column.kind != "numeric":
        return pd.Series([value or None for value in values.tolist()], dtype=object)
    numbers = np.asarray(values, dtype=np.float64)
    if column.dtype == "datetime":
        return pd.to_datetime(pd.Series(numbers), unit="s", utc=True)
    if column.dtype not in ("int64", "bool") or not np.all(np.isnan(numbers) | (numbers == np.round(numbers))):
        return numbers
    whole = pd.Series(numbers).astype("Int64")
    typed: pd.Series[Any] = whole.astype("boolean") if column.dtype == "bool" else whole
    return typed if whole.isna().any() else typed.to_numpy(np.bool_ if column.dtype == "bool" else np.int64)


def _write_inputs(config: TrainerConfig, custom: CustomConfig, metric: str, dataset: Dataset, parts: Parts) -> None:
    inputs, outputs = Path(custom.inputs), Path(custom.outputs)
    for folder in (inputs, outputs, Path(custom.state).parent):
        folder.mkdir(parents=True, exist_ok=True)
    _labelled_frame(parts.train, dataset, config).to_parquet(inputs / exchange.TRAIN, index=False)
    if parts.validation is not None:
        _labelled_frame(parts.validation, dataset, config).to_parquet(inputs / exchange.VALIDATION, index=False)
    to_frame(parts.evaluation.rows, dataset.columns).to_parquet(inputs / exchange.TEST, index=False)
    schema = {
        "task": config.task,
        "target": config.data.target,
        "classes": known_classes(dataset, parts),
        "metric": metric,
        "weight": config.data.weight,
        "columns": [asdict(column) for column in dataset.columns],
    }
    told = {
        "namespace": config.namespace,
        "name": config.name,
        "run": config.number,
        "seed": config.seed,
        "params": dict(custom.params),
    }
    (inputs / exchange.SCHEMA).write_text(json.dumps(schema, indent=1, allow_nan=False))
    (inputs / exchange.CONFIG).write_text(json.dumps(told, indent=1, allow_nan=False))
    Path(custom.state).write_text(json.dumps({"digest": digest_rows(dataset.columns, parts)}))


def _labelled_frame(part: Labelled, dataset: Dataset, config: TrainerConfig) -> pd.DataFrame:
    frame = to_frame(part.rows, dataset.columns)
    frame[config.data.target] = part.target
    if config.data.weight is not None and part.weights is not None:
        frame[config.data.weight] = part.weights
    return frame
