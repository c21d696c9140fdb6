"""One training run from configuration to stored version. The order is that of the design, section 5."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelkit.artifact.signature import InputColumn
from modelkit.artifact.signing import load_signer
from modelkit.artifact.version import RUN, ArtifactError, read_manifest, write_version
from modelkit.contract.codec import dumps, from_plain, to_plain
from modelkit.contract.config import TrainerConfig
from modelkit.contract.files import version_directory
from modelkit.contract.result import ChampionResult, TrainingResult
from modelkit.data.columns import Rows
from modelkit.data.dataset import Dataset
from modelkit.data.source import read_source
from modelkit.errors import RefusedError, StoreError
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.evaluate.slices import MeasuredSlice, check_slices, find_slices, measure_slices, slice_notes
from modelkit.evaluate.trivial import answer_trivially
from modelkit.store.store import Store
from modelkit.train.candidates import Candidate, build_candidates, resolve_metric, resolve_task
from modelkit.train.champion import answer_as_champion, compare_answers
from modelkit.train.compress import Compressed, build_student, compress
from modelkit.train.export import export_onnx
from modelkit.train.feedback import Feedback, read_feedback
from modelkit.train.files import build_files
from modelkit.train.finished import Finished
from modelkit.train.incomplete import drop_incomplete
from modelkit.train.parts import Labelled, Parts, divide
from modelkit.train.pipeline import build_pipeline
from modelkit.train.progress import Progress
from modelkit.train.search import Trial, build_problem, fit, takes_weights
from modelkit.train.tuning import Search, clear_search
from modelkit.train.validating import MOST_FINDINGS, check_noise, read_known, validate_source

logger = logging.getLogger(__name__)

_PACKAGES = ("scikit-learn", "numpy", "pandas", "skl2onnx", "onnxruntime", "skops")
_RESULT = "result"


def run_training(config: TrainerConfig, environ: Mapping[str, str], progress: Progress, cores: int) -> TrainingResult:
    """Train, judge and store one version; returns what the operator is told.

    A run whose version is complete already (its pod died before it could say so) reports that version. Raises
    RefusedError for a specification or data that no retry can mend, StoreError and ArtifactError otherwise.
    """
    started = time.monotonic()
    store = open_store(config, environ)
    path = version_directory(config.namespace, config.name, config.version)
    if (written := find_written(store, path, config)) is not None:
        clear_search(store, config)
        return written
    sign = find_signer(config)
    task = resolve_task(config)
    metric = resolve_metric(config, task)
    candidates = build_candidates(config, metric)
    search, student = Search.of_run(config, candidates, store, environ), build_student(config, metric)
    dataset, feedback = read_rows(config, environ, store, task, progress)
    parts = drop_incomplete(divide(dataset, feedback, config), dataset.columns, config.preprocessing)
    progress.count_rows("train", len(parts.train.target))
    progress.count_rows("test", len(parts.evaluation.target))

    def build_trial(candidate: Candidate) -> Trial:
        pipeline = build_pipeline(
            candidate.name,
            candidate.estimator,
            dataset.columns,
            config.preprocessing,
            selection=config.selection,
            task=task,
            seed=config.seed,
            rows=parts.train.rows,
        )
        return Trial(candidate, pipeline)

    trials = [build_trial(candidate) for candidate in candidates]
    taught = None if student is None else build_trial(student)
    with _collected_warnings() as warned:
        run = _train(config, metric, dataset, parts, trials, search, progress, cores, taught)
    notes = (
        *dataset.notes,
        *(found.message for found in dataset.findings),
        *(feedback.notes if feedback else ()),
        *parts.notes,
        *_unweighted(trials, parts),
        *warned,
    )
    run = judge_version(run, store, dataset, feedback, progress)
    result = replace(run.result, seconds=round(time.monotonic() - started, 3), signed=sign is not None)
    progress.enter("Writing")
    files = build_files(replace(run, result=result, notes=(*notes, *run.notes)), cores)
    digest = write_version(store, path, files, version_metadata(config, result), sign)
    usage = search.worker_usage()
    search.clear()
    progress.enter("Done")
    return replace(result, digest=digest, path=path, usage=usage)


def find_signer(config: TrainerConfig) -> Callable[[bytes], bytes] | None:
    """What signs the version's manifest, when that is asked for; raises RefusedError for an unusable key."""
    return None if config.sign is None else load_signer(Path(config.sign.private_key))


