"""The parts that all request bodies share: strict JSON, request ids, row limits."""

import os
import re
from typing import Any

import orjson

from modelkit.serve.batch import show
from modelkit.serve.errors import MalformedRequestError, UnprocessableRequestError

MAX_ID = 128
_ID = re.compile(r"[!-~]{1,128}")


def parse_json(body: bytes) -> Any:
    """The body as Python values; raises MalformedRequestError with the place, never the text, that isn't JSON."""
    if not body:
        raise MalformedRequestError("the body is empty; expected JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        if exc.msg.startswith("depth limit"):
            raise UnprocessableRequestError("the body is nested too deeply") from None
        # `from None`: the original error holds the whole document.
        raise MalformedRequestError(
            f"the body isn't JSON at line {exc.lineno} column {exc.colno}; NaN and Infinity aren't JSON: "
            "send null for a missing number"
        ) from None


def parse_object(body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """The body as a JSON object with no other keys than `known`."""
    plain = parse_json(body)
    if not isinstance(plain, dict):
        raise MalformedRequestError(f"the body must be a JSON object with {', '.join(map(show, sorted(known)))}")
    for key in plain:
        if key not in known:
            raise MalformedRequestError(f"unknown field {show(key)}; expected {', '.join(map(show, sorted(known)))}")
    return plain


def check_id(found: Any, where: str) -> str:
    """`found` when it is a usable request id: it is repeated in headers and names rows in the store."""
    if isinstance(found, str) and _ID.fullmatch(found):
        return found
    raise MalformedRequestError(f"{where} must be 1 to {MAX_ID} visible ASCII characters without spaces")


def new_id() -> str:
    """A request id for a client that sent none."""
    return os.urandom(16).hex()


def check_rows(rows: int, limit: int) -> None:
    """Raise for no rows, or more than the limit."""
    if rows == 0:
        raise MalformedRequestError("expected at least one row; found none")
    if rows > limit:
        raise UnprocessableRequestError(f"{rows} rows in one request; the limit is {limit}: send several requests")
