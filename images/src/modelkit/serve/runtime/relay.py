"""Passes requests on to the runtime as they are, and its answers back, for the protocol Raw. On the event loop.

Short answers are read whole; long ones and those of unknown length, such as server-sent events, go to the client piece
by piece as they come. What a client doesn't read isn't read from the runtime either.
"""

import asyncio
from collections.abc import Callable

from modelkit.contract.config import RuntimeConfig
from modelkit.serve.errors import InferenceTimeoutError, RuntimeAnswerError, RuntimeUnavailableError
from modelkit.serve.message import origin_form
from modelkit.serve.question import Request
from modelkit.serve.routes import Response
from modelkit.serve.runtime.pool import READ_BYTES, Connection, Pool, feed
from modelkit.serve.runtime.wire import ResponseReader, build_request, end_to_end, parse_address
from modelkit.serve.streaming import Stream

MAX_WHOLE_BYTES = 262_144
"""Answers that say that they are longer are passed on piece by piece."""
_OCTETS = b"application/octet-stream"
_SET_BY_US = frozenset({b"content-type", b"x-request-id", b"traceparent", b"tracestate"})
"""Headers of an answer that the server writes itself."""

GiveBack = Callable[[Connection, ResponseReader], None]


class Relay:
    """Passes requests on to one runtime."""

    def __init__(self, config: RuntimeConfig, *, hides_token: bool) -> None:
        """`hides_token`: the Authorization header is for this server, and is not passed on."""
        self._host, self._port = parse_address(config.address)
        self._place = f"{self._host}:{self._port}"
        self._seconds = config.timeout_seconds
        self._dropped = {b"x-request-id", *((b"authorization",) if hides_token else ())}
        self._pool = Pool(self._host, self._port)

    async def __call__(self, request: Request) -> Response:
        """The runtime's answer, or its beginning.

        Raises RuntimeUnavailableError, RuntimeAnswerError, or InferenceTimeoutError when its head doesn't come in time.
        """
        head = request.head
        assert head is not None, "it came by HTTP"
        headers = [item for item in end_to_end(head.headers) if item[0] not in self._dropped]
        headers.append((b"x-request-id", request.id.encode("ascii")))
        data = build_request(head.method, origin_form(head.target), self._place.encode("ascii"), headers, request.body)
        try:
            async with asyncio.timeout(self._seconds):
                connection, answer = await self._pool.send(data, head.method)
                if not answer.is_complete and _length(answer) <= MAX_WHOLE_BYTES:
                    return _response(answer, await self._pool.read_whole(connection, answer))
        except TimeoutError as exc:
            raise InferenceTimeoutError(
                f"the runtime at {self._place} gave no answer within {self._seconds:g} s"
            ) from exc
        except OSError as exc:
            raise RuntimeUnavailableError(
                f"the runtime at {self._place} can't be reached ({exc.strerror or type(exc).__name__}); try again"
            ) from exc
        if answer.is_complete:
            self._pool.give_back(connection, answer)
            return _response(answer, answer.take())
        return _response(answer, b"", _Body(connection, answer, self._seconds, self._pool.give_back))


class _Body:
    """The rest of an answer, as it comes (see streaming.Stream)."""

    def __init__(self, connection: Connection, answer: ResponseReader, seconds: float, give_back: GiveBack) -> None:
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
                    feed(answer, await self._connection.reader.read(READ_BYTES))
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
