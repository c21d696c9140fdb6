"""What a JSON parser lets pass and a server must not: deep nesting, keys that come twice, endless texts.

Depth and keys are judged by counting in what is left of the text without its numbers: a walk over the values is only
needed where the counts can't tell. Pure; messages name keys and limits, never a value.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from modelkit.contract.config import LimitsConfig
from modelkit.serve.batch import show
from modelkit.serve.errors import MalformedRequestError, UnprocessableRequestError

_NOISE = bytes(sorted(set(range(256)) - set(b"[]{}:trufals")))
_KEY_END = re.compile(rb'"\s*:')


def read_structure(body: bytes) -> bytes:
    """The text's brackets, braces and colons, and what is left of its words: short for rows of numbers.

    Texts lose letters too, so that brackets and colons may be parts of them.
    """
    return body.translate(None, _NOISE)


def may_have_booleans(structure: bytes) -> bool:
    """False is certain: no letter of true or fals(e) was taken out."""
    return b"tru" in structure or b"fals" in structure


def check_structure(body: bytes, structure: bytes, plain: Any, limits: LimitsConfig) -> None:
    """Raise UnprocessableRequestError for too deep nesting, MalformedRequestError for a key that comes twice.

    A level of nesting has a bracket and a key has a colon, so few brackets aren't deep, and where there are as many
    keys as colons, none was lost.
    """
    braces, colons = structure.count(b"{"), structure.count(b":")
    brackets = braces + structure.count(b"[")
    if brackets <= limits.max_depth and colons == (len(plain) if braces == 1 and type(plain) is dict else 0):
        return
    depth, keys = _measure(plain, brackets)
    if depth > limits.max_depth:
        raise too_deep(limits)
    # Colons and quotes before colons may be parts of texts too, so there are never fewer than keys in the text.
    if keys != colons and keys != len(_KEY_END.findall(body)):
        _refuse_repeated_keys(body, limits)


def check_texts(body: bytes, plain: Any, limits: LimitsConfig) -> None:
    """Raise UnprocessableRequestError for a text (or a key) of more bytes than the limit."""
    if b"\\" in body:
        too_long = any(len(text.encode()) > limits.max_text_bytes for text in _texts(plain))
    else:
        # Without escapes, every other quote begins a text and the next one ends it.
        quotes = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord('"'))
        too_long = bool(np.any(quotes[1::2] - quotes[::2] > limits.max_text_bytes + 1))
    if too_long:
        raise UnprocessableRequestError(
            f"the body has a text value of more than {limits.max_text_bytes} bytes, which is the limit"
        )


def too_deep(limits: LimitsConfig) -> UnprocessableRequestError:
    """An error for a text that is nested too deeply."""
    return UnprocessableRequestError(f"the body is nested too deeply; the limit is {limits.max_depth} levels")


def _measure(plain: Any, brackets: int) -> tuple[int, int]:
    """How deep `plain` is nested and how many keys its objects have. `brackets` that open, in the whole text.

    The walk ends when as many lists and objects were seen as brackets open: rows of numbers are never looked into.
    """
    level = [plain] if type(plain) is list or type(plain) is dict else []
    depth = keys = seen = 0
    while level:
        depth += 1
        seen += len(level)
        for item in level:
            if type(item) is dict:
                keys += len(item)
        if seen == brackets:
            break
        inner: list[Any] = []
        for item in level:
            for value in item.values() if type(item) is dict else item:
                if type(value) is list or type(value) is dict:
                    inner.append(value)
        level = inner
    return depth, keys


def _texts(plain: Any) -> Iterator[str]:
    """All texts and keys."""
    level = [plain]
    while level:
        yield from (value for value in level if type(value) is str)
        yield from (key for value in level if type(value) is dict for key in value)
        level = [inner for value in level if type(value) is list or type(value) is dict for inner in _values(value)]


def _values(item: Any) -> Iterable[Any]:
    return item.values() if type(item) is dict else item


def _refuse_repeated_keys(body: bytes, limits: LimitsConfig) -> None:
    """Look at every pair of every object; numbers aren't made, so that none is too long for Python."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = set()
        for name, _ in pairs:
            if name in names:
                raise MalformedRequestError(f"the field {show(name)} comes twice in one object")
            names.add(name)

    try:
        json.loads(body, object_pairs_hook=check, parse_int=_skip, parse_float=_skip)
    except RecursionError:
        raise too_deep(limits) from None


def _skip(_: str) -> None:
    return None