def open_store(config: TrainerConfig, environ: Mapping[str, str]) -> Store:
    """The run's store; raises RefusedError for an address or settings that don't fit."""
    try:
        return Store.open(config.store, environ)
    except StoreError as exc:  # nothing was contacted yet: the address or its settings don't fit
        raise RefusedError("BadStoreAddress", str(exc)) from exc


def read_rows(
    config: TrainerConfig, environ: Mapping[str, str], store: Store, task: str, progress: Progress
) -> tuple[Dataset, Feedback | None]:
    """The checked rows of the source and, where the run asks for them, the captured ones."""
    progress.enter("Reading")
    frame = read_source(config.data, environ)
    progress.count_rows("source", len(frame))
    progress.enter("Validating")
    known, told = read_known(store, config)
    dataset = validate_source(frame, config, task, known, told)
    check_slices(dataset.frame, config.slices)
    if config.feedback is None:
        return dataset, None
    feedback = read_feedback(store, config.namespace, config.feedback, dataset)
    progress.count_rows("feedback", feedback.found)
    return dataset, feedback


def _train(
    config: TrainerConfig,
    metric: str,
    dataset: Dataset,
    parts: Parts,
    trials: list[Trial],
    search: Search,
    progress: Progress,
    cores: int,
    student: Trial | None,
) -> Finished:
    """Search, fit the best on the whole training part and the validation part, compress and export it."""
    target = parts.train.target
    classes = None if dataset.classes is None else tuple(sorted(set(target.tolist())))
    progress.enter("Searching")
    problem = build_problem(trials, parts, classes, metric, config)
    ranking = search.rank(trials, problem, progress, cores)
    progress.enter("Fitting")
    ranked = ranking.trials
    fitted = fit(ranked[0], problem.rows, problem.target, jobs=cores, weights=problem.weights)
    columns, model = dataset.columns, Compressed(ranked[0], fitted)
    if config.compress is not None:
        every = Labelled(problem.rows, problem.target, problem.weights)
        model = compress(
            config, metric, model, student, columns=columns, parts=parts, every=every, classes=classes, cores=cores
        )
    answers = model.answer(columns, parts.evaluation, classes)
    progress.enter("Exporting")
    name, source = model.trial.candidate.name, parts.source_test
    return Finished(
        config=config,
        metric=metric,
        columns=columns,
        parts=parts,
        trials=ranked,
        pipeline=model.pipeline,
        answers=answers,
        source_answers=None if source is None else model.answer(columns, source, classes),
        export=model.quantized or export_onnx(name, model.pipeline, columns, parts.evaluation.rows, answers),
        result=TrainingResult(outcome="Succeeded"),
        notes=ranking.notes,
        packages={package: importlib.metadata.version(package) for package in _PACKAGES},
        compressed=model.trial if config.compress else None,
        compressions=model.steps,
    )


def _unweighted(trials: Sequence[Trial], parts: Parts) -> tuple[str, ...]:
    if parts.train.weights is None:
        return ()
    return tuple(
        f"{trial.candidate} takes no weights: to it every row counted the same"
        for trial in trials
        if not takes_weights(trial)
    )


def judge_version(
    run: Finished, store: Store, dataset: Dataset, feedback: Feedback | None, progress: Progress
) -> Finished:
    """Measure the new version, the trivial predictor and the champion on the evaluation rows and their slices."""
    progress.enter("Evaluating")
    answers, parts = run.answers, run.parts
    if not _is_finite(answers):
        raise RefusedError("FitFailed", f"{run.candidate} has no finite answer to every test row; try other parameters")
    trivial = answer_trivially(
        answers.task, parts.train.target, answers.truth, answers.classes, parts.train.weights, answers.weights
    )
    champion, slices, champion_message = compare_with_champion(run, store, dataset)
    metrics = compute_metrics(answers)
    noise = check_noise(store, run.config, answers, metrics, champion.metrics if champion else {})
    result = TrainingResult(
        outcome="Succeeded",
        task=answers.task,
        metric=run.metric,
        estimator=run.estimator,
        metrics=metrics,
        trivial=compute_metrics(trivial),
        champion=champion,
        champion_message=champion_message,
        evaluated_on=parts.evaluated_on,
        train_rows=len(parts.train.target),
        test_rows=len(answers.truth),
        feedback_rows=feedback.found if feedback else 0,
        format=run.format,
        format_message=run.export.message,
        data_digest=digest_rows(dataset.columns, parts),
        slices=tuple(found.to_result() for found in slices),
        compressions=run.compressions,
        findings=(*dataset.findings, *noise)[:MOST_FINDINGS],
        trials=len(run.trials),
    )
    notes = (*run.notes, *slice_notes(slices, parts.evaluation_frame), *(found.message for found in noise))
    return replace(run, result=result, slices=slices, notes=notes, source=dataset.source)


