"""Frozen dataclasses to JSON and back, strictly: an unknown or missing key is an error, never dropped.

Operator and workload images can be of different releases for the length of a rollout; a key that one side doesn't
know must be seen at once. Only the shapes that the contract uses are supported: str, int, float, bool, datetime,
None unions, tuples of one type, mappings with string keys, nested dataclasses and plain JSON (`Any`).
"""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ContractError(ValueError):
    """A message between control plane and data plane that doesn't fit the contract."""


def to_plain(value: Any) -> Any:
    """`value` as plain JSON types; fields that are None are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name))
            for field in fields(value)
            if getattr(value, field.name) is not None
        }
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def dumps(value: Any) -> str:
    """Compact JSON with a stable key order."""
    return json.dumps(to_plain(value), separators=(",", ":"), sort_keys=True, allow_nan=False)


def loads(cls: type[T], text: str | bytes) -> T:
    """Parse JSON text into `cls`; raises ContractError naming the path that doesn't fit."""
    try:
        plain = json.loads(text)
    except ValueError as exc:
        raise ContractError(f"{cls.__name__} must be JSON: {exc}") from exc
    return from_plain(cls, plain)


def from_plain(cls: type[T], plain: Any) -> T:
    """Build `cls` from plain JSON types; raises ContractError naming the path that doesn't fit."""
    result: T = _convert(cls, plain, cls.__name__)
    return result


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with a trailing Z, as Kubernetes writes times; microseconds only when there are any."""
    if moment.tzinfo is None:
        raise ContractError(f"times must be time-zone aware; found {moment!r}")
    return moment.isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; raises ContractError for a time without a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ContractError(f"expected an RFC 3339 time; found {text!r}") from exc
    if moment.tzinfo is None:
        raise ContractError(f"expected a time with a zone such as Z; found {text!r}")
    return moment


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _convert(expected: Any, plain: Any, path: str) -> Any:
    origin = get_origin(expected)
    if expected is Any:
        return plain
    if origin in (Union, types.UnionType):
        return _convert_union(expected, plain, path)
    if origin is tuple:
        if not isinstance(plain, list):
            raise ContractError(f"{path} must be a list; found {type(plain).__name__}")
        item_type = get_args(expected)[0]
        return tuple(_convert(item_type, item, f"{path}[{index}]") for index, item in enumerate(plain))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(plain, dict):
            raise ContractError(f"{path} must be an object; found {type(plain).__name__}")
        value_type = get_args(expected)[1]
        return {key: _convert(value_type, item, f"{path}.{key}") for key, item in plain.items()}
    if is_dataclass(expected):
        return _convert_dataclass(expected, plain, path)
    return _convert_scalar(expected, plain, path)


def _convert_union(expected: Any, plain: Any, path: str) -> Any:
    options = [option for option in get_args(expected) if option is not type(None)]
    if plain is None:
        return None
    if len(options) != 1:
        raise ContractError(f"{path}: the contract supports unions with None only")
    return _convert(options[0], plain, path)


def _convert_dataclass(expected: Any, plain: Any, path: str) -> Any:
    if not isinstance(plain, dict):
        raise ContractError(f"{path} must be an object; found {type(plain).__name__}")
    hints = _hints(expected)
    known = {field.name: field for field in fields(expected)}
    if unknown := sorted(set(plain) - set(known)):
        raise ContractError(f"{path} has the unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in plain:
            raise ContractError(f"{path}.{name} is required")
    return expected(**{name: _convert(hints[name], item, f"{path}.{name}") for name, item in plain.items()})


def _convert_scalar(expected: Any, plain: Any, path: str) -> Any:
    if expected is datetime:
        if not isinstance(plain, str):
            raise ContractError(f"{path} must be a time; found {plain!r}")
        return parse_time(plain)
    if expected is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, expected) or (expected is int and isinstance(plain, bool)):
        raise ContractError(f"{path} must be of type {expected.__name__}; found {type(plain).__name__}")
    return plain
