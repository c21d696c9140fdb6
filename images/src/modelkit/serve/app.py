"""The application: requests to routes, routes to answers, errors to responses. HTTP's bytes are elsewhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import orjson

from modelkit.serve.auth import Auth
from modelkit.serve.engine import INLINE_BYTES, Engine
from modelkit.serve.errors import (
    InferenceTimeoutError,
    RequestError,
    UnauthorizedError,
    WrongMethodError,
)
from modelkit.serve.exchange import Exchange
from modelkit.serve.message import check_media, error_response, inflate, is_compressed
from modelkit.serve.question import Reply, Request
from modelkit.serve.rollout.marks import passed_routes
from modelkit.serve.rollout.rest import build_ask
from modelkit.serve.rollout.verdict import PassedOn
from modelkit.serve.routes import FALLBACK, Response
from modelkit.serve.service import Answered, Service
from modelkit.serve.streaming import Stream
from modelkit.serve.table import build_routes, unknown_path
from modelkit.serve.together import Outcome
from modelkit.serve.trace import Trace

logger = logging.getLogger(__name__)

T = TypeVar("T")

_GET = frozenset({b"GET", b"HEAD"})
_FAILED = orjson.dumps({"error": "the server failed; its log names the request id"})


class App:
    """Answers the exchanges of all connections (see connection.Answerer). Used on the event loop only."""

    def __init__(self, service: Service, engine: Engine, pool: ThreadPoolExecutor, auth: Auth | None = None) -> None:
        """`pool`: threads for what must not hold the loop and isn't the engine's."""
        self.engine = engine
        self.drain = service.drain
        self._service = service
        self._metrics = service.metrics
        self._limits = service.limits
        self._pool = pool
        self._auth = auth
        self._routes = build_routes(service)
        self._fallback = self._routes.get(FALLBACK)
        self._passed = passed_routes(self._routes, service.accept_passed_feedback)
        self._rollout = service.rollout
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_draining(self) -> bool:
        """Do connections end with their next answer?"""
        return self.drain.is_draining or self._rollout.is_leaving

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Report the open connections that `count()` gives."""
        self._metrics.connections.set_function(count)

    def admit(self, exchange: Exchange) -> None:
        """See connection.Answerer: token, path, method, content type; raises RequestError."""
        head = exchange.head
        assert head is not None, "only a head that was read is looked at"
        route = self._routes.get(head.path, self._fallback)
        if head.is_passed_on:
            route = self._passed.get(head.path, route)
        exchange.route = route
        if self._auth is not None and not (route and route.is_open) and not self._auth.allows(head.authorization):
            raise UnauthorizedError("a known token is needed: send Authorization: Bearer <token>")
        if route is None:
            raise unknown_path(self._service, self._routes, head.path)
        if route.relay is not None:
            return
        if route.get is not None:
            if head.method not in _GET:
                raise WrongMethodError(head.method.decode("latin-1"), route.allowed)
        elif head.method != b"POST":
            raise WrongMethodError(head.method.decode("latin-1"), route.allowed)
        else:
            check_media(head)

    def answer(self, exchange: Exchange) -> None:
        """See connection.Answerer."""
        route, head = exchange.route, exchange.head
        assert route is not None, "an exchange without a route has an error"
        assert head is not None, "an exchange without a head has an error"
        try:
            if route.get is not None:
                self._respond(exchange, route.get())
                return
            request = Request(exchange.body, exchange.request_id, head.json_length, head)
            exchange.body = b""
            if route.relay is not None:
                self._relay(exchange, route.relay, request)
            elif route.ask is not None:
                parse, is_costly = self._parser(route.ask, request), route.is_costly or is_compressed(head)
                done = partial(self._answered, exchange)
                router = self._rollout.router
                if router is not None and route.is_shared:
                    note = partial(_note, exchange)
                    ask = build_ask(router, self.engine, request, parse, note, is_costly=is_costly)
                    exchange.ticket = router.answer(ask, done)
                else:
                    exchange.ticket = self.engine.submit(parse, len(request.body), done, is_costly=is_costly)
            else:
                assert route.post is not None, "a route does one of four things"
                is_costly = route.is_costly or is_compressed(head) or len(request.body) > INLINE_BYTES
                self._post(exchange, self._parser(route.post, request), is_costly=is_costly)
        except Exception as exc:  # noqa: BLE001 - the edge
            self._fail(exchange, exc)

    def observe(self, exchange: Exchange, status: int, error: RequestError | None = None) -> None:
        """See connection.Answerer."""
        route = exchange.route
        name = "unknown" if route is None else route.name
        self._metrics.observe_request(name, status, time.perf_counter() - exchange.start)
        if error is not None:
            self._metrics.observe_rejection(type(error).__name__.removesuffix("Error"))

    def _parser(self, parse: Callable[[Request], T], request: Request) -> Callable[[], T]:
        """`parse` of the request, which is decompressed first where it must be."""
        assert request.head is not None, "it came by HTTP"
        if is_compressed(request.head):
            return partial(_inflated, parse, request, self._limits.max_body_bytes)
        return partial(parse, request)

    def _post(self, exchange: Exchange, post: Callable[[], Reply], *, is_costly: bool) -> None:
        if not is_costly:
            self._accepted(exchange, post())
            return
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, post)
        future.add_done_callback(partial(self._posted, exchange))

    def _posted(self, exchange: Exchange, found: "asyncio.Future[Reply]") -> None:
        error = found.exception()
        if error is None:
            self._accepted(exchange, found.result())
        elif isinstance(error, Exception):
            self._fail(exchange, error)

    def _relay(self, exchange: Exchange, relay: Callable[[Request], Awaitable[Response]], request: Request) -> None:
        async def run() -> None:
            stream: Stream | None = None
            try:
                async with asyncio.timeout(self._limits.inference_seconds):
                    response = await relay(request)
                stream = response.stream
                self._respond(exchange, response)
                if stream is not None:
                    await stream.wait_closed()
            except TimeoutError:
                self._fail(exchange, InferenceTimeoutError(f"no answer within {self._limits.inference_seconds:g} s"))
            except Exception as exc:  # noqa: BLE001 - the edge
                self._fail(exchange, exc)
            finally:
                if stream is not None:
                    stream.close()

        def leave(task: asyncio.Task[None]) -> None:
            # Here, because a task that is cancelled before it begins runs nothing of its own.
            self._tasks.discard(task)
            self.engine.leave(ticket)

        ticket = self.engine.enter(ignore_outcome)
        exchange.task = task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(leave)

    def _answered(self, exchange: Exchange, outcome: Outcome | PassedOn) -> None:
        if isinstance(outcome, PassedOn):
            exchange.request_id = outcome.id
            self._respond(exchange, outcome.response)
            return
        if not isinstance(outcome, Answered):
            self._fail(exchange, outcome)
            return
        # It becomes a header: whatever a protocol takes for an id, it must not become two.
        if outcome.id.isascii() and outcome.id.isprintable():
            exchange.request_id = outcome.id
        self._accepted(exchange, outcome.reply)

    def _accepted(self, exchange: Exchange, reply: Reply) -> None:
        assert exchange.route is not None, "only a routed exchange is answered"
        self._respond(exchange, Response(exchange.route.status, reply.body, reply.content_type, reply.headers))

    def _respond(self, exchange: Exchange, response: Response) -> None:
        self.observe(exchange, response.status)
        exchange.respond(response)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        if isinstance(error, RequestError):
            response, known = error_response(error), error
            self.observe(exchange, response.status, known)
        else:
            log_failure(error, exchange.request_id, None if exchange.head is None else exchange.head.trace)
            response = Response(500, _FAILED)
            self.observe(exchange, response.status)
        exchange.respond(response)


def ignore_outcome(outcome: Outcome) -> None:
    """For a place in the engine that nobody waits at."""


def _note(exchange: Exchange, error: Exception) -> None:
    """Log why this version failed, where another one answered."""
    if not isinstance(error, RequestError):
        log_failure(error, exchange.request_id, None if exchange.head is None else exchange.head.trace)


def log_failure(error: BaseException, request_id: str, trace: Trace | None = None) -> None:
    """Type and place only: the message of an unexpected error may hold a value."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    extra = {"request_id": request_id, "error": type(error).__name__, "place": place}
    if trace is not None:
        extra["trace_id"] = trace.id
    logger.error("a request failed", extra=extra)


def _inflated(parse: Callable[[Request], T], request: Request, limit: int) -> T:
    return parse(replace(request, body=inflate(request.body, limit)))
