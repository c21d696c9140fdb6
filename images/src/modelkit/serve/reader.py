"""From bytes to heads and pieces of bodies: the parser, and what it needs to be told or asked twice.

llhttp (httptools) reads HTTP/1.1 strictly; `message.parse_head` refuses the little that it lets through.
"""

from dataclasses import dataclass
from typing import Protocol

import httptools

from modelkit.serve.errors import BadFramingError, HeadTooLargeError, RequestError, UnknownCodingError
from modelkit.serve.head import Head
from modelkit.serve.message import parse_head


class Sink(Protocol):
    """Who wants what is read. What `read_head` and `read_body` raise ends the reading."""

    def begin_head(self) -> None:
        """The first bytes of a request's target are there."""

    def read_head(self, head: Head) -> None:
        """A whole head is there."""

    def read_body(self, data: bytes) -> None:
        """A piece of the body is there."""

    def end_request(self) -> None:
        """The whole request is there."""


@dataclass(slots=True, eq=False)
class _Known:
    """A head as its bytes said it, and what they mean."""

    line: tuple[bytes, bytes, str]
    headers: list[tuple[bytes, bytes]]
    head: Head


class RequestReader:
    """The requests of one connection. `feed` is for its owner; the other methods are httptools' callbacks."""

    def __init__(self, sink: Sink, max_header_bytes: int) -> None:
        self._sink = sink
        self._max_header_bytes = max_header_bytes
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._is_in_head = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._known: _Known | None = None
        self._upgrading: Head | None = None
        """The head whose body the parser doesn't read, because it offers another protocol."""
        self._refusal: RequestError | None = None

    def feed(self, data: bytes) -> RequestError | None:
        """Read on; returns why nothing more can be read, if so."""
        while self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                self._stay()
                if data := data[exc.args[0] :]:
                    continue
            except httptools.HttpParserError:
                return self._refusal or self._describe_broken()
            break
        return None

    def stop(self) -> None:
        """Read nothing more; also lets go of the parser, which holds on to this object."""
        self._parser = None

    def on_url(self, target: bytes) -> None:
        """A piece of the request's target."""
        if self._upgrading is not None:
            return
        if not self._is_in_head:
            self._is_in_head = True
            self._sink.begin_head()
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is ignored."""
        if self._is_in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The whole head is there."""
        parser = self._parser
        if parser is None or self._upgrading is not None:
            return
        line = (parser.get_method(), self._target, parser.get_http_version())
        headers, known = self._headers, self._known
        try:
            if known is not None and known.line == line and known.headers == headers:
                # Most clients send the same head again and again.
                head = known.head
            else:
                self._check_size()
                head = parse_head(*line, headers, keeps_alive=parser.should_keep_alive())
                self._known = _Known(line, headers, head)
            self._target, self._headers, self._is_in_head = b"", [], False
            self._sink.read_head(head)
        except RequestError as exc:
            self._refusal = exc
            raise
        if head.has_body and parser.should_upgrade():
            self._upgrading = head

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        try:
            self._sink.read_body(data)
        except RequestError as exc:
            self._refusal = exc
            raise

    def on_message_complete(self) -> None:
        """The whole request is there."""
        if self._upgrading is None:
            self._sink.end_request()

    def _stay(self) -> None:
        """Go on with a new parser where the old one stopped because the client offers another protocol.

        The server needn't take the offer (RFC 9110, section 7.8). Java's client makes it with every first request. The
        parser has read no body, so that the new one is told about the body by a head of our own.
        """
        if self._parser is None:
            return
        self._parser = parser = httptools.HttpRequestParser(self)
        head = self._upgrading
        if head is not None:
            length = b"Content-Length: %d" % (head.content_length or 0)
            framing = b"Transfer-Encoding: chunked" if head.is_chunked else length
            parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._upgrading = None

    def _check_size(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self._max_header_bytes:
            raise head_too_large(self._max_header_bytes)

    def _describe_broken(self) -> RequestError:
        """What to say to bytes that llhttp doesn't take."""
        codings = [value for name, value in self._headers if name.lower() == b"transfer-encoding"]
        if len(codings) == 1 and b"chunked" not in (part.strip(b" \t").lower() for part in codings[0].split(b",")):
            return UnknownCodingError("the only Transfer-Encoding that is known is chunked")
        return BadFramingError("the bytes aren't an HTTP/1.1 request (RFC 9112)")


def head_too_large(limit: int) -> HeadTooLargeError:
    """An error for a head of more than `limit` bytes."""
    return HeadTooLargeError(f"the head has more than the limit of {limit} bytes")
