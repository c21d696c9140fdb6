"""The true labels that clients report to /feedback.

::

    {"id": "…", "label": 1, "time": "2026-03-01T12:00:00Z"}     or a list of such objects

`label` is one value for the request's first row, or a list with one value per row, null for a row without a label.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.codec import ContractError, format_time, parse_time
from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import show
from modelkit.serve.body import check_id, check_rows, parse_json
from modelkit.serve.errors import MalformedRequestError

_KEYS = frozenset({"id", "label", "time"})
_EXPECTED = 'expected {"id", "label"}, optionally "time", or a list of such objects'
_EXACT = 2**53
"""Whole numbers up to this are exact in JSON, and can be written to the store as they came."""


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one row."""

    id: str
    row: int
    value: Any
    time: datetime


@dataclass(frozen=True, slots=True)
class Feedback:
    """The labels of one /feedback request, ready to be written (see capture.Pending)."""

    labels: tuple[Label, ...]
    time: datetime
    """When they were received; also which hour's segment they go to."""

    @property
    def rows(self) -> int:
        """Lines that it becomes."""
        return len(self.labels)

    def lines(self) -> Iterator[bytes]:
        """JSON lines of the stream `feedback`, see modelkit.store.segments."""
        received = format_time(self.time)
        for label in self.labels:
            record = {
                "id": label.id,
                "row": label.row,
                "label": label.value,
                "time": format_time(label.time),
                "received": received,
            }
            yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def parse_feedback(signature: Signature, body: bytes, limits: LimitsConfig, now: datetime) -> Feedback:
    """The labels of a /feedback body received at `now`; raises RequestError."""
    plain = parse_json(body, limits)
    items = plain if isinstance(plain, list) else [plain]
    check_rows(len(items), limits.max_rows)
    labels = [label for index, item in enumerate(items) for label in _parse_item(signature, item, index, now)]
    check_rows(len(labels), limits.max_rows)
    return Feedback(tuple(labels), now)


def _parse_item(signature: Signature, item: Any, index: int, now: datetime) -> list[Label]:
    if not isinstance(item, dict) or "id" not in item or "label" not in item:
        raise MalformedRequestError(f"item {index}: {_EXPECTED}")
    for key in item:
        if key not in _KEYS:
            raise MalformedRequestError(f"item {index}: unknown field {show(key)}; {_EXPECTED}")
    request_id = check_id(item["id"], f"item {index}: the field 'id'")
    time = now if item.get("time") is None else _parse_label_time(item["time"], index)
    found, where = item["label"], f"item {index}: the field 'label'"
    if isinstance(found, list):
        return [
            Label(request_id, row, check_label(signature, value, where), time)
            for row, value in enumerate(found)
            if value is not None
        ]
    return [Label(request_id, 0, check_label(signature, found, where), time)]


def _parse_label_time(found: Any, index: int) -> datetime:
    try:
        if isinstance(found, str):
            return parse_time(found).astimezone(UTC)
    except (ContractError, OverflowError):
        pass
    raise MalformedRequestError(f"item {index}: the field 'time' must be an RFC 3339 time such as 2026-03-01T12:00:00Z")


def check_label(signature: Signature, value: Any, where: str) -> Any:
    """The label in the type of the model's classes (or a number, for a regression); raises MalformedRequestError.

    A class that the model doesn't know is accepted: the truth may have changed since it was trained. `where` is what
    the error says is wrong.
    """
    kinds = {type(label) for label in signature.classes} if signature.classes else {float}
    if kinds == {str} and isinstance(value, str):
        return value
    if kinds == {bool} and isinstance(value, bool):
        return value
    if kinds <= {int, float} and isinstance(value, int | float) and not isinstance(value, bool):
        if kinds == {int} and abs(value) <= _EXACT and value == int(value):
            return int(value)
        if kinds != {int} and abs(value) <= sys.float_info.max:
            return float(value)
    expected = "text" if kinds == {str} else "true or false" if kinds == {bool} else "a number"
    if kinds == {int}:
        expected = "a whole number of at most 2**53 in size"
    raise MalformedRequestError(f"{where} must be {expected}, as the model's own answers are")
