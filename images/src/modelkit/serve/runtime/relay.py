"""Passes requests on to the runtime as they are, and its answers back, for the protocol Raw. On the event loop.

Short answers are read whole; long ones and those of unknown length, such as server-sent events, go to the client piece
by piece as they come. What a client doesn't read isn't read from the runtime either.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from modelkit.contract.config import RuntimeConfig
from modelkit.serve.errors import InferenceTimeoutError, RuntimeAnswerError, RuntimeUnavailableError
from modelkit.serve.question import Request
from modelkit.serve.routes import Response
from modelkit.serve.runtime.wire import ResponseReader, build_request, end_to_end, parse_address
from modelkit.serve.streaming import Stream

MAX_WHOLE_BYTES = 262_144
"""Answers that say that they are longer are passed on piece by piece."""
_MAX_IDLE = 32
_READ_BYTES = 65_536
_CONNECT_SECONDS = 2.0
_OCTETS = b"application/octet-stream"
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_SET_BY_US = frozenset({b"content-type", b"x-request-id", b"traceparent", b"tracestate"})
"""Headers of an answer that the server writes itself."""


@dataclass(frozen=True, slots=True)
class _Connection:
    """One connection to the runtime."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        """Close it, whatever state it is in."""
        with suppress(OSError, RuntimeError):
            self.writer.close()


GiveBack = Callable[[_Connection, ResponseReader], None]


class Relay:
    """Passes requests on to one runtime."""

    def __init__(self, config: RuntimeConfig, *, hides_token: bool) -> None:
        """`hides_token`: the Authorization header is for this server, and is not passed on."""
        self._host, self._port = parse_address(config.address)
        self._place = f"{self._host}:{self._port}"
        self._seconds = config.timeout_seconds
        self._dropped = {b"x-request-id", *((b"authorization",) if hides_token else ())}
        self._idle: deque[_Connection] = deque()

    async def __call__(self, request: Request) -> Response:
        """The runtime's answer, or its beginning.

        Raises RuntimeUnavailableError, RuntimeAnswerError, or InferenceTimeoutError when its head doesn't come in time.
        """
        head = request.head
        assert head is not None, "it came by HTTP"
        headers = [item for item in end_to_end(head.headers) if item[0] not in self._dropped]
        headers.append((b"x-request-id", request.id.encode("ascii")))
        target = _ABSOLUTE.sub(b"", head.target, count=1) or b"/"
        data = build_request(head.method, target, self._place.encode("ascii"), headers, request.body)
        try:
            async with asyncio.timeout(self._seconds):
                connection, answer = await self._send(data, head.method)
                if not answer.is_complete and _length(answer) <= MAX_WHOLE_BYTES:
                    return await self._read_whole(connection, answer)
        except TimeoutError as exc:
            raise InferenceTimeoutError(
                f"the runtime at {self._place} gave no answer within {self._seconds:g} s"
            ) from exc
        except OSError as exc:
            raise RuntimeUnavailableError(
                f"the runtime at {self._place} can't be reached ({exc.strerror or type(exc).__name__}); try again"
            ) from exc
        if answer.is_complete:
            self._give_back(connection, answer)
            return _response(answer, answer.take())
        return _response(answer, b"", _Body(connection, answer, self._seconds, self._give_back))

    async def _send(self, data: bytes, method: bytes) -> tuple[_Connection, ResponseReader]:
        """Send a request; the answer's head is read. One that the runtime closed meanwhile is sent again."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(ConnectionResetError, BrokenPipeError):
                if (answer := await self._exchange(connection, data, method)) is not None:
                    return connection, answer
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = _Connection(*await asyncio.open_connection(self._host, self._port))
        except TimeoutError as exc:
            raise RuntimeUnavailableError(f"the runtime at {self._place} accepts no connection; try again") from exc
        answer = await self._exchange(connection, data, method)
        if answer is None:
            raise RuntimeUnavailableError(f"the runtime at {self._place} closed the connection without an answer")
        return connection, answer

    async def _exchange(self, connection: _Connection, data: bytes, method: bytes) -> ResponseReader | None:
        """Send on one connection; the answer with its head, None when the connection was closed before it."""
        answer, is_kept = ResponseReader(method), False
        try:
            connection.writer.write(data)
            await connection.writer.drain()
            while not answer.has_head:
                part = await connection.reader.read(_READ_BYTES)
                if not part:
                    return None
                answer.feed(part)
            is_kept = True
            return answer
        finally:
            if not is_kept:
                connection.close()

    async def _read_whole(self, connection: _Connection, answer: ResponseReader) -> Response:
        parts, is_whole = [answer.take()], False
        try:
            while not answer.is_complete:
                _feed(answer, await connection.reader.read(_READ_BYTES))
                parts.append(answer.take())
            is_whole = True
        finally:
            if is_whole:
                self._give_back(connection, answer)
            else:
                connection.close()
        return _response(answer, b"".join(parts))

    def _give_back(self, connection: _Connection, answer: ResponseReader) -> None:
        if answer.is_reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()


class _Body:
    """The rest of an answer, as it comes (see streaming.Stream)."""

    def __init__(self, connection: _Connection, answer: ResponseReader, seconds: float, give_back: GiveBack) -> None:
        self._connection = connection
        self._answer = answer
        self._seconds = seconds
        self._give_back = give_back
        self._closed = asyncio.Event()

    async def read(self) -> bytes:
        """See Stream; a runtime that is silent for too long is as good as gone."""
        answer = self._answer
        while not (part := answer.take()) and not answer.is_complete:
            try:
                async with asyncio.timeout(self._seconds):
                    _feed(answer, await self._connection.reader.read(_READ_BYTES))
            except TimeoutError as exc:
                raise InferenceTimeoutError(f"the runtime sent nothing for {self._seconds:g} s") from exc
        return part

    def close(self) -> None:
        """See Stream."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._answer.is_complete:
            self._give_back(self._connection, self._answer)
        else:
            self._connection.close()

    async def wait_closed(self) -> None:
        """See Stream."""
        await self._closed.wait()


def _feed(answer: ResponseReader, data: bytes) -> None:
    if data:
        answer.feed(data)
    else:
        answer.end()


def _length(answer: ResponseReader) -> float:
    """How long the body says it is; infinite when it doesn't."""
    found = next((value for name, value in answer.headers if name == b"content-length"), b"")
    return int(found) if found.isdigit() else float("inf")


def _response(answer: ResponseReader, body: bytes, stream: Stream | None = None) -> Response:
    kind = next((value for name, value in answer.headers if name == b"content-type"), _OCTETS)
    headers = tuple(item for item in end_to_end(answer.headers) if item[0] not in _SET_BY_US)
    if answer.status == 101:
        raise RuntimeAnswerError("the runtime changed the protocol, which can't be passed on")
    return Response(answer.status, body, kind, headers, stream)
