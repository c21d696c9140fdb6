"""One client's connection: bytes to requests within limits, answers back to bytes in the order of the requests.

llhttp (httptools) reads HTTP/1.1 strictly; `message.parse_head` refuses the little that it lets through. Requests may
be pipelined: a bounded number is answered at a time (so that they can share one call of the model), and nothing more is
read while others wait, or while the client doesn't read its answers.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Protocol, cast

import httptools

from modelkit.serve.body import new_id
from modelkit.serve.errors import (
    BadFramingError,
    BodyTimeoutError,
    BodyTooLargeError,
    HeadTimeoutError,
    HeadTooLargeError,
    OverloadedError,
    RequestError,
    UnknownCodingError,
)
from modelkit.serve.exchange import Exchange
from modelkit.serve.head import Head
from modelkit.serve.hub import KEEP_ALIVE_SECONDS, LINGER_SECONDS, WRITE_SECONDS, Hub
from modelkit.serve.message import CONTINUE, error_response, parse_head, render_response
from modelkit.serve.routes import Response
from modelkit.serve.streaming import Outflow, Stream

MAX_PIPELINED = 32
"""Requests of one connection that are answered at the same time."""
_DISCARD_BYTES = 16 * 1024 * 1024
"""How much of a refused body is read away: a client that is still sending would else never see the answer."""
_CHUNK_OVERHEAD = 8
"""Bytes of a chunked body, with its framing, per byte of content: chunks of one byte have six."""


class Answerer(Protocol):
    """The application."""

    @property
    def is_draining(self) -> bool:
        """Do connections end with their next answer?"""

    def admit(self, exchange: Exchange) -> None:
        """Look at the head before the body is read; raises RequestError for what will never be answered."""

    def answer(self, exchange: Exchange) -> None:
        """Answer the whole request, now or later, by `exchange.respond`."""

    def observe(self, exchange: Exchange, status: int, error: RequestError | None = None) -> None:
        """Count an answered request."""


class _Stage(Enum):
    """What is being read."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2
    NOTHING = 3
    """Nothing more is wanted: the last request is there, or was refused."""


# An enumeration's members are looked up slowly, and a request does so a dozen times.
_BETWEEN, _HEAD, _BODY, _NOTHING = _Stage


class _StopError(Exception):
    """Ends the parser's work from within one of its callbacks; the reason is in `Connection._refusal`."""


@dataclass(slots=True, eq=False)
class _Known:
    """A head as its bytes said it, and what they mean."""

    line: tuple[bytes, bytes, str]
    headers: list[tuple[bytes, bytes]]
    head: Head


