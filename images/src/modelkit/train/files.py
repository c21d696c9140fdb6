"""The files of the version that a run writes, from what the run found. Pure: the same run gives the same bytes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from modelkit.artifact.moments import to_text
from modelkit.artifact.native import dump_native
from modelkit.artifact.signature import InputColumn, dump_signature
from modelkit.contract import files
from modelkit.contract.codec import to_plain
from modelkit.data.calibration import build_calibration
from modelkit.data.columns import Rows, as_array, column_of, take
from modelkit.data.kinds import DATETIME, NUMERIC
from modelkit.data.losses import build_losses
from modelkit.data.profile import TIME, build_profile
from modelkit.evaluate.answers import REGRESSION, Answers, Array, encode
from modelkit.evaluate.bootstrap import metric_intervals
from modelkit.evaluate.confusion import describe_classes
from modelkit.evaluate.importance import Importance, permutation_importance
from modelkit.evaluate.metrics import compute_metrics
from modelkit.evaluate.slices import describe_slices
from modelkit.train.card import build_card
from modelkit.train.explanation import build_explanation, describe_selection
from modelkit.train.finished import Finished
from modelkit.train.learning import measure_learning
from modelkit.train.page import build_page
from modelkit.train.pictures import draw_pictures
from modelkit.train.reference import count_wanted, draw_reference

_SAMPLES = 20
_CONFIDENCE = 0.95


def build_files(run: Finished, jobs: int | None = None) -> dict[str, bytes]:
    """Every file of the version but the manifest; `jobs` threads work at a time."""
    importance = measure_importance(run, jobs or 1) if run.is_runnable else []
    metrics = describe_metrics(run) | describe_learning(run, jobs)
    explanation = build_explanation(run, importance) if run.is_runnable else None
    profile = describe_rows(run)
    built = {
        files.SIGNATURE: dump_signature(run.signature),
        files.METRICS: to_json(metrics),
        files.PROFILE: to_json(profile),
    }
    if count_wanted(run.config):
        built[files.REFERENCE] = draw_reference(run, profile)
    card = build_card(run, metrics, importance)
    built[files.CARD] = card.encode()
    built[files.CARD_HTML] = build_page(card, draw_pictures(run, metrics, importance, explanation))
    if run.pipeline is not None:
        built[files.MODEL_SKOPS] = dump_native(run.pipeline)
    if run.is_runnable:
        built[files.SAMPLES] = to_json(describe_samples(run))
        features = [{"name": entry.name, "mean": entry.mean, "deviation": entry.deviation} for entry in importance]
        built[files.IMPORTANCE] = to_json({"metric": run.metric, "features": features})
    if explanation is not None:
        built[files.EXPLANATION] = to_json(explanation)
    if run.source is not None:
        built[files.SOURCE] = to_json(to_plain(run.source))
    if run.export.model is not None:
        built[files.MODEL_ONNX] = run.export.model
    return built


def describe_metrics(run: Finished) -> dict[str, Any]:
    """The content of metrics.json."""
    result = run.result
    return {
        "task": result.task,
        "metric": run.metric,
        "evaluated_on": result.evaluated_on,
        "train_rows": result.train_rows,
        "test_rows": result.test_rows,
        "feedback_rows": result.feedback_rows,
        "metrics": result.metrics,
        "intervals": {
            "confidence": _CONFIDENCE,
            "bounds": metric_intervals(run.answers, _CONFIDENCE, run.config.seed),
        },
        "confusion": describe_classes(run.answers, _CONFIDENCE, run.config.seed),
        "slices": describe_slices(run.slices, run.answers, _CONFIDENCE, run.config.seed),
        "trivial": result.trivial,
        "champion": to_plain(result.champion) if result.champion else None,
        "champion_message": result.champion_message,
        "findings": [to_plain(found) for found in result.findings],
        "source_test": None if run.source_answers is None else compute_metrics(run.source_answers),
        "candidates": [
            {
                "estimator": trial.candidate.name,
                "params": dict(trial.candidate.params),
                "mean": _finite(trial.mean),
                "deviation": _finite(trial.deviation),
                "folds": [_finite(score) for score in trial.scores],
            }
            for trial in run.trials
        ],
        "compressions": [
            # Without the times, which no two runs agree on; the manifest has them.
            {
                "method": step.method,
                "accepted": step.accepted,
                "drop": step.drop,
                "bytes_before": step.bytes_before,
                "bytes_after": step.bytes_after,
                "message": step.message,
            }
            for step in run.compressions
        ],
        "selected_features": describe_selection(run),
        "notes": list(run.notes),
    }


def describe_learning(run: Finished, jobs: int | None) -> dict[str, Any]:
    """What metrics.json says of the learning curve: its points, or why there are none; nothing when it isn't asked."""
    if run.config.explain is None or not run.config.explain.learning_curve:
        return {}
    points, message = measure_learning(run, jobs)
    return {"learning_curve": [asdict(point) for point in points], "learning_curve_message": message}


