"""Asks the pods of another version by REST. On the event loop."""

import asyncio
from collections.abc import Iterable

from modelkit.serve.body import check_id
from modelkit.serve.errors import MalformedRequestError, RuntimeAnswerError
from modelkit.serve.message import origin_form
from modelkit.serve.question import Request
from modelkit.serve.rollout.marks import PREDICTIONS, without_marks
from modelkit.serve.rollout.rules import parse_place
from modelkit.serve.rollout.trust import Trust
from modelkit.serve.rollout.verdict import ANSWERED, PassedOn, Verdict, judge_status
from modelkit.serve.routes import Response
from modelkit.serve.runtime.pool import Pool
from modelkit.serve.runtime.wire import ResponseReader, build_request, end_to_end

MAX_ANSWER_BYTES = 32 * 1024 * 1024
_MAX_AGE_SECONDS = 10.0
"""A connection leads to one pod: new ones find those that have come, and spread over all."""
_SET_BY_US = frozenset({b"content-type", b"x-request-id", b"traceparent", b"tracestate", b"date", b"server"})
_OCTETS = b"application/octet-stream"

Headers = list[tuple[bytes, bytes]]


class HttpPeer:
    """One `<host>:<port>`."""

    def __init__(self, place: str, trust: Trust | None) -> None:
        host, port = parse_place(place)
        self._host = place.encode("ascii")
        encryption = None if trust is None else trust.encryption
        self._pool = Pool(host, port, encryption=encryption, max_age_seconds=_MAX_AGE_SECONDS)

    async def ask(self, request: Request, marks: Headers) -> Verdict:
        """The version's answer to a client's request, with `marks`.

        Raises OSError when it can't be reached, RuntimeAnswerError for what is no answer.
        """
        head = request.head
        assert head is not None, "it came by HTTP"
        headers = [item for item in without_marks(end_to_end(head.headers)) if item[0] != b"x-request-id"]
        headers += [(b"x-request-id", request.id.encode("ascii")), *marks]
        data = build_request(head.method, origin_form(head.target), self._host, headers, request.body)
        answer, body = await self._exchange(data, head.method)
        kind = judge_status(answer.status)
        return Verdict(kind, _read_answer(answer, body, request.id) if kind == ANSWERED else None)

    async def post(self, target: bytes, body: bytes, headers: Headers, seconds: float) -> int:
        """The status of the answer to JSON; raises as `ask` does, and TimeoutError after `seconds`."""
        data = build_request(b"POST", target, self._host, [(b"content-type", b"application/json"), *headers], body)
        async with asyncio.timeout(seconds):
            answer, _ = await self._exchange(data, b"POST")
        return answer.status

    def close(self) -> None:
        """What is in flight is still answered."""
        self._pool.close()

    async def _exchange(self, data: bytes, method: bytes) -> tuple[ResponseReader, bytes]:
        connection, answer = await self._pool.send(data, method)
        if answer.status < 200:
            connection.close()
            raise RuntimeAnswerError("it changed the protocol")
        return answer, await self._pool.read_whole(connection, answer, MAX_ANSWER_BYTES)


def _read_answer(answer: ResponseReader, body: bytes, asked: str) -> PassedOn:
    headers = answer.headers
    passed = tuple(item for item in without_marks(end_to_end(headers)) if item[0] not in _SET_BY_US)
    response = Response(answer.status, body, _find(headers, b"content-type") or _OCTETS, passed)
    name = asked
    try:
        name = check_id((_find(headers, b"x-request-id") or b"").decode("latin-1"), "the header X-Request-Id")
    except MalformedRequestError:
        name = asked
    return PassedOn(name, response, _find(headers, PREDICTIONS))


def _find(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for found, value in headers if found == name), None)
