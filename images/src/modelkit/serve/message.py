"""HTTP between bytes and the server's own types: heads, encodings, responses. Pure: no sockets, no clock."""

import re
import zlib
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import orjson

from modelkit.serve.body import check_id
from modelkit.serve.errors import (
    BadFramingError,
    BodyTimeoutError,
    BodyTooLargeError,
    HeadTimeoutError,
    HeadTooLargeError,
    InferenceTimeoutError,
    MalformedRequestError,
    OverloadedError,
    RequestError,
    RuntimeAnswerError,
    RuntimeRefusalError,
    RuntimeUnavailableError,
    UnauthorizedError,
    UnknownCodingError,
    UnknownExpectationError,
    UnknownPathError,
    UnprocessableRequestError,
    UnsupportedMediaTypeError,
    WrongMethodError,
)
from modelkit.serve.head import HOP, Head
from modelkit.serve.question import JSON
from modelkit.serve.routes import Response
from modelkit.serve.trace import parse_trace

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS: dict[type[RequestError], int] = {
    UnauthorizedError: 401,
    UnknownPathError: 404,
    WrongMethodError: 405,
    BodyTimeoutError: 408,
    HeadTimeoutError: 408,
    BodyTooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    UnknownExpectationError: 417,
    UnprocessableRequestError: 422,
    HeadTooLargeError: 431,
    UnknownCodingError: 501,
    RuntimeAnswerError: 502,
    OverloadedError: 503,
    RuntimeUnavailableError: 503,
    InferenceTimeoutError: 504,
}
"""Any other RequestError is 400."""
_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_BODILESS = frozenset({204, 304})
_ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"x-request-id",
        b"authorization",
        b"expect",
        b"inference-header-content-length",
        HOP,
    }
)
"""Headers that the server reads: two of them would be two opinions."""
_SEVERAL = frozenset({b"traceparent", b"tracestate", b"transfer-encoding"})
_HOST = re.compile(rb"[\w.~!$&'()*+,;=:\[\]%-]*", re.ASCII)
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]{1,18}")
_GZIP = frozenset({b"gzip", b"x-gzip"})
_PLAIN = frozenset({b"", b"identity"})
_OCTETS = b"application/octet-stream"
_VERSIONS = frozenset({"1.1", "1.0"})


def parse_head(
    method: bytes, target: bytes, version: str, raw: list[tuple[bytes, bytes]], *, keeps_alive: bool
) -> Head:
    """The head of a request that a strict parser let through; raises RequestError for what it lets through wrongly.

    `raw` are the headers in order. Raises BadFramingError (RFC 9112), MalformedRequestError for an X-Request-Id or an
    Inference-Header-Content-Length that can't be used, UnknownExpectationError.
    """
    headers = [(name.lower(), value.strip(b" \t")) for name, value in raw]
    found: dict[bytes, bytes] = {}
    several: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in found:
                raise BadFramingError(f"the header {name.decode()} must not be there twice")
            found[name] = value
        elif name in _SEVERAL:
            several.setdefault(name, []).append(value)
    if method == b"CONNECT":
        raise BadFramingError("the server is no proxy")
    _check_line(target, version, found.get(b"host"))
    get = found.get
    length, expect, json_length = get(b"content-length"), get(b"expect"), get(b"inference-header-content-length")
    if expect is not None and expect.lower() != b"100-continue":
        raise UnknownExpectationError("the only Expect that is known is 100-continue")
    if json_length is not None and not _DIGITS.fullmatch(json_length):
        raise MalformedRequestError("the header Inference-Header-Content-Length must be a number of bytes")
    request_id = get(b"x-request-id")
    parents = several.get(b"traceparent")
    return Head(
        method=method,
        path=_parse_path(target),
        target=target,
        headers=headers,
        request_id=None if request_id is None else check_id(request_id.decode("latin-1"), "the header X-Request-Id"),
        content_type=get(b"content-type", b""),
        content_encoding=get(b"content-encoding", b"").lower(),
        content_length=None if length is None else int(length),
        is_chunked=_is_chunked(several.get(b"transfer-encoding"), version),
        is_last=not keeps_alive or version == "1.0",
        is_old=version == "1.0",
        is_waiting=expect is not None and version == "1.1",
        json_length=None if json_length is None else int(json_length),
        authorization=get(b"authorization"),
        trace=None if parents is None else parse_trace(parents, several.get(b"tracestate", ())),
        is_passed_on=HOP in found,
    )


