"""The ASGI application: paths to answers, errors to statuses, limits on work at once.

Raw ASGI: the paths are few and fixed (the model has one name), so routing is one dictionary look-up. This is the
only place that knows which error is which HTTP status.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelkit.contract.config import LimitsConfig
from modelkit.serve.body import new_id
from modelkit.serve.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    InferenceTimeoutError,
    OverloadedError,
    RequestError,
    UnknownPathError,
    UnprocessableRequestError,
    UnsupportedMediaTypeError,
    WrongMethodError,
)
from modelkit.serve.http import (
    DisconnectedError,
    Head,
    Receive,
    Response,
    Scope,
    Send,
    check_json,
    discard_body,
    parse_head,
    read_body,
    send_response,
)
from modelkit.serve.question import Question, Reply, Request
from modelkit.serve.service import Answered, Service
from modelkit.serve.v2 import model_metadata, server_metadata
from modelkit.serve.warmup import Cost

logger = logging.getLogger(__name__)

INLINE_SECONDS = 0.001
"""An answer that takes less is given on the event loop: handing it to a thread costs about 0.1 ms."""

_STATUS = MappingProxyType(
    {
        UnknownPathError: 404,
        WrongMethodError: 405,
        BodyTimeoutError: 408,
        BodyTooLargeError: 413,
        UnsupportedMediaTypeError: 415,
        UnprocessableRequestError: 422,
        OverloadedError: 503,
        InferenceTimeoutError: 504,
    }
)
"""Any other RequestError is 400."""
_CLOSING = (BodyTooLargeError, BodyTimeoutError)
"""Errors that end the connection, because the client may still be sending."""

Parse = Callable[[Request], Question]


@dataclass(frozen=True, slots=True)
class _Route:
    """What a path does: one of `get`, `ask` and `post`."""

    name: str
    """For metrics; never a client's path."""
    get: Callable[[], Response] | None = None
    ask: Parse | None = None
    """Inference."""
    post: Callable[[Request], Reply] | None = None
    """Anything else with a body."""
    status: int = 200

    @property
    def allowed(self) -> str:
        """The Allow header."""
        return "GET, HEAD" if self.get is not None else "POST"


class App:
    """The ASGI callable. `is_draining` is set once by the server when the pod is told to stop."""

    def __init__(self, service: Service, limits: LimitsConfig, cost: Cost, pool: ThreadPoolExecutor) -> None:
        self.is_draining = False
        self._service = service
        self._limits = limits
        self._cost = cost
        self._pool = pool
        self._active = 0
        self._metrics = service.metrics
        self._metrics.in_flight.set_function(lambda: self._active)
        self._routes = self._build_routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is ignored."""
        if scope["type"] != "http":
            return
        start = time.perf_counter()
        route = self._routes.get(scope["path"])
        request_id, close = "", self.is_draining
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

    async def _respond(self, route: _Route | None, scope: Scope, head: Head, receive: Receive) -> tuple[Response, str]:
        if route is None:
            raise self._unknown_path(scope["path"])
        method = scope["method"]
        if route.get is not None and method in ("GET", "HEAD"):
            return route.get(), head.request_id
        if route.get is not None or method != "POST":
            raise WrongMethodError(method, route.allowed)
        check_json(head)
        request = Request(await read_body(head, receive, self._limits.max_body_bytes), head.request_id)
        if route.ask is not None:
            answered = await self._infer(route.ask, request)
            return _to_response(route, answered.reply), answered.id
        assert route.post is not None, "a route does one of three things"
        return _to_response(route, route.post(request)), request.id

    async def _infer(self, parse: Parse, request: Request) -> Answered:
        if self._active >= self._limits.max_concurrent:
            raise OverloadedError(f"{self._active} requests are being answered, which is the limit; try again")
        self._active += 1
        if self._cost.seconds(len(request.body)) <= INLINE_SECONDS:
            try:
                return self._service.answer(parse(request))
            finally:
                self._leave()
        loop = asyncio.get_running_loop()
        future = self._pool.submit(lambda: self._service.answer(parse(request)))
        # The place is taken until the thread is done, which may be after the client was told 504.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.inference_seconds)
        except TimeoutError as exc:
            raise InferenceTimeoutError(f"no answer within {self._limits.inference_seconds:g} s") from exc

    def _leave(self) -> None:
        self._active -= 1

    def _build_routes(self) -> dict[str, _Route]:
        service = self._service
        name, number = service.name, str(service.signature.number)
        metadata = model_metadata(service.signature, name, service.model.platform)
        ready = _Route("model_ready", get=lambda: self._ready({"name": name, "ready": not self.is_draining}))
        routes = {
            "/v2": _Route("server_metadata", get=lambda: Response(200, server_metadata())),
            "/v2/health/live": _Route("live", get=lambda: Response(200, orjson.dumps({"live": True}))),
            "/v2/health/ready": _Route("ready", get=lambda: self._ready({"ready": not self.is_draining})),
            "/predict": _Route("predict", ask=service.predict),
            "/feedback": _Route("feedback", post=service.accept_feedback, status=202),
            "/metrics": _Route("metrics", get=self._render_metrics),
        }
        for prefix in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{number}"):
            routes[prefix] = _Route("model_metadata", get=lambda: Response(200, metadata))
            routes[f"{prefix}/ready"] = ready
            routes[f"{prefix}/infer"] = _Route("infer", ask=service.infer)
        return routes

    def _ready(self, plain: dict[str, object]) -> Response:
        return Response(503 if self.is_draining else 200, orjson.dumps(plain))

    def _render_metrics(self) -> Response:
        return Response(200, generate_latest(self._metrics.registry), CONTENT_TYPE_LATEST.encode())

    def _unknown_path(self, path: str) -> UnknownPathError:
        if path.startswith("/v2/models/"):
            name, number = self._service.name, self._service.signature.number
            return UnknownPathError(f"this server has the model {name!r} in version '{number}' and nothing else")
        return UnknownPathError(f"nothing is here; there are {', '.join(sorted(self._routes))}")


def _to_response(route: _Route, reply: Reply) -> Response:
    return Response(route.status, reply.body, reply.content_type, reply.headers)


def _error(error: RequestError) -> Response:
    status = _STATUS.get(type(error), 400)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, WrongMethodError):
        headers = ((b"allow", error.allowed.encode()),)
    elif isinstance(error, OverloadedError):
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
