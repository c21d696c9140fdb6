"""One client's connection: bytes to requests within limits, answers back to bytes in the order of the requests.

Requests may be pipelined: a bounded number is answered at a time (so that they can share one call of the model), and
nothing more is read while others wait, or while the client doesn't read its answers.
"""

import asyncio
import time
from collections import deque
from math import inf
from typing import cast

from modelkit.serve.body import new_id
from modelkit.serve.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    HeadTimeoutError,
    OverloadedError,
    RequestError,
)
from modelkit.serve.exchange import Answerer, Exchange
from modelkit.serve.head import Head
from modelkit.serve.hub import KEEP_ALIVE_SECONDS, LINGER_SECONDS, WRITE_SECONDS, Hub
from modelkit.serve.message import CONTINUE, error_response, render_response
from modelkit.serve.reader import RequestReader, head_too_large
from modelkit.serve.routes import Response
from modelkit.serve.stage import BETWEEN, BODY, HEAD, NOTHING
from modelkit.serve.streaming import Outflow, Stream

MAX_PIPELINED = 32
"""Requests of one connection that are answered at the same time."""
_DISCARD_BYTES = 16 * 1024 * 1024
"""How much of a refused body is read away: a client that is still sending would else never see the answer."""
_CHUNK_OVERHEAD = 8
"""Bytes of a chunked body, with its framing, per byte of content: chunks of one byte have six."""


