"""Kept HTTP/1.1 connections to one address, on the event loop: to the runtime in the pod, or to other pods.

One request at a time on a connection. Whoever asks sets the time for it (asyncio.timeout): a connection whose use was
cut short is closed.
"""

import asyncio
import errno
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from modelkit.serve.errors import RuntimeAnswerError
from modelkit.serve.runtime.wire import ResponseReader

READ_BYTES = 65_536
_MAX_IDLE = 32
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        """Close it, whatever state it is in."""
        with suppress(OSError, RuntimeError):
            self.writer.close()


@dataclass(frozen=True, slots=True)
class Encryption:
    """How connections are encrypted, and whom they may lead to."""

    context: ssl.SSLContext
    check: Callable[[ssl.SSLObject], None]
    """Raises OSError for a peer that isn't the one that is meant."""


class Pool:
    """The connections to one address."""

    def __init__(
        self, host: str, port: int, *, encryption: Encryption | None = None, max_age_seconds: float = inf
    ) -> None:
        """`max_age_seconds`: older connections aren't used again, so that new pods behind the address are found."""
        self._host = host
        self._port = port
        self._encryption = encryption
        self._max_age = max_age_seconds
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    async def send(self, data: bytes, method: bytes) -> tuple[Connection, ResponseReader]:
        """Send a request; the answer's head is read.

        On a kept connection that the other side closed meanwhile, it is sent again on a new one. Raises OSError when
        the other side can't be reached or closes the connection, RuntimeAnswerError for what isn't HTTP.
        """
        connection = self._take_idle()
        if connection is not None:
            with suppress(ConnectionResetError, BrokenPipeError):
                if (answer := await self._exchange(connection, data, method)) is not None:
                    return connection, answer
        connection = await self._connect()
        answer = await self._exchange(connection, data, method)
        if answer is None:
            raise ConnectionResetError(errno.ECONNRESET, "it closed the connection without an answer")
        return connection, answer

    async def read_whole(self, connection: Connection, answer: ResponseReader, limit: float = inf) -> bytes:
        """The answer's body; raises as `send` does, and RuntimeAnswerError for more than `limit` bytes."""
        parts, size, is_whole = [answer.take()], 0, False
        try:
            while not answer.is_complete:
                feed(answer, await connection.reader.read(READ_BYTES))
                parts.append(answer.take())
                size += len(parts[-1])
                if size > limit:
                    raise RuntimeAnswerError(f"the answer has more than {limit} bytes")
            is_whole = True
        finally:
            if is_whole:
                self.give_back(connection, answer)
            else:
                connection.close()
        return b"".join(parts)

    def give_back(self, connection: Connection, answer: ResponseReader) -> None:
        """Keep the connection of a complete answer for another request, if that can be."""
        if answer.is_reusable and len(self._idle) < _MAX_IDLE and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections now, the others after their answers."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> Connection | None:
        youngest = time.monotonic() - self._max_age
        while self._idle:
            connection = self._idle.pop()
            if connection.since >= youngest and not connection.reader.at_eof():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        encryption = self._encryption
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                context = None if encryption is None else encryption.context
                # The name isn't checked, but TLS wants to be told one.
                name = None if encryption is None else self._host
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=context, server_hostname=name
                )
        except TimeoutError as exc:
            raise ConnectionAbortedError(errno.ETIMEDOUT, "it accepts no connection") from exc
        connection = Connection(reader, writer)
        if encryption is not None:
            try:
                encryption.check(writer.get_extra_info("ssl_object"))
            except OSError:
                connection.close()
                raise
        return connection

    async def _exchange(self, connection: Connection, data: bytes, method: bytes) -> ResponseReader | None:
        """Send on one connection; the answer with its head, None when the connection was closed before it."""
        answer, is_kept = ResponseReader(method), False
        try:
            connection.writer.write(data)
            await connection.writer.drain()
            while not answer.has_head:
                part = await connection.reader.read(READ_BYTES)
                if not part:
                    return None
                answer.feed(part)
            is_kept = True
            return answer
        finally:
            if not is_kept:
                connection.close()


def feed(answer: ResponseReader, data: bytes) -> None:
    """Give the answer what came; nothing when the connection was closed."""
    if data:
        answer.feed(data)
    else:
        answer.end()