def compare_with_champion(
    run: Finished, store: Store, dataset: Dataset
) -> tuple[ChampionResult | None, tuple[MeasuredSlice, ...], str | None]:
    """The champion on the run's evaluation rows, both models on the rows' slices, and why there is no champion when
    it couldn't be measured."""
    config, frame, new = run.config, run.parts.evaluation_frame, run.answers
    old, message = None, None
    if config.champion is not None:
        try:
            old = answer_as_champion(store, config.champion, frame, dataset.columns, new)
        except ArtifactError as exc:
            logger.warning("the champion can't be measured", extra={"error": str(exc)})
            message = str(exc)
    slices = measure_slices(find_slices(frame, config.slices), new, old, config.comparisons, config.seed)
    if config.champion is None or old is None:
        return None, slices, message
    return compare_answers(config, config.champion.number, new, old), slices, None


def _is_finite(answers: Answers) -> bool:
    numbers = [answers.probabilities] if answers.classes is not None else [answers.predictions]
    return all(values is None or bool(np.all(np.isfinite(values))) for values in numbers)


def digest_rows(columns: Sequence[InputColumn], parts: Parts) -> str:
    """sha256 over the model's view of every row that was learnt from or judged by, in order."""
    digest = hashlib.sha256()
    digest.update(json.dumps([[column.name, column.dtype] for column in columns]).encode())
    for part in (parts.train, parts.evaluation, *([] if parts.validation is None else [parts.validation])):
        digest.update(_row_hashes(part.rows))
        digest.update(_row_hashes(pd.DataFrame({0: part.target})))
        if part.weights is not None:
            digest.update(_row_hashes(part.weights))
    return f"sha256:{digest.hexdigest()}"


def _row_hashes(rows: Rows) -> bytes:
    if isinstance(rows, pd.DataFrame):
        return pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return np.ascontiguousarray(rows).tobytes()


def version_metadata(config: TrainerConfig, result: TrainingResult) -> dict[str, Any]:
    """What the manifest says beside the files: which run it is of, and what it found."""
    return {
        RUN: _run_identity(config),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "origin": to_plain(config.origin) if config.origin else None,
        _RESULT: to_plain(result),
    }


def _run_identity(config: TrainerConfig) -> dict[str, Any]:
    return {
        "namespace": config.namespace,
        "name": config.name,
        "number": config.number,
        "version": config.version,
        "config": hashlib.sha256(dumps(config).encode()).hexdigest(),
    }


def find_written(store: Store, path: str, config: TrainerConfig) -> TrainingResult | None:
    """The result of a version that this very run wrote before; RefusedError when another run's is in its place."""
    manifest = read_manifest(store, path)
    if manifest is None:
        return None
    if manifest.metadata.get(RUN) != _run_identity(config):
        raise RefusedError(
            "VersionExists",
            f"there is already a version of another run at {path} ({manifest.digest}); a version is never overwritten",
        )
    logger.info("this run's version is complete already", extra={"path": path, "digest": manifest.digest})
    result = from_plain(TrainingResult, manifest.metadata[_RESULT])
    return replace(result, digest=manifest.digest, path=path)


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What scikit-learn warns of, once per kind and in a fixed order, for the model card."""
    from sklearn.exceptions import ConvergenceWarning

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    found = {str(entry.message).strip().splitlines()[0] for entry in caught if entry.category is ConvergenceWarning}
    notes.extend(sorted(found))
