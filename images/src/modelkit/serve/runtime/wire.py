"""HTTP/1.1 as spoken to the runtime: requests as bytes, responses out of bytes. No I/O.

llhttp (through httptools) reads the responses; what it refuses, or what no answer to our request can be, is a
RuntimeAnswerError.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from modelkit.errors import RefusedError
from modelkit.serve.errors import RuntimeAnswerError

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 65_536
"""Of all headers of a response."""
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110, section 7.6.1, with what only concerns the connection that it came by."""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `http://127.0.0.1:<port>`; raises RefusedError for anything else."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme != "http" or parts.path.strip("/") or parts.query:
        raise RefusedError("BadConfig", f"the runtime's address must be http://<host>:<port>; found {address!r}")
    return host, port


def build_request(method: bytes, target: bytes, host: bytes, headers: Headers, body: bytes) -> bytes:
    """The bytes of one request; `headers` without Host and Content-Length."""
    lines = [method + b" " + target + b" HTTP/1.1", b"host: " + host]
    lines += [name + b": " + value for name, value in headers]
    if body or method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that a proxy passes on, of requests and answers alike; names in lower case.

    Without those of the connection, those that `Connection` names, and the length, which the one who sends knows.
    """
    named = {
        word.strip().lower() for name, value in headers if name.lower() == b"connection" for word in value.split(b",")
    }
    dropped = _HOP_BY_HOP | named | {b"content-length"}
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


class ResponseReader:
    """Reads the response to one request."""

    def __init__(self, method: bytes = b"POST") -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """In the runtime's order, names in lower case."""
        self.has_head = False
        self.is_complete = False
        self.is_reusable = False
        """May the connection carry another request? Known when the response is complete."""
        self._is_head = method == b"HEAD"
        self._parts: list[bytes] = []
        self._header_bytes = 0
        self._keeps_alive = False
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read on; raises RuntimeAnswerError for what isn't HTTP."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            inner = exc.__context__
            if isinstance(inner, RuntimeAnswerError):
                raise inner from None
            raise RuntimeAnswerError(f"the runtime's answer isn't HTTP/1.1 ({type(exc).__name__})") from None

    def end(self) -> None:
        """The runtime closed the connection; raises RuntimeAnswerError when the response isn't whole by that."""
        if self.is_complete:
            return
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        if not self.has_head or framed:
            raise RuntimeAnswerError("the runtime closed the connection before its answer was complete")
        self.is_complete = True

    def take(self) -> bytes:
        """What has arrived of the body since the last call."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def on_message_begin(self) -> None:
        """Called by the parser, as are the following."""
        if self.is_complete:
            # More than was asked for: nothing on this connection can be trusted to belong to the next request.
            self._keeps_alive = self.is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which nobody reads."""
        if self.has_head:
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise RuntimeAnswerError(f"the headers of the runtime's answer have more than {MAX_HEADER_BYTES} bytes")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Interim answers (1xx) are skipped."""
        if self.is_complete:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers.clear()
            return
        self.status, self.has_head = status, True
        # With HEAD, the length is of the body that there would be.
        self.is_complete = self._is_head
        self._keeps_alive = not self._is_head and self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """A part of the body, free of its chunks' frames."""
        if not self.is_complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """The end of the response, or of an interim one."""
        if self.has_head and not self.is_complete:
            self.is_complete = True
            self.is_reusable = self._keeps_alive
