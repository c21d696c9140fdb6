"""JSON Schemas of what one model takes and gives, for the OpenAPI document.

As exact as the signature: columns by name with their types, classes as an enumeration, rows up to the limit. Pure.
"""

from typing import Any

from modelkit.artifact.signature import InputColumn, Signature
from modelkit.contract.config import LimitsConfig
from modelkit.evaluate.metrics import metric_names
from modelkit.serve.body import MAX_ID
from modelkit.serve.v1 import SIGNATURE_NAME
from modelkit.serve.v2_tensors import DATATYPES, DTYPES

Schema = dict[str, Any]

_EXACT = 2**53 - 1
_FLOAT32_MAX = 3.4028235677973362e38
"""The largest number that isn't rounded to infinity as float32."""
_EXAMPLES: dict[str, Any] = {
    "float64": 1.5,
    "int64": 1,
    "bool": True,
    "string": "text",
    "datetime": "2026-03-01T12:00:00Z",
}
ID: Schema = {"type": "string", "pattern": f"^[!-~]{{1,{MAX_ID}}}$", "description": "The request's id, as sent or new."}


def reference(name: str) -> Schema:
    """A schema of `build_schemas` by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def build_schemas(signature: Signature, limits: LimitsConfig) -> dict[str, Schema]:
    """All schemas by name."""
    prediction = _prediction(signature)
    probabilities: Schema = {}
    if signature.classes is not None:
        probability = {"type": "number", "minimum": 0, "maximum": 1}
        width = len(signature.classes)
        row = {"type": "array", "items": probability, "minItems": width, "maxItems": width}
        probabilities = {"probabilities": _list(row), "classes": {"const": list(signature.classes)}}
    return {
        "Error": _object({"error": {"type": "string"}}),
        "Row": _row(signature, limits),
        "Record": _record(signature, limits),
        "Rows": _rows(limits),
        "Features": {"anyOf": [reference("Rows"), reference("Row"), reference("Record")]},
        "Prediction": prediction,
        "Label": _label(signature),
        "PredictRequest": _object({"features": reference("Features")}),
        "PredictAnswer": _object(
            _head() | {"predictions": _list(reference("Prediction"))} | probabilities,
            required=["id", "model", "version", "predictions"],
        ),
        **_quality(signature, limits),
        **_explanations(signature),
        **_feedback(limits),
        **_v1(signature, limits),
        **_v2(signature),
    }


def example_record(signature: Signature) -> dict[str, Any]:
    """A row by column name that the model takes."""
    return {column.name: _EXAMPLES[column.dtype] for column in signature.inputs}


def example_label(signature: Signature) -> Any:
    """A label that the model may give."""
    return signature.classes[0] if signature.classes else 1.5


def _object(properties: Schema, *, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _list(items: Schema, maximum: int | None = None) -> Schema:
    schema: Schema = {"type": "array", "items": items, "minItems": 1}
    return schema if maximum is None else schema | {"maxItems": maximum}


def _head() -> Schema:
    return {"id": ID, "model": {"type": "string"}, "version": {"type": "string"}}


def _value(column: InputColumn, signature: Signature, limits: LimitsConfig) -> Schema:
    """What a client may send in a column."""
    kinds: dict[str, list[Schema]] = {
        "int64": [{"type": "integer", "minimum": -_EXACT, "maximum": _EXACT}],
        "bool": [{"type": "boolean"}, {"enum": [0, 1]}],
        "string": [{"type": "string", "maxLength": limits.max_text_bytes}],
        "datetime": [{"type": "string", "format": "date-time"}, _number(signature)],
        "float64": [_number(signature)],
    }
    schemas = [*kinds[column.dtype], *([{"type": "null"}] if column.nullable else [])]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _number(signature: Signature) -> Schema:
    if signature.onnx is None or signature.onnx.dtype == "float64":
        return {"type": "number"}
    return {"type": "number", "minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX}


def _row(signature: Signature, limits: LimitsConfig) -> Schema:
    width = len(signature.inputs)
    values = [_value(column, signature, limits) | {"title": column.name} for column in signature.inputs]
    return {
        "type": "array",
        "prefixItems": values,
        "items": False,
        "minItems": width,
        "maxItems": width,
        "description": "Values in the order of the columns.",
    }


def _record(signature: Signature, limits: LimitsConfig) -> Schema:
    values = {column.name: _value(column, signature, limits) for column in signature.inputs}
    return _object(values) | {"description": "Values by column name, in any order."}


def _rows(limits: LimitsConfig) -> Schema:
    return {"anyOf": [_list(reference(name), limits.max_rows) for name in ("Row", "Record")]}


def _prediction(signature: Signature) -> Schema:
    return {"type": "number"} if signature.classes is None else {"enum": list(signature.classes)}


def _label(signature: Signature) -> Schema:
    """A truth: of the predictions' type, but it may be a class that the model doesn't know."""
    kinds = {type(label) for label in signature.classes or (0.0,)}
    if kinds == {str}:
        return {"type": "string"}
    if kinds == {bool}:
        return {"type": "boolean"}
    return {"type": "integer", "minimum": -(2**53), "maximum": 2**53} if kinds == {int} else {"type": "number"}


def _quality(signature: Signature, limits: LimitsConfig) -> dict[str, Schema]:
    metrics = {name: {"type": ["number", "null"]} for name in metric_names(signature.task)}
    return {
        "EvaluateRequest": _object(
            {"features": reference("Features"), "labels": _list(reference("Label"), limits.max_rows)}
        ),
        "EvaluateAnswer": _object(
            _head() | {"rows": {"type": "integer", "minimum": 1}, "metrics": _object(metrics, required=[])}
        ),
    }


def _explanations(signature: Signature) -> dict[str, Schema]:
    contributions = {column.name: {"type": "number"} for column in signature.inputs}
    explanation = {
        "prediction": reference("Prediction"),
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "base": {"type": "number", "description": "The mean answer to the version's samples."},
        "contributions": _object(contributions) | {"description": "With `base`, they add up to the answer."},
    }
    more = {
        "method": {"type": "string"},
        "explains": {"type": "string"},
        "explanations": _list(_object(explanation, required=["prediction", "base", "contributions"])),
    }
    return {
        "ExplainRequest": _object({"features": reference("Features")}),
        "V1ExplainRequest": _object({"instances": reference("Features")}),
        "ExplainAnswer": _object(_head() | more),
    }


def _feedback(limits: LimitsConfig) -> dict[str, Schema]:
    label = reference("Label")
    per_row = {"type": "array", "items": {"anyOf": [label, {"type": "null"}]}, "maxItems": limits.max_rows}
    item = _object(
        {"id": ID, "label": {"anyOf": [label, per_row]}, "time": {"type": ["string", "null"], "format": "date-time"}},
        required=["id", "label"],
    )
    return {
        "Feedback": item,
        "FeedbackRequest": {"anyOf": [reference("Feedback"), _list(reference("Feedback"), limits.max_rows)]},
        "FeedbackAnswer": _object({"accepted": {"type": "integer", "minimum": 1}}),
    }


def _v1(signature: Signature, limits: LimitsConfig) -> dict[str, Schema]:
    name = {"signature_name": {"enum": ["", SIGNATURE_NAME, None]}}
    columns = {column.name: _list(_value(column, signature, limits), limits.max_rows) for column in signature.inputs}
    answers = _list(reference("Prediction"))
    return {
        "V1PredictRequest": {
            "anyOf": [
                _object({"instances": reference("Rows")} | name, required=["instances"]),
                _object({"inputs": {"anyOf": [reference("Rows"), _object(columns)]}} | name, required=["inputs"]),
            ]
        },
        "V1Status": _object(
            {
                "model_version_status": _list({"type": "object", "required": ["version", "state", "status"]}),
                "name": {"type": "string"},
                "ready": {"type": "boolean"},
            }
        ),
        "V1PredictAnswer": {"anyOf": [_object({"predictions": answers}), _object({"outputs": answers})]},
    }


def _v2(signature: Signature) -> dict[str, Schema]:
    size = {"type": "integer", "minimum": 0}
    parameters = {"type": ["object", "null"]}
    tensor = {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": size, "minItems": 1, "maxItems": 2},
        "datatype": {"enum": list(DTYPES)},
        "parameters": parameters,
        "data": {"type": "array", "description": "Flat (row-major) or nested; left out where the data is binary."},
    }
    names = [output.name for output in signature.outputs]
    wanted = _object({"name": {"enum": names}, "parameters": parameters}, required=["name"])
    request = {
        "id": {"anyOf": [ID, {"enum": ["", None]}]},
        "parameters": parameters,
        "inputs": _list(_object(tensor, required=["name", "shape", "datatype"]) | {"additionalProperties": True}),
        "outputs": {"type": ["array", "null"], "items": wanted | {"additionalProperties": True}},
    }
    answer = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": ID,
        "outputs": _list(_object(tensor | {"name": {"enum": names}}, required=["name", "shape", "datatype"])),
    }
    described = {"name": {"type": "string"}, "datatype": {"enum": sorted(set(DATATYPES.values()))}}
    described |= {"shape": {"type": "array", "items": {"type": "integer"}}}
    texts: Schema = {"type": "array", "items": {"type": "string"}}
    metadata = {"name": {"type": "string"}, "versions": texts, "platform": {"type": "string"}}
    return {
        "InferRequest": _object(request, required=["inputs"]) | {"additionalProperties": True},
        "InferAnswer": _object(answer),
        "ServerMetadata": _object({"name": {"type": "string"}, "version": {"type": "string"}, "extensions": texts}),
        "ModelMetadata": _object(
            metadata | {"inputs": _list(_object(described)), "outputs": _list(_object(described))}
        ),
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}, "name": {"type": "string"}}, required=["ready"]),
    }
