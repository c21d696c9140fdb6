"""The OpenAPI 3.1 document of one model's server, made at start from the signature.

Each path that the server has is described by an entry of `_build_operations`; a test compares both with the routes.
Pure.
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.contract.route import ROUTE_REPORT_PATH
from modelkit.serve.openapi_schemas import build_schemas, example_label, example_record, reference
from modelkit.serve.v2_tensors import DATATYPES

PATH = "/openapi.json"
_JSON = "application/json"
_ERRORS = {
    "400": "The request isn't what the protocol or the model's signature asks for.",
    "401": "A bearer token is asked for, and the request has none that is known.",
    "404": "There is nothing at the path.",
    "405": "The path is known, but not with this method.",
    "408": "The request didn't arrive in time.",
    "413": "The body is longer than the limit.",
    "415": "The body is of another type or encoding than the path takes.",
    "417": "The request expects something else than 100-continue.",
    "422": "The request is over a limit, or the model has no finite answer to it.",
    "431": "The request's line and headers are longer than the limit.",
    "500": "The server failed; its log names the request id.",
    "501": "The body comes in a transfer coding that the server doesn't know.",
    "502": "The model server behind this one answered something else than its protocol.",
    "503": "Too much work at once, or the pod is about to stop; trying again helps.",
    "504": "The model took longer than the limit.",
}
_GET_ERRORS = [status for status in _ERRORS if status not in ("422", "502", "504")]


def build_openapi(signature: Signature, name: str, limits: LimitsConfig, paths: Collection[str]) -> bytes:
    """The document, as JSON, of the server of the model `name` that has `paths`."""
    operations = _build_operations(signature, name)
    described = {path: item for path, item in operations.items() if path in paths}
    errors = {
        f"Error{status}": {
            "description": text,
            "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
            "content": {_JSON: {"schema": reference("Error")}},
        }
        for status, text in _ERRORS.items()
    }
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(signature.number),
            "description": f"{signature.task} of {signature.target!r} by version {signature.number} of {name}.",
        },
        "security": [{}, {"bearer": []}],
        "paths": described,
        "components": {
            "schemas": build_schemas(signature, limits),
            "responses": errors,
            "headers": {"RequestId": {"description": "As sent, or new.", "schema": {"type": "string"}}},
            "parameters": {
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "Names the request in the answer, in captured rows and for feedback.",
                    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
                }
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return orjson.dumps(document)


def _build_operations(signature: Signature, name: str) -> dict[str, dict[str, Any]]:
    """All paths that a server may have."""
    record, label = example_record(signature), example_label(signature)
    features, truth = {"features": [record]}, {"id": "4711", "label": label}
    operations = {
        PATH: _get("This document", _json({"type": "object"})),
        "/metrics": _get("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}),
        ROUTE_REPORT_PATH: _get("What the pod counts while versions change", _json({"type": "object"})),
        "/predict": _post("Predictions for rows or named records", "PredictRequest", "PredictAnswer", features),
        "/evaluate": _post(
            "Metrics on labelled rows", "EvaluateRequest", "EvaluateAnswer", features | {"labels": [label]}
        ),
        "/explain": _post("What each column adds to each answer", "ExplainRequest", "ExplainAnswer", features),
        "/feedback": _post("What turned out, by request id", "FeedbackRequest", "FeedbackAnswer", truth, status="202"),
        "/v1/models": _get("The served models", _json({"type": "object"})),
        "/v2": _get("The server and the extensions that it speaks", _answer("ServerMetadata")),
        "/v2/health/live": _get("Is the process alive?", _answer("Live")),
        "/v2/health/ready": _get("Does the server take requests?", _answer("Ready"), unready="Ready"),
    }
    for version in ("", f"/versions/{signature.number}"):
        operations |= _v1_operations(f"/v1/models/{name}{version}", record)
        operations |= _v2_operations(f"/v2/models/{name}{version}", signature, record)
    for path, item in operations.items():
        for method, operation in item.items():
            operation["operationId"] = _operation_id(method, path)
    return operations


def _v1_operations(prefix: str, record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    instances = {"instances": [record]}
    return {
        prefix: _get("The version's state", _answer("V1Status"), unready="V1Status"),
        f"{prefix}/metadata": _get("The signature in TensorFlow's terms", _json({"type": "object"})),
        f"{prefix}:predict": _post(
            "Predictions, as TensorFlow Serving and KServe v1", "V1PredictRequest", "V1PredictAnswer", instances
        ),
        f"{prefix}:explain": _post(
            "What each column adds to each answer", "V1ExplainRequest", "ExplainAnswer", instances
        ),
    }


def _v2_operations(prefix: str, signature: Signature, record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    inputs = [
        {"name": column.name, "shape": [1, 1], "datatype": DATATYPES[column.dtype], "data": [record[column.name]]}
        for column in signature.inputs
    ]
    infer = _post("Inference with typed tensors", "InferRequest", "InferAnswer", {"inputs": inputs})
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    infer["post"]["responses"]["200"]["content"] |= binary
    infer["post"]["description"] = (
        "With the header Inference-Header-Content-Length, the body is so many bytes of JSON and then binary tensors."
    )
    return {
        prefix: _get("The model's inputs and outputs", _answer("ModelMetadata")),
        f"{prefix}/ready": _get("Does the model take requests?", _answer("Ready"), unready="Ready"),
        f"{prefix}/infer": infer,
    }


def _get(summary: str, content: dict[str, Any], *, unready: str | None = None) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Good.", "content": content}, **_errors(_GET_ERRORS)}
    if unready is not None:
        schema = {"anyOf": [reference(unready), reference("Error")]}
        responses["503"] = {"description": _ERRORS["503"], "content": _json(schema)}
    return {"get": {"summary": summary, "parameters": _parameters(), "responses": responses}}


def _post(summary: str, request: str, answer: str, example: Any, *, status: str = "200") -> dict[str, Any]:
    content = {_JSON: {"schema": reference(request), "example": example}}
    responses = {status: {"description": "Good.", "content": _answer(answer)}, **_errors(list(_ERRORS))}
    return {
        "post": {
            "summary": summary,
            "parameters": _parameters(),
            "requestBody": {"required": True, "content": content},
            "responses": responses,
        }
    }


def _errors(statuses: list[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def _parameters() -> list[dict[str, str]]:
    return [{"$ref": "#/components/parameters/RequestId"}]


def _answer(schema: str) -> dict[str, Any]:
    return _json(reference(schema))


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {_JSON: {"schema": schema}}


def _operation_id(method: str, path: str) -> str:
    """Letters, digits and underscores: some generators of clients make a function's name of it."""
    return f"{method}_{''.join(character if character.isalnum() else '_' for character in path.strip('/'))}"