class Connection(asyncio.Protocol):
    """See the module. All methods run on the event loop."""

    def __init__(self, app: Answerer, hub: Hub) -> None:
        self.deadline = inf
        self._app = app
        self._hub = hub
        self._limits = hub.limits
        self._transport: asyncio.Transport
        self._reader = RequestReader(self, self._limits.max_header_bytes)
        self._stage = BETWEEN
        self._raw = 0
        """Bytes since the head's, or the body's, beginning."""
        self._max_raw = _CHUNK_OVERHEAD * self._limits.max_body_bytes + self._limits.max_header_bytes
        self._current: Exchange | None = None
        self._parts: list[bytes] = []
        self._size = 0
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
        self._is_ended = False
        """Is the last answer written?"""
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        # uvloop has classes of its own.
        self._transport = cast("asyncio.Transport", transport)
        if not self._hub.add(self):
            self._stage = NOTHING
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
        self._reader.stop()
        if self._outflow is not None:
            self._outflow.cancel()
        for exchange in self._order:
            exchange.abandon()
        self._order.clear()
        self._waiting.clear()
        self._current = None

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._stage is NOTHING:
            self._raw += len(data)
            if self._raw > _DISCARD_BYTES:
                self.abort()
            return
        if self._stage is BETWEEN:
            self._stage, self._raw = HEAD, 0
            self.deadline = self._hub.loop.time() + self._limits.header_seconds
        self._raw += len(data)
        refusal = self._reader.feed(data)
        if refusal is not None and self._stage is not NOTHING:
            self._refuse(refusal)
        elif self._stage is HEAD and self._raw > self._limits.max_header_bytes:
            self._refuse(head_too_large(self._limits.max_header_bytes))
        elif self._stage is BODY and self._raw > self._max_raw:
            self._refuse(self._too_large())
        if self._waiting:
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more, but may still wait for answers."""
        if self._stage is NOTHING and not self._order and not self._waiting:
            return False
        self._stage, self._current = NOTHING, None
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
        if self._is_ended:
            if not self._transport.is_closing():
                self._linger()
            return
        self._renew_deadline()
        self._advance()

    def begin_head(self) -> None:
        """See reader.Sink."""
        if self._stage is BETWEEN:
            # Pipelined: this head began somewhere in bytes that were counted for the one before.
            self._stage, self._raw = HEAD, 0
            self.deadline = self._hub.loop.time() + self._limits.header_seconds

    def read_head(self, head: Head) -> None:
        """See reader.Sink."""
        self._hub.idle.pop(self, None)
        self._is_fresh = False
        self._current = exchange = Exchange(self, head, head.request_id or new_id(), time.perf_counter())
        try:
            self._app.admit(exchange)
        except RequestError as exc:
            exchange.error = exc
        self._stage, self._parts, self._size, self._raw = BODY, [], 0, 0
        if head.has_body:
            self._expect_body(exchange, head)

    def read_body(self, data: bytes) -> None:
        """See reader.Sink."""
        self._size += len(data)
        if self._size > self._limits.max_body_bytes:
            raise self._too_large()
        if self._current is not None and self._current.error is None:
            self._parts.append(data)

    def end_request(self) -> None:
        """See reader.Sink."""
        exchange = self._current
        if exchange is None or exchange.head is None:
            return
        parts = self._parts
        exchange.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._current, self._parts, self._must_continue = None, [], False
        self._waiting.append(exchange)
        self.deadline = inf
        self._stage = BETWEEN
        if exchange.head.is_last:
            self._stage = NOTHING
            self._reader.stop()

    def flush(self) -> None:
        """Write the answers that are there, in order; see exchange.Owner."""
        order = self._order
        if order and order[0].response is not None:
            self._advance()

    def expire(self) -> None:
        """See hub.Timed."""
        if self._is_stalled or self._is_lost or self._transport.is_closing():
            self.abort()
        elif self._stage is BODY:
            self._refuse(BodyTimeoutError(f"the body didn't arrive within {self._limits.body_seconds:g} s"))
        elif self._stage is HEAD or (self._stage is BETWEEN and self._is_fresh):
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

    def _expect_body(self, exchange: Exchange, head: Head) -> None:
        if head.content_length is not None and head.content_length > self._limits.max_body_bytes:
            raise BodyTooLargeError(
                f"the body has {head.content_length} bytes; the limit is {self._limits.max_body_bytes}"
            )
        self.deadline = self._hub.loop.time() + self._limits.body_seconds
        if head.is_waiting:
            if exchange.error is not None:
                # It isn't told to go on, so that nobody could say whether what comes next is the body.
                raise exchange.error
            self._must_continue = True
            self._tell_to_continue()

    def _tell_to_continue(self) -> None:
        if self._must_continue and not self._order and not self._waiting:
            self._must_continue = False
            self._transport.write(CONTINUE)

    def _refuse(self, error: RequestError) -> None:
        """Answer the request that is being read with `error`, and end the connection after that."""
        exchange = self._current
        if exchange is None:
            exchange = Exchange(self, None, new_id(), time.perf_counter())
        else:
            # Without its head it is known as one that wasn't read to its end.
            exchange.head = None
        exchange.error = error
        self._stage, self._current, self._parts, self._raw = NOTHING, None, [], 0
        self._hub.idle.pop(self, None)
        self.deadline = inf
        self._waiting.append(exchange)
        self._advance()

    def _too_large(self) -> RequestError:
        return BodyTooLargeError(f"the body has more than the limit of {self._limits.max_body_bytes} bytes")

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
        return self._stage is NOTHING or (self._stage is BETWEEN and self._app.is_draining)

    def _settle(self) -> None:
        """Hold or go on reading, and know what is waited for."""
        if self._waiting:
            self._hold()
            return
        if self._is_held and not self._is_stalled:
            self._resume_reading()
            self._renew_deadline()
        if self._order:
            return
        if self._stage is BETWEEN or self._stage is HEAD:
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
        if self._stage is BETWEEN:
            self._renew_deadline()

    def _hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._transport.pause_reading()
            self.deadline = inf

    def _resume_reading(self) -> None:
        if self._is_held:
            self._is_held = False
            self._transport.resume_reading()

    def _renew_deadline(self) -> None:
        now, limits = self._hub.loop.time(), self._limits
        if self._stage is HEAD:
            self.deadline = now + limits.header_seconds
        elif self._stage is BODY:
            self.deadline = now + limits.body_seconds
        elif self._stage is BETWEEN and not self._order and not self._waiting:
            self.deadline = now + KEEP_ALIVE_SECONDS
        else:
            self.deadline = inf

    def _end(self) -> None:
        """The last answer is written."""
        self._stage, self._is_ended = NOTHING, True
        self._reader.stop()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        """Wait a little for a client that is still sending, so that it gets to see the answer, once it reads it."""
        if self._is_stalled:
            return
        if not self._transport.can_write_eof():
            # TLS ends with an exchange of its own, until which it reads what still comes.
            self._close()
            return
        self._resume_reading()
        self.deadline = self._hub.loop.time() + LINGER_SECONDS

    def _close(self) -> None:
        self._stage, self._is_ended = NOTHING, True
        self._reader.stop()
        self._hub.idle.pop(self, None)
        self.deadline = self._hub.loop.time() + WRITE_SECONDS
        self._transport.close()
