"""Asks the runtime over kept connections on loopback, from threads.

Blocking: one call takes one thread, and the threads bound the connections. Every call ends by its deadline. Answers
are bounded in size.
"""

import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from modelkit.serve.errors import InferenceTimeoutError, RuntimeAnswerError, RuntimeUnavailableError
from modelkit.serve.runtime.wire import Headers, ResponseReader, build_request, parse_address

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_READ_BYTES = 262_144
_CONNECT_SECONDS = 2.0
"""On loopback a connection is there at once or not at all, except when the runtime's backlog is full."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The first header of that name; empty for none."""
        return next((value for found, value in self.headers if found == name), b"")


class _StaleError(Exception):
    """A kept connection was closed by the runtime before it read the request."""


class RuntimeClient:
    """A pool of connections to one runtime. Thread-safe."""

    def __init__(self, address: str, timeout: float, *, max_idle: int = 64) -> None:
        self._address = parse_address(address)
        self._host = address.removeprefix("http://").rstrip("/").encode("ascii")
        self._timeout = timeout
        self._idle: deque[socket.socket] = deque(maxlen=max_idle)

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return self._host.decode("ascii")

    def ask(
        self, method: bytes, target: bytes, body: bytes = b"", headers: Headers = (), *, timeout: float | None = None
    ) -> Answered:
        """The response to one request.

        A request on a kept connection that the runtime had closed meanwhile is sent again on a new one. Raises
        RuntimeUnavailableError when the runtime can't be reached, InferenceTimeoutError when it takes longer than
        the timeout, RuntimeAnswerError for what isn't HTTP or is too large.
        """
        seconds = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        data = build_request(method, target, self._host, headers, body)
        try:
            with suppress(IndexError, _StaleError):
                return self._exchange(self._idle.pop(), method, data, deadline, is_kept=True)
            return self._exchange(self._connect(deadline), method, data, deadline, is_kept=False)
        except TimeoutError as exc:
            raise InferenceTimeoutError(f"the runtime at {self.place} gave no answer within {seconds:g} s") from exc
        except OSError as exc:
            raise RuntimeUnavailableError(
                f"the runtime at {self.place} can't be reached ({exc.strerror or type(exc).__name__}); try again"
            ) from exc

    def close(self) -> None:
        """Close the connections that are kept."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self, deadline: float) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, min(_CONNECT_SECONDS, _left(deadline)))
        except TimeoutError as exc:
            raise RuntimeUnavailableError(f"the runtime at {self.place} accepts no connection; try again") from exc
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _exchange(
        self, connection: socket.socket, method: bytes, data: bytes, deadline: float, *, is_kept: bool
    ) -> Answered:
        reader = ResponseReader(method)
        is_kept_on = False
        try:
            try:
                connection.settimeout(_left(deadline))
                connection.sendall(data)
                first = connection.recv(_READ_BYTES)
            except (BrokenPipeError, ConnectionResetError) as exc:
                if is_kept:
                    raise _StaleError from exc
                raise
            if not first and is_kept:
                raise _StaleError
            body = _read(connection, reader, first, deadline)
            is_kept_on = reader.is_reusable and len(self._idle) < (self._idle.maxlen or 0)
            return Answered(reader.status, tuple(reader.headers), body)
        finally:
            if is_kept_on:
                self._idle.append(connection)
            else:
                connection.close()


def _read(connection: socket.socket, reader: ResponseReader, data: bytes, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if data:
            reader.feed(data)
        else:
            if not reader.has_head:
                raise ConnectionResetError(0, "it closed the connection without an answer")
            reader.end()
        parts.append(reader.take())
        size += len(parts[-1])
        if size > MAX_ANSWER_BYTES:
            raise RuntimeAnswerError(f"the runtime's answer has more than {MAX_ANSWER_BYTES} bytes; ask for fewer rows")
        if reader.is_complete:
            return b"".join(parts)
        connection.settimeout(_left(deadline))
        data = connection.recv(_READ_BYTES)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
