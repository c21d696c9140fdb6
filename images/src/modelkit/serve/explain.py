"""/explain and v1's `:explain`: what each column adds to each answer, for any model.

::

    {"features": rows or named records}     v1: {"instances": rows or named records}
    {"id", "model", "version", "method": "Exact", "explains": "Probability", "explanations": [
        {"prediction": 1, "probability": 0.97, "base": 0.6, "contributions": {"a": 0.3, "b": 0.07}}, …]}

Contributions are Shapley values (see evaluate.shares) against the version's own samples, up to 20 rows that it was
evaluated on: `base` is the mean answer to them, and `base` plus all contributions is the answer to the row. The answer
that is explained is the predicted class's probability; 1 for the predicted label against 0 for any other where the
model has no probabilities (then there is no field `probability`); the predicted number for a regression.
"""

import time
from collections.abc import Sequence
from typing import Any

import orjson

from modelkit.serve.batch import Features
from modelkit.serve.body import parse_object
from modelkit.serve.explainer import Explainer, Explanation
from modelkit.serve.model import Answer
from modelkit.serve.plain import parse_features
from modelkit.serve.question import Question, Reply, Request
from modelkit.serve.routes import Route
from modelkit.serve.service import Service


def explain_routes(service: Service) -> dict[str, Route]:
    """The paths of explanations; none where nothing can be explained, because another server has the model."""
    explainer = service.explainer
    if explainer is None:
        return {}
    name, number = service.name, service.signature.number
    v1 = Route("v1_explain", ask=lambda request: ask_explanation(service, explainer, request, "instances"))
    return {
        "/explain": Route("explain", ask=lambda request: ask_explanation(service, explainer, request, "features")),
        f"/v1/models/{name}:explain": v1,
        f"/v1/models/{name}/versions/{number}:explain": v1,
    }


def ask_explanation(service: Service, explainer: Explainer, request: Request, field: str) -> Question:
    """The question of a body with rows in `field`; raises RequestError, also when they are too much work at once."""
    found = parse_object(request.body, frozenset({field}), service.limits).get(field)
    batch = parse_features(explainer.features, found, service.limits.max_rows)
    explainer.check_rows(batch.rows)
    deadline = time.monotonic() + service.limits.inference_seconds

    def render(answer: Answer) -> Reply:
        explanations = explainer.explain(batch, answer, deadline)
        return Reply(render_explanations(explainer, service.name, explanations, request.id))

    return Question(request.id, batch, len(request.body), render, is_captured=False, is_costly=True)


def render_explanations(explainer: Explainer, name: str, found: Sequence[Explanation], request_id: str) -> bytes:
    """The JSON answer."""
    plain = {
        "id": request_id,
        "model": name,
        "version": str(explainer.signature.number),
        "method": explainer.method,
        "explains": explainer.explains,
        "explanations": [_plain(explainer.features, explanation) for explanation in found],
    }
    return orjson.dumps(plain)


def _plain(features: Features, explanation: Explanation) -> dict[str, Any]:
    plain: dict[str, Any] = {"prediction": explanation.prediction}
    if explanation.probability is not None:
        plain["probability"] = explanation.probability
    contributions = dict(zip(features.names, explanation.contributions.tolist(), strict=True))
    return plain | {"base": explanation.base, "contributions": contributions}
