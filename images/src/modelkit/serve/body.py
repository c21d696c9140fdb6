"""The parts that all request bodies share: strict JSON, request ids, row limits."""

import os
import re
from collections import deque
from typing import Any

import orjson

from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import show
from modelkit.serve.errors import MalformedRequestError, UnprocessableRequestError
from modelkit.serve.record import record
from modelkit.serve.strictness import check_structure, check_texts, may_have_booleans, read_structure, too_deep

MAX_ID = 128
_ID = re.compile(r"[!-~]{1,128}")
_IDS: deque[str] = deque()
DEFAULT_LIMITS = LimitsConfig()


@record
class Document:
    """A JSON text within the limits."""

    plain: Any
    has_booleans: bool
    """May there be any in it? False is certain."""


def parse_document(body: bytes, limits: LimitsConfig = DEFAULT_LIMITS) -> Document:
    """The body's JSON, strictly by RFC 8259: finite numbers, UTF-8 without a byte order mark, no key twice.

    Raises MalformedRequestError with the place, never the text, of what isn't JSON, and UnprocessableRequestError for
    what is over the limits of nesting and of text.
    """
    if not body:
        raise MalformedRequestError("the body is empty; expected JSON")
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        # `from None`: the original error holds the whole document.
        raise _not_json(exc, limits) from None
    structure = read_structure(body)
    check_structure(body, structure, plain, limits)
    if len(body) > limits.max_text_bytes:
        check_texts(body, plain, limits)
    return Document(plain, may_have_booleans(structure))


def parse_json(body: bytes, limits: LimitsConfig = DEFAULT_LIMITS) -> Any:
    """The body as Python values; raises as `parse_document` does."""
    return parse_document(body, limits).plain


def parse_object(body: bytes, known: frozenset[str], limits: LimitsConfig = DEFAULT_LIMITS) -> dict[str, Any]:
    """The body as a JSON object with no other keys than `known`."""
    return check_object(parse_json(body, limits), known)


def check_object(plain: Any, known: frozenset[str]) -> dict[str, Any]:
    """`plain` when it is an object with no other keys than `known`."""
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
    """A request id that nobody can guess, for a client that sent none. Thread-safe."""
    try:
        return _IDS.pop()
    except IndexError:
        # A hundred at once: asking the kernel takes longer than all the rest of it.
        fresh = os.urandom(100 * 16).hex()
        _IDS.extend(fresh[begin : begin + 32] for begin in range(32, len(fresh), 32))
        return fresh[:32]


def check_rows(rows: int, limit: int) -> None:
    """Raise for no rows, or more than the limit."""
    if rows == 0:
        raise MalformedRequestError("expected at least one row; found none")
    if rows > limit:
        raise UnprocessableRequestError(f"{rows} rows in one request; the limit is {limit}: send several requests")


def _not_json(error: orjson.JSONDecodeError, limits: LimitsConfig) -> MalformedRequestError | UnprocessableRequestError:
    if error.msg.startswith("depth limit"):
        return too_deep(limits)
    if "byte order mark" in error.msg:
        return MalformedRequestError("the body begins with a byte order mark; send UTF-8 without one")
    place = f"the body isn't JSON at line {error.lineno} column {error.colno}"
    if "infinity" in error.msg:
        return MalformedRequestError(f"{place}: the number is too large; numbers are at most 1.8e308")
    return MalformedRequestError(f"{place}; NaN and Infinity aren't JSON: send null for a missing number")
