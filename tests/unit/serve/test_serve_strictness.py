"""What a client's JSON may hold: depth, texts, keys and numbers, whatever the protocol."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from modelkit.serve.body import parse_document, parse_json
from modelkit.serve.errors import MalformedRequestError, RequestError, UnprocessableRequestError

LIMITS = LimitsConfig(max_depth=4, max_text_bytes=16)
# Keys and texts that look like JSON, so that counting in the text is wrong and a closer look is needed.
TRICKY = st.text(alphabet='a1":{}[],\\ \u00e9', max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e300, 1e300) | TRICKY
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3), max_leaves=12
)


def depth(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts(item))]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


@settings(max_examples=200, deadline=None)
@given(value=VALUES, indent=st.none() | st.just(1), ascii=st.booleans(), limit=st.integers(0, 5))
def test_a_text_is_refused_exactly_when_it_is_over_a_limit(
    value: Any, indent: int | None, ascii: bool, limit: int
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii).encode()
    is_long = len(body) > 5 and any(len(text.encode()) > 5 for text in texts(value))
    try:
        found = parse_json(body, LimitsConfig(max_depth=limit, max_text_bytes=5))
    except UnprocessableRequestError:
        assert depth(value) > limit or is_long
    else:
        assert depth(value) <= limit
        assert not is_long
        assert found == value


def with_repeated_key(value: Any, path: list[int]) -> tuple[str, bool]:
    """`value` as JSON with one key written twice in the first object on the path, and whether there was one."""
    if isinstance(value, dict) and value:
        key, item = next(iter(value.items()))
        pairs = [f"{json.dumps(name)}:{json.dumps(inner)}" for name, inner in value.items()]
        return "{" + ",".join([*pairs, f"{json.dumps(key)} : {json.dumps(item)}"]) + "}", True
    if isinstance(value, list) and value:
        at = path[0] % len(value)
        inner, is_done = with_repeated_key(value[at], path[1:] or [0])
        return "[" + ",".join(inner if i == at else json.dumps(item) for i, item in enumerate(value)) + "]", is_done
    return json.dumps(value), False


@settings(max_examples=200, deadline=None)
@given(value=VALUES, path=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_key_that_comes_twice_is_always_found(value: Any, path: list[int]) -> None:
    text, is_repeated = with_repeated_key(value, path)
    if not is_repeated:
        assert parse_json(text.encode()) == value
        return
    with pytest.raises(MalformedRequestError, match="comes twice in one object"):
        parse_json(text.encode())


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()[:-1]))
def test_any_bytes_are_json_or_a_request_error(body: bytes) -> None:
    try:
        parse_document(body, LIMITS)
    except RequestError:
        pass
    else:
        json.loads(body)


REFUSED = {
    b"": "the body is empty",
    b" ": "isn't JSON at line 1",
    b"\xef\xbb\xbf[1]": "byte order mark",
    b"\xff\xfe[\x001\x00]\x00": "isn't JSON at line 1",
    b'["\xff"]': "isn't JSON",
    b'["\xed\xa0\x80"]': "isn't JSON",
    b'["\\ud800"]': "isn't JSON",
    b"[NaN]": "send null for a missing number",
    b"[-Infinity]": "send null for a missing number",
    b"[1e999]": "the number is too large",
    b"[" + b"9" * 400 + b"]": "the number is too large",
    b"[01]": "isn't JSON",
    b"[1.]": "isn't JSON",
    b"[1,]": "isn't JSON",
    b"[1] 2": "isn't JSON at line 1 column 5",
    b"[1]\x00": "isn't JSON",
    b"{'a': 1}": "isn't JSON",
    b'{"a": 1, "a": 1}': "the field 'a' comes twice",
    b'{"a": 1, "\\u0061": 1}': "the field 'a' comes twice",
    b'[{"x": {"b": ":", "b":2}}]': "the field 'b' comes twice",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_is_no_json_is_refused_with_its_place(body: bytes) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        parse_json(body)
    assert REFUSED[body] in str(caught.value)


@pytest.mark.parametrize(
    "number", ["-0", "-0.0", "1e-400", "9223372036854775808", "18446744073709551615", "1" + "0" * 300]
)
def test_any_finite_number_is_read(number: str) -> None:
    (found,) = parse_json(f"[{number}]".encode())
    assert float(found) == float(number)


def test_nesting_is_refused_at_every_depth_without_a_crash() -> None:
    for levels in (65, 1000, 1024, 1025, 100_000):
        for body in (b"[" * levels + b"]" * levels, b'{"a":' * levels + b"1" + b"}" * levels):
            with pytest.raises(UnprocessableRequestError, match="nested too deeply; the limit is 64 levels"):
                parse_json(body)
    assert parse_json(b"[" * 64 + b"]" * 64)
    repeated = b'{"a":1,"a":' * 900 + b"1" + b"}" * 900
    with pytest.raises(RequestError):
        parse_json(repeated, LimitsConfig(max_depth=2000))


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(parse_json(b"[" + b"[1]," * 9999 + b"[1]]")) == 10_000


def test_a_document_knows_when_it_surely_has_no_booleans() -> None:
    assert not parse_document(b'{"features": [[1.5, -2e3, null]]}').has_booleans
    for body in (b"[true]", b'{"features": [[1, false]]}'):
        assert parse_document(body).has_booleans
