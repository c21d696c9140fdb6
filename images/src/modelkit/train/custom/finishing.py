"""The last step of a custom training: judge what the image said of rows whose truth it never saw, and store it."""

import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelkit.artifact.version import write_version
from modelkit.contract.config import TrainerConfig
from modelkit.contract.files import CARD, version_directory
from modelkit.contract.result import TrainingResult
from modelkit.data.dataset import Dataset
from modelkit.evaluate.answers import Answers
from modelkit.train.candidates import resolve_metric
from modelkit.train.custom.onnx import adopt_onnx
from modelkit.train.custom.outputs import Outputs, read_outputs
from modelkit.train.custom.staging import check_unchanged, known_classes, require_custom, require_task
from modelkit.train.files import build_files
from modelkit.train.finished import Finished
from modelkit.train.incomplete import drop_incomplete
from modelkit.train.parts import Parts, divide
from modelkit.train.progress import Progress
from modelkit.train.run import find_signer, find_written, judge_version, open_store, read_rows, version_metadata

_PACKAGES = ("numpy", "pandas", "onnxruntime")


def run_finish(config: TrainerConfig, environ: Mapping[str, str], progress: Progress) -> TrainingResult:
    """Check, judge and store the custom image's version; returns what the operator is told.

    Raises RefusedError for outputs that break the contract, SourceChangedError when the data isn't what the image
    learnt from, StoreError and ArtifactError as a run does.
    """
    started = time.monotonic()
    custom = require_custom(config)
    store = open_store(config, environ)
    path = version_directory(config.namespace, config.name, config.version)
    if (written := find_written(store, path, config)) is not None:
        return written
    sign = find_signer(config)
    task = require_task(config)
    metric = resolve_metric(config, task)
    dataset, feedback = read_rows(config, environ, store, task, progress)
    parts = drop_incomplete(divide(dataset, feedback, config), dataset.columns, config.preprocessing)
    progress.count_rows("train", len(parts.train.target))
    progress.count_rows("test", len(parts.evaluation.target))
    check_unchanged(custom, dataset, parts)
    outputs = read_outputs(Path(custom.outputs), len(parts.evaluation.target), known_classes(dataset, parts))
    notes = (
        *dataset.notes,
        *(found.message for found in dataset.findings),
        *(feedback.notes if feedback else ()),
        *parts.notes,
        *outputs.notes,
    )
    run = judge_version(_finished(config, metric, task, dataset, parts, outputs), store, dataset, feedback, progress)
    result = replace(run.result, seconds=round(time.monotonic() - started, 3), signed=sign is not None)
    progress.enter("Writing")
    built = build_files(replace(run, result=result, notes=(*notes, *run.notes)))
    built[CARD] += _card_of_image(outputs).encode()
    files: dict[str, bytes | Path] = {**built, **outputs.model}
    digest = write_version(store, path, files, version_metadata(config, result), sign)
    progress.enter("Done")
    return replace(result, digest=digest, path=path)


def _finished(
    config: TrainerConfig, metric: str, task: str, dataset: Dataset, parts: Parts, outputs: Outputs
) -> Finished:
    answers = Answers(
        task,
        parts.evaluation.target,
        outputs.predictions.predictions,
        outputs.predictions.probabilities,
        known_classes(dataset, parts),
        parts.evaluation.weights,
    )
    return Finished(
        config=config,
        metric=metric,
        columns=dataset.columns,
        parts=parts,
        trials=(),
        pipeline=None,
        answers=answers,
        source_answers=None,
        export=adopt_onnx(outputs.onnx, dataset.columns, parts.evaluation.rows, answers),
        result=TrainingResult(outcome="Succeeded"),
        notes=(),
        packages={package: importlib.metadata.version(package) for package in _PACKAGES},
    )


def _card_of_image(outputs: Outputs) -> str:
    """What the image says of itself, below what was measured here."""
    text = ""
    if outputs.reported:
        lines = "\n".join(f"- {name.replace(chr(10), ' ')}: {value:.6g}" for name, value in outputs.reported.items())
        text += f"\n## Reported by the custom image\n\nThese numbers judged nothing.\n\n{lines}\n"
    if outputs.card:
        text += f"\n## Of the custom image\n\n{outputs.card}\n"
    return text
