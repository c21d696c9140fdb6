"""The ASGI application: paths to answers, errors to statuses, limits on work at once.

Raw ASGI: the paths are few and fixed (the model has one name), so routing is one dictionary look-up. This is the
only place that knows which error is which HTTP status.
"""

import logging
import time
from types import MappingProxyType

import orjson

from modelkit.serve.body import new_id
from modelkit.serve.engine import Engine
from modelkit.serve.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    InferenceTimeoutError,
    OverloadedError,
    RequestError,
    RuntimeAnswerError,
    RuntimeRefusalError,
    RuntimeUnavailableError,
    UnknownPathError,
    UnprocessableRequestError,
    UnsupportedMediaTypeError,
    WrongMethodError,
)
from modelkit.serve.http import (
    DisconnectedError,
    Head,
    Receive,
    Scope,
    Send,
    check_json,
    discard_body,
    parse_head,
    read_body,
    send_response,
)
from modelkit.serve.question import Reply, Request
from modelkit.serve.routes import Response, Route
from modelkit.serve.service import Service
from modelkit.serve.table import build_routes, unknown_path

logger = logging.getLogger(__name__)

_STATUS = MappingProxyType(
    {
        UnknownPathError: 404,
        WrongMethodError: 405,
        BodyTimeoutError: 408,
        BodyTooLargeError: 413,
        UnsupportedMediaTypeError: 415,
        UnprocessableRequestError: 422,
        RuntimeAnswerError: 502,
        OverloadedError: 503,
        RuntimeUnavailableError: 503,
        InferenceTimeoutError: 504,
    }
)
"""Any other RequestError is 400."""
_CLOSING = (BodyTooLargeError, BodyTimeoutError)
"""Errors that end the connection, because the client may still be sending."""


class App:
    """The ASGI callable. `is_draining` is set once by the server when the pod is told to stop."""

    def __init__(self, service: Service, engine: Engine) -> None:
        self.engine = engine
        self.drain = service.drain
        self._service = service
        self._limits = service.limits
        self._metrics = service.metrics
        self._routes = build_routes(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is ignored."""
        if scope["type"] != "http":
            return
        start = time.perf_counter()
        route = self._routes.get(scope["path"])
        request_id, close = "", self.drain.is_draining
        try:
            head = parse_head(scope)
            request_id = head.request_id
            response, request_id = await self._respond(route, scope, head, receive)
        except DisconnectedError:
            return
        except RequestError as exc:
            response = _error(exc)
            close = close or isinstance(exc, _CLOSING)
            if close:
                await discard_body(scope, receive)
        except Exception as exc:  # noqa: BLE001 - the edge: whatever happened, the client gets JSON and the log no value
            _log_failure(exc, request_id)
            response = Response(500, orjson.dumps({"error": "the server failed; its log names the request id"}))
        await send_response(send, response, request_id or new_id(), close=close)
        name = "unknown" if route is None else route.name
        self._metrics.observe_request(name, response.status, time.perf_counter() - start)

    async def _respond(self, route: Route | None, scope: Scope, head: Head, receive: Receive) -> tuple[Response, str]:
        if route is None:
            raise unknown_path(self._service, self._routes, scope["path"])
        method = scope["method"]
        if route.get is not None and method in ("GET", "HEAD"):
            return route.get(), head.request_id
        if route.get is not None or method != "POST":
            raise WrongMethodError(method, route.allowed)
        check_json(head)
        request = Request(await read_body(head, receive, self._limits.max_body_bytes), head.request_id)
        if (ask := route.ask) is not None:
            answered = await self.engine.ask_parsed(lambda: ask(request), len(request.body), is_costly=route.is_costly)
            return _to_response(route, answered.reply), answered.id
        assert route.post is not None, "relays come with the transport"
        return _to_response(route, route.post(request)), request.id


def _to_response(route: Route, reply: Reply) -> Response:
    return Response(route.status, reply.body, reply.content_type, reply.headers)


def _error(error: RequestError) -> Response:
    status = error.status if isinstance(error, RuntimeRefusalError) else _STATUS.get(type(error), 400)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, WrongMethodError):
        headers = ((b"allow", error.allowed.encode()),)
    elif status == 503:
        headers = ((b"retry-after", b"1"),)
    return Response(status, orjson.dumps({"error": str(error)}), headers=headers)


def _log_failure(error: Exception, request_id: str) -> None:
    """Type and place only: the message of an unexpected error may hold a value."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    extra = {"request_id": request_id, "error": type(error).__name__, "place": place}
    logger.error("a request failed", extra=extra)