class Connection(asyncio.Protocol):
    """See the module. All methods run on the event loop."""

    def __init__(self, app: Answerer, hub: Hub) -> None:
        self.deadline = inf
        self._app = app
        self._hub = hub
        self._limits = hub.limits
        self._transport: asyncio.Transport
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._stage = _BETWEEN
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._known: _Known | None = None
        self._upgrading: Head | None = None
        """The head whose body the parser doesn't read, because it offers another protocol."""
        self._raw = 0
        """Bytes since the head's, or the body's, beginning."""
        self._current: Exchange | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._refusal: RequestError | None = None
        self._waiting: deque[Exchange] = deque()
        """Complete requests that aren't looked at yet."""
        self._order: deque[Exchange] = deque()
        """Requests whose answers are still to be written."""
        self._outflow: Outflow | None = None
        """Writes the answer to the first of them, as it comes."""
        self._must_continue = False
        self._is_held = False
        """Is reading paused?"""
        self._is_stalled = False
        """Does the client not read?"""
        self._is_advancing = False
        self._is_fresh = True
        """Has no whole head come yet?"""
        self._is_refused = False
        """Was the last request answered before it was read to its end?"""
        self._is_ended = False
        """Is the last answer written?"""
        self._is_lost = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        # uvloop has classes of its own.
        self._transport = cast("asyncio.Transport", transport)
        if not self._hub.add(self):
            self._stage = _NOTHING
            error = OverloadedError("too many connections are open; try again")
            self._transport.write(render_response(error_response(error), new_id(), None, is_last=True))
            self._transport.close()
            self._is_lost = True
            return
        self.deadline = self._hub.loop.time() + self._limits.header_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: nobody waits for what was asked."""
        del exc
        self._is_lost = True
        self._hub.remove(self)
        self._parser = None
        if self._outflow is not None:
            self._outflow.cancel()
        for exchange in self._order:
            exchange.abandon()
        self._order.clear()
        self._waiting.clear()
        self._current = None

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._stage is _NOTHING:
            self._discard(len(data))
            return
        if self._stage is _BETWEEN:
            self._stage, self._raw = _HEAD, 0
            self.deadline = self._hub.loop.time() + self._limits.header_seconds
        self._raw += len(data)
        self._feed(data)
        if self._stage is _HEAD and self._raw > self._limits.max_header_bytes:
            self._refuse(
                HeadTooLargeError(f"the head has more than the limit of {self._limits.max_header_bytes} bytes")
            )
        elif self._stage is _BODY and self._raw > self._max_raw():
            self._refuse(self._too_large())
        if self._waiting:
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more, but may still wait for answers."""
        if self._stage is _NOTHING and not self._order and not self._waiting:
            return False
        self._stage, self._current = _NOTHING, None
        self.deadline = inf
        # A TLS connection can't be half open.
        return bool(self._order or self._waiting) and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """The client reads more slowly than it asks."""
        self._is_stalled = True
        self._hold()
        if self._outflow is not None:
            self._outflow.pause()
        self.deadline = self._hub.loop.time() + WRITE_SECONDS

    def resume_writing(self) -> None:
        """It has caught up."""
        self._is_stalled = False
        if self._outflow is not None:
            self._outflow.resume()
        self._renew_deadline()
        self._advance()

    # --- httptools

    def on_url(self, target: bytes) -> None:
        """A piece of the request's target."""
        if self._upgrading is not None:
            return
        if self._stage is _BETWEEN:
            # Pipelined: this head began somewhere in bytes that were counted for the one before.
            self._stage, self._raw = _HEAD, 0
            self.deadline = self._hub.loop.time() + self._limits.header_seconds
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is ignored."""
        if self._stage is _HEAD:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The whole head is there."""
        parser, limits = self._parser, self._limits
        if parser is None or self._upgrading is not None:
            return
        line = (parser.get_method(), self._target, parser.get_http_version())
        headers, self._target, self._headers = self._headers, b"", []
        start = time.perf_counter()
        known = self._known
        if known is not None and known.line == line and known.headers == headers:
            # Most clients send the same head again and again.
            head = known.head
        else:
            if _size(line[1], headers) > limits.max_header_bytes:
                raise self._stop(self._head_too_large())
            try:
                head = parse_head(*line, headers, keeps_alive=parser.should_keep_alive())
            except RequestError as exc:
                raise self._stop(exc) from exc
            self._known = _Known(line, headers, head)
        self._hub.idle.pop(self, None)
        self._is_fresh = False
        self._current = exchange = Exchange(self, head, head.request_id or new_id(), start)
        try:
            self._app.admit(exchange)
        except RequestError as exc:
            exchange.error = exc
        self._stage, self._parts, self._size, self._raw = _BODY, [], 0, 0
        if head.has_body:
            self._upgrading = head if parser.should_upgrade() else None
            self._expect_body(exchange, head)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._size += len(data)
        if self._size > self._limits.max_body_bytes:
            raise self._stop(self._too_large())
        if self._current is not None and self._current.error is None:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        exchange = self._current
        if exchange is None or exchange.head is None or self._upgrading is not None:
            return
        parts = self._parts
        exchange.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._current, self._parts, self._must_continue = None, [], False
        self._waiting.append(exchange)
        self.deadline = inf
        self._stage = _NOTHING if exchange.head.is_last else _BETWEEN

    # --- exchanges

    def flush(self) -> None:
        """Write the answers that are there, in order; see exchange.Owner."""
        order = self._order
        if order and order[0].response is not None:
            self._advance()

    # --- hub.Timed

    def expire(self) -> None:
        """See hub.Timed."""
        if self._is_stalled or self._stage is _NOTHING or self._is_lost:
            self.abort()
        elif self._stage is _BODY:
            self._refuse(BodyTimeoutError(f"the body didn't arrive within {self._limits.body_seconds:g} s"))
        elif self._stage is _HEAD or self._is_fresh:
            self._refuse(HeadTimeoutError(f"no request arrived within {self._limits.header_seconds:g} s"))
        else:
            self._close()

    def leave(self) -> None:
        """See hub.Timed."""
        if self in self._hub.idle:
            self._close()

    def abort(self) -> None:
        """See hub.Timed."""
        self._is_lost = True
        self._transport.abort()

    # --- reading

    def _feed(self, data: bytes) -> None:
        while self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                self._stay()
                data = data[exc.args[0] :]
                if data and self._stage is not _NOTHING:
                    continue
            except httptools.HttpParserError:
                if self._refusal is not None or self._stage is not _NOTHING:
                    self._refuse(self._refusal or self._describe_broken())
            return

    def _stay(self) -> None:
        """Go on with a new parser where the old one stopped because the client offers another protocol.

        The server needn't take the offer (RFC 9110, section 7.8). Java's client makes it with every first request. The
        parser has read no body, so that the new one is told about the body by a head of our own.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._upgrading is not None:
            head = self._upgrading
            framing = (
                b"Transfer-Encoding: chunked" if head.is_chunked else b"Content-Length: %d" % (head.content_length or 0)
            )
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._upgrading = None

    def _describe_broken(self) -> RequestError:
        """What to say to bytes that llhttp doesn't take."""
        codings = [value for name, value in self._headers if name.lower() == b"transfer-encoding"]
        if len(codings) == 1 and b"chunked" not in (part.strip(b" \t").lower() for part in codings[0].split(b",")):
            return UnknownCodingError("the only Transfer-Encoding that is known is chunked")
        return BadFramingError("the bytes aren't an HTTP/1.1 request (RFC 9112)")

    def _expect_body(self, exchange: Exchange, head: Head) -> None:
        if head.content_length is not None and head.content_length > self._limits.max_body_bytes:
            raise self._stop(
                BodyTooLargeError(
                    f"the body has {head.content_length} bytes; the limit is {self._limits.max_body_bytes}"
                )
            )
        self.deadline = self._hub.loop.time() + self._limits.body_seconds
        if head.is_waiting:
            if exchange.error is not None:
                # It isn't told to go on, so that nobody could say whether what comes next is the body.
                raise self._stop(exchange.error)
            self._must_continue = True
            self._tell_to_continue()

    def _tell_to_continue(self) -> None:
        if self._must_continue and not self._order and not self._waiting:
            self._must_continue = False
            self._transport.write(CONTINUE)

    def _stop(self, error: RequestError) -> _StopError:
        """Remember why nothing more is read; to be raised in a callback, which ends the parser's work."""
        self._refusal = error
        return _StopError()

    def _refuse(self, error: RequestError) -> None:
        """Answer the request that is being read with `error`, and end the connection after that."""
        exchange = self._current
        if exchange is None:
            exchange = Exchange(self, None, new_id(), time.perf_counter())
        else:
            # Without its head it is known as one that wasn't read to its end.
            exchange.head = None
        exchange.error = error
        self._is_refused = True
        self._stage, self._current, self._parts, self._raw = _NOTHING, None, [], 0
        self._hub.idle.pop(self, None)
        self.deadline = inf
        self._waiting.append(exchange)
        self._advance()

    def _head_too_large(self) -> RequestError:
        return HeadTooLargeError(f"the head has more than the limit of {self._limits.max_header_bytes} bytes")

    def _too_large(self) -> RequestError:
        return BodyTooLargeError(f"the body has more than the limit of {self._limits.max_body_bytes} bytes")

    def _max_raw(self) -> int:
        return _CHUNK_OVERHEAD * self._limits.max_body_bytes + self._limits.max_header_bytes

    def _discard(self, size: int) -> None:
        self._raw += size
        if self._raw > _DISCARD_BYTES:
            self.abort()

    # --- answering

    def _advance(self) -> None:
        """Look at further requests and write what is answered, until there is nothing more to do."""
        if self._is_advancing or self._is_lost:
            return
        self._is_advancing = True
        if self._waiting:
            self._start_waiting()
        while self._write_answers() and self._waiting:
            self._start_waiting()
        self._is_advancing = False
        if not self._is_lost and not self._is_ended:
            self._settle()

    def _start_waiting(self) -> None:
        waiting, order = self._waiting, self._order
        while waiting and len(order) < MAX_PIPELINED and not self._is_stalled:
            exchange = waiting.popleft()
            order.append(exchange)
            if exchange.error is not None:
                self._respond_error(exchange, exchange.error)
            else:
                self._app.answer(exchange)

    def _write_answers(self) -> bool:
        """Write the answers that have no unanswered request before them; whether there were some."""
        order, output, is_last = self._order, [], False
        while order and not is_last and (response := order[0].response) is not None:
            if response.stream is not None:
                break
            exchange = order.popleft()
            is_last = exchange.head is None or (not order and not self._waiting and self._is_leaving())
            output.append(render_response(response, exchange.request_id, exchange.head, is_last=is_last))
        if output and not self._is_lost:
            self._transport.write(output[0] if len(output) == 1 else b"".join(output))
        if is_last:
            self._end()
        elif order and (response := order[0].response) is not None and response.stream is not None:
            self._begin_stream(order[0], response, response.stream)
        return bool(output)

    def _begin_stream(self, exchange: Exchange, response: Response, stream: Stream) -> None:
        head = exchange.head
        assert head is not None, "only what was read whole is passed on"
        if self._outflow is not None or self._is_lost:
            return
        self._transport.write(render_response(response, exchange.request_id, head, is_last=head.is_last))
        self._outflow = Outflow(stream, self._transport.write, is_chunked=not head.is_old, done=self._streamed)
        if self._is_stalled:
            self._outflow.pause()

    def _streamed(self, is_whole: bool) -> None:
        """The streamed answer is written, or can't be."""
        self._outflow = None
        if self._is_lost:
            return
        self._order.popleft()
        if not is_whole:
            self.abort()
        elif not self._order and not self._waiting and self._is_leaving():
            self._end()
        else:
            self._advance()

    def _is_leaving(self) -> bool:
        """Is the connection closed once everything is answered?"""
        return self._stage is _NOTHING or (self._stage is _BETWEEN and self._app.is_draining)

    def _settle(self) -> None:
        """Hold or go on reading, and know what is waited for."""
        if self._waiting:
            self._hold()
            return
        if self._is_held and not self._is_stalled:
            self._is_held = False
            self._transport.resume_reading()
            self._renew_deadline()
        if self._order:
            return
        if self._stage is _BETWEEN or self._stage is _HEAD:
            self._rest()
        elif self._must_continue:
            self._tell_to_continue()

    def _respond_error(self, exchange: Exchange, error: RequestError) -> None:
        response = error_response(error)
        self._app.observe(exchange, response.status, error)
        exchange.respond(response)

    def _rest(self) -> None:
        """Nothing is asked: the connection is idle."""
        if self._hub.is_closing:
            self._close()
            return
        self._hub.idle[self] = None
        if self._stage is _BETWEEN:
            self._renew_deadline()

    def _hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._transport.pause_reading()
            self.deadline = inf

    def _renew_deadline(self) -> None:
        now, limits = self._hub.loop.time(), self._limits
        if self._stage is _HEAD:
            self.deadline = now + limits.header_seconds
        elif self._stage is _BODY:
            self.deadline = now + limits.body_seconds
        elif self._stage is _BETWEEN and not self._order and not self._waiting:
            self.deadline = now + KEEP_ALIVE_SECONDS
        else:
            self.deadline = inf

    # --- ending

    def _end(self) -> None:
        """The last answer is written: wait a little for a client that is still sending, so that it gets to see it."""
        self._stage, self._parser, self._is_ended = _NOTHING, None, True
        if not self._is_refused or not self._transport.can_write_eof():
            # TLS ends with an exchange of its own, until which it reads what still comes.
            self._close()
            return
        self._transport.write_eof()
        self.deadline = self._hub.loop.time() + LINGER_SECONDS

    def _close(self) -> None:
        self._stage, self._parser, self._is_ended = _NOTHING, None, True
        self._hub.idle.pop(self, None)
        self.deadline = self._hub.loop.time() + WRITE_SECONDS
        self._transport.close()


def _size(target: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