def describe_rows(run: Finished) -> dict[str, Any]:
    """The content of profile.json."""
    rows = run.parts.profiled
    profile = build_profile(
        {column.name: column_of(rows, index) for index, column in enumerate(run.columns)},
        {column.name: TIME if column.dtype == DATETIME else column.kind for column in run.columns},
        run.answers.predictions,
        run.answers.probabilities,
        run.answers.task,
        run.answers.classes,
    )
    return profile | {"calibration": describe_calibration(run), "losses": describe_losses(run, profile)}


def describe_calibration(run: Finished) -> dict[str, Any] | None:
    """How often the probabilities came true on the evaluation rows; None for a model without any."""
    answers = run.answers
    if answers.probabilities is None or answers.classes is None:
        return None
    truth, predicted = (encode(labels, answers.classes) for labels in (answers.truth, answers.predictions))
    return build_calibration(truth, predicted, answers.probabilities.astype(np.float64), answers.classes)


def describe_losses(run: Finished, profile: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the errors on the evaluation rows depend on; None for a classification."""
    if run.answers.task != REGRESSION:
        return None
    rows = run.parts.evaluation.rows
    features = {
        column.name: (profile["features"][column.name], column_of(rows, index))
        for index, column in enumerate(run.columns)
    }
    return build_losses(features, (profile["predictions"], run.answers.predictions), run.answers.truth)


def measure_importance(run: Finished, jobs: int) -> list[Importance]:
    """Permutation importance of the model as it will be served, on the evaluation rows."""
    answers = run.answers

    def predict(rows: Array, truth: Array) -> Answers:
        predictions, probabilities = run.serve(rows)
        return Answers(answers.task, truth, predictions, probabilities, answers.classes)

    names = [column.name for column in run.columns]
    rows = as_array(run.parts.evaluation.rows)
    return permutation_importance(
        predict, rows, answers.truth, names, run.metric, run.config.seed, weights=answers.weights, jobs=jobs
    )


def describe_samples(run: Finished) -> dict[str, Any]:
    """Warm-up rows and the answers that a server of this version must give to them."""
    count = min(_SAMPLES, len(run.answers.truth))
    rows: Rows = take(run.parts.evaluation.rows, np.arange(count))
    predictions, probabilities = run.serve(as_array(rows))
    return {
        "rows": [
            {column.name: _plain(value, column) for column, value in zip(run.columns, values, strict=True)}
            for values in as_array(rows).tolist()
        ],
        "predictions": predictions.tolist(),
        "probabilities": None if probabilities is None else probabilities.astype(np.float64).tolist(),
    }


def _plain(value: Any, column: InputColumn) -> Any:
    """The model's view of a value as a client would send it."""
    if column.kind != NUMERIC:
        if column.dtype == "string" or not value:
            return value or None
        return value == "true" if column.dtype == "bool" else int(value)
    if np.isnan(value):
        return None
    if column.dtype == "bool":
        return bool(value)
    if column.dtype == DATETIME:
        return to_text(value)
    return int(value) if column.dtype == "int64" and float(value).is_integer() else float(value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def to_json(plain: Any) -> bytes:
    """The bytes of a JSON file of a version; raises ValueError for NaN."""
    return json.dumps(plain, indent=1, allow_nan=False).encode()
