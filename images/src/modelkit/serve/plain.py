"""The plain protocol of /predict: rows or named records in, predictions out.

::

    {"features": [[1.0, 2.0], …]}   {"features": [{"a": 1.0, "b": 2.0}, …]}   or a single row or record
    {"id", "model", "version", "predictions": […], "probabilities": [[…]], "classes": […]}
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import Batch, Features, build_batch, missing_columns, unknown_column
from modelkit.serve.body import DEFAULT_LIMITS, check_object, check_rows, parse_document
from modelkit.serve.errors import MalformedRequestError
from modelkit.serve.model import Answer

_KEYS = frozenset({"features"})
_EXPECTED = 'expected {"features": rows}, where rows is a list of lists, a list of objects, or one of them'


def parse_predict(features: Features, body: bytes, limits: LimitsConfig = DEFAULT_LIMITS) -> Batch:
    """The rows of a /predict body; raises RequestError."""
    document = parse_document(body, limits)
    found = check_object(document.plain, _KEYS).get("features")
    return parse_features(features, found, limits.max_rows, has_booleans=document.has_booleans)


def parse_features(features: Features, found: Any, max_rows: int, *, has_booleans: bool = True) -> Batch:
    """The rows of a body's field `features`: rows, named records, or one of them; raises RequestError.

    `has_booleans`: see `build_batch`.
    """
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise MalformedRequestError(_EXPECTED)
    if found and not isinstance(found[0], list | dict):
        found = [found]
    check_rows(len(found), max_rows)
    return parse_rows(features, found, has_booleans=has_booleans)


def parse_rows(features: Features, rows: Sequence[Any], *, has_booleans: bool = True) -> Batch:
    """At least one row, all lists in the signature's order or all objects by column name, as a batch."""
    kinds = set(map(type, rows))
    if kinds == {list}:
        return build_batch(features, rows, has_booleans=has_booleans)
    if kinds == {dict}:
        return build_batch(features, _ordered(features, rows), has_booleans=has_booleans)
    raise MalformedRequestError(_EXPECTED)


def render_predict(signature: Signature, name: str, answer: Answer, request_id: str) -> bytes:
    """The JSON answer; `probabilities` and `classes` only where the model has them."""
    plain: dict[str, Any] = {
        "id": request_id,
        "model": name,
        "version": str(signature.number),
        "predictions": answer.predictions,
    }
    if answer.probabilities is not None:
        plain["probabilities"] = answer.probabilities
    if signature.classes is not None:
        plain["classes"] = signature.classes
    return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _ordered(features: Features, records: Sequence[Mapping[str, Any]]) -> list[Sequence[Any]]:
    """Values of named records in the signature's order; raises for missing and unknown columns."""
    width = len(features.names)
    pick = itemgetter(*features.names) if width > 1 else lambda record: (record[features.names[0]],)
    try:
        rows = list(map(pick, records))
    except KeyError:
        rows = []
    if not rows or set(map(len, records)) != {width}:
        raise _wrong_columns(features, records)
    return rows


def _wrong_columns(features: Features, records: Sequence[Mapping[str, Any]]) -> MalformedRequestError:
    for index, record in enumerate(records):
        error = missing_columns(features, record.__contains__)
        if error is None:
            unknown = [name for name in record if name not in features.positions]
            error = unknown_column(features, unknown[0]) if unknown else None
        if error is not None:
            return MalformedRequestError(f"row {index}: {error}")
    raise AssertionError("every record has exactly the model's columns")
