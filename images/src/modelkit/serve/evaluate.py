"""/evaluate: how good the served version is on rows whose labels the client has.

::

    {"features": rows or named records, "labels": […]}     one label per row
    {"id", "model", "version", "rows", "metrics": {"accuracy": 0.97, …}}

The metrics are those of the version's metrics.json, by the same code. One that the rows can't tell is null: such as
ROC AUC when all labels are of one class, or log loss when a label is of a class that the model doesn't know.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics, metric_names
from modelkit.serve.batch import Batch, Features
from modelkit.serve.body import parse_object
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.feedback import check_label
from modelkit.serve.model import Answer
from modelkit.serve.plain import parse_features
from modelkit.serve.question import Question, Reply, Request
from modelkit.serve.routes import Route
from modelkit.serve.service import Service

_KEYS = frozenset({"features", "labels"})


def evaluate_routes(service: Service) -> dict[str, Route]:
    """The path of evaluations."""
    return {"/evaluate": Route("evaluate", ask=lambda request: ask_evaluation(service, request))}


def ask_evaluation(service: Service, request: Request) -> Question:
    """The question of an /evaluate body; raises RequestError."""
    signature = service.signature
    found = parse_evaluate(service.features, signature, request.body, service.limits)

    def render(answer: Answer) -> Reply:
        return Reply(render_evaluate(signature, service.name, found.labels, answer, request.id))

    return Question(request.id, found.batch, len(request.body), render, is_captured=False, is_costly=True)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Rows and the truth about each."""

    batch: Batch
    labels: tuple[Any, ...]
    """[rows] in the type of the model's classes, or floats for a regression."""


def parse_evaluate(features: Features, signature: Signature, body: bytes, limits: LimitsConfig) -> LabelledRows:
    """The rows and labels of an /evaluate body; raises RequestError."""
    plain = parse_object(body, _KEYS, limits)
    batch = parse_features(features, plain.get("features"), limits.max_rows)
    found = plain.get("labels")
    if not isinstance(found, list):
        raise MalformedRequestError("the field 'labels' must be a list with one label per row")
    if len(found) != batch.rows:
        raise MalformedRequestError(f"{len(found)} labels for {batch.rows} rows; expected one label per row")
    labels = [check_label(signature, value, f"labels[{row}]") for row, value in enumerate(found)]
    return LabelledRows(batch, tuple(labels))


def measure(signature: Signature, labels: tuple[Any, ...], answer: Answer) -> dict[str, float | None]:
    """Every metric of the version's task; None for one that these rows can't tell."""
    dtype = np.float64 if signature.classes is None else np.dtype(object)
    answers = Answers(
        task=signature.task,
        truth=np.array(labels, dtype=dtype),
        predictions=np.array(answer.predictions, dtype=dtype),
        probabilities=answer.probabilities,
        classes=signature.classes,
    )
    found = compute_metrics(answers)
    return {name: found.get(name) for name in metric_names(signature.task)}


def render_evaluate(signature: Signature, name: str, labels: tuple[Any, ...], answer: Answer, request_id: str) -> bytes:
    """The JSON answer."""
    plain = {
        "id": request_id,
        "model": name,
        "version": str(signature.number),
        "rows": len(labels),
        "metrics": measure(signature, labels, answer),
    }
    return orjson.dumps(plain)