def origin_form(target: bytes) -> bytes:
    """A request's target without the scheme and host that it may begin with (RFC 9112, section 3.2.2)."""
    if target[:1] == b"/" or (absolute := _ABSOLUTE.match(target)) is None:
        return target
    return target[absolute.end() :] or b"/"


def check_media(head: Head) -> None:
    """Raise UnsupportedMediaTypeError unless the body is said to be JSON, plain or in gzip, or nothing is said.

    A body with an Inference-Header-Content-Length may call itself application/octet-stream.
    """
    if head.content_encoding not in _PLAIN and head.content_encoding not in _GZIP:
        raise UnsupportedMediaTypeError("the body must be plain or in gzip (Content-Encoding)")
    kind = head.content_type
    if kind in (b"", JSON):
        return
    kind = kind.partition(b";")[0].strip().lower()
    if kind in (b"", JSON) or (kind.startswith(b"application/") and kind.endswith(b"+json")):
        return
    if kind == _OCTETS and head.json_length is not None:
        return
    raise UnsupportedMediaTypeError("the body must be JSON: send Content-Type: application/json")


def is_compressed(head: Head) -> bool:
    """Is the body in gzip?"""
    return head.content_encoding in _GZIP


def inflate(body: bytes, limit: int) -> bytes:
    """The content of a gzip body; raises BodyTooLargeError beyond `limit` bytes, MalformedRequestError if it's broken.

    Several members are one content (RFC 1952, section 2.2). Never more than the limit is decompressed.
    """
    parts: list[bytes] = []
    left, rest = limit + 1, body
    while rest:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(member.decompress(rest, left))
        except zlib.error:
            raise MalformedRequestError("the body isn't gzip, though its Content-Encoding says so") from None
        left -= len(parts[-1])
        if left <= 0:
            raise BodyTooLargeError(f"the body has more than the limit of {limit} bytes when it is decompressed")
        if not member.eof:
            raise MalformedRequestError("the gzip body ends too early")
        rest = member.unused_data
    return b"".join(parts)


def error_response(error: RequestError) -> Response:
    """The status, the headers and the body `{"error": "…"}` that tell of `error`."""
    status = error.status if isinstance(error, RuntimeRefusalError) else _STATUS.get(type(error), 400)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, WrongMethodError):
        headers = ((b"allow", error.allowed.encode()),)
    elif status == 503:
        headers = ((b"retry-after", b"1"),)
    elif isinstance(error, UnauthorizedError):
        headers = ((b"www-authenticate", b"Bearer"),)
    return Response(status, orjson.dumps({"error": str(error)}), headers=headers)


def render_response(response: Response, request_id: str, head: Head | None, *, is_last: bool) -> bytes:
    """The bytes of a response. `is_last`: the connection is closed after it. `head`: None when there was none."""
    status, body = response.status, response.body
    parts = [
        _LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
        b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        % (response.content_type, len(body), request_id.encode("ascii")),
    ]
    if response.stream is not None:
        coding = b"" if head is None or head.is_old else b"transfer-encoding: chunked\r\n"
        parts[1] = b"content-type: %b\r\n%bx-request-id: %b\r\n" % (
            response.content_type,
            coding,
            request_id.encode("ascii"),
        )
    elif status in _BODILESS:
        parts[1] = b"x-request-id: %b\r\n" % request_id.encode("ascii")
        body = b""
    for name, value in response.headers:
        parts.append(b"%b: %b\r\n" % (name, value))
    if head is not None and head.trace is not None:
        for name, value in head.trace.headers():
            parts.append(b"%b: %b\r\n" % (name, value))
    if is_last:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if head is None or head.method != b"HEAD":
        parts.append(body)
    return b"".join(parts)


def _check_line(target: bytes, version: str, host: bytes | None) -> None:
    if version not in _VERSIONS:
        raise BadFramingError("the server speaks HTTP/1.1 and HTTP/1.0")
    if host is None and version == "1.1":
        raise BadFramingError("a request must have a Host header")
    if host is not None and not _HOST.fullmatch(host):
        raise BadFramingError("the Host header must be a host's name and, if need be, a port")
    if b"#" in target:
        raise BadFramingError("a request's target has no fragment")


def _is_chunked(codings: list[bytes] | None, version: str) -> bool:
    if codings is None:
        return False
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise UnknownCodingError("the only Transfer-Encoding that is known is chunked")
    if version != "1.1":
        raise BadFramingError("HTTP/1.0 has no Transfer-Encoding")
    return True


def _parse_path(target: bytes) -> str:
    """The path that is asked for; empty for a target that has none, such as `*`."""
    target = origin_form(target)
    if target[:1] != b"/":
        return ""
    path = target.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace")
