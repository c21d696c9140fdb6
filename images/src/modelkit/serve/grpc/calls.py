"""The methods of both services: tokens, models and messages to answers, errors to statuses, everything counted.

Handlers take bytes and read their message themselves. So a message that isn't one is an error like any other, a body
that doesn't come is cut off after its time, and large ones are parsed on a thread.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from modelkit.serve.app import log_failure
from modelkit.serve.auth import Auth
from modelkit.serve.body import check_id, new_id
from modelkit.serve.engine import Engine, Parse
from modelkit.serve.errors import (
    BodyTimeoutError,
    MalformedRequestError,
    RequestError,
    UnauthorizedError,
    UnknownPathError,
)
from modelkit.serve.grpc import health_pb2, messages
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.grpc.status import Metadata, code_of, trailers_of
from modelkit.serve.head import HOP
from modelkit.serve.question import Question, Reply
from modelkit.serve.rollout.grpc_calls import ask_either, marked, names_version
from modelkit.serve.rollout.marks import PASSED_ON
from modelkit.serve.service import Answered, Service
from modelkit.serve.trace import Trace, parse_trace

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
_SERVICES = ("", INFERENCE)
"""Whose health is told; the empty name is the server's."""
_WATCH_SECONDS = 0.25
"""How often those who watch the health are told of a change."""
_MAX_WATCHERS = 256
"""Who watches needs no token, and takes a place of a call for as long as it likes."""
_HOP = HOP.decode()
_INFER = "grpc_infer"
_FAILED = "the server failed; its log names the request id"
_Health = health_pb2.HealthCheckResponse
M = TypeVar("M", bound=Message)


@dataclass(slots=True, eq=False)
class CallHead:
    """What the server reads from a call's metadata."""

    request_id: str
    """The client's x-request-id, or a new one."""
    authorization: bytes | None
    trace: Trace | None
    """Given back with the answer."""
    is_passed_on: bool = False
    """Has another pod passed the call on?"""
    context: Any = None
    """gRPC's own, of the call."""


def read_head(metadata: Any, context: Any = None) -> CallHead:
    """The head of a call; raises MalformedRequestError for an x-request-id that can't be used."""
    found: dict[str, str] = {}
    parents, states, is_passed_on = [], [], False
    for name, value in metadata or ():
        if name == "traceparent":
            parents.append(value.encode())
        elif name == "tracestate":
            states.append(value.encode())
        elif name == _HOP:
            is_passed_on = True
        elif name in ("x-request-id", "authorization"):
            if name in found:
                raise MalformedRequestError(f"the metadata {name} must not be there twice")
            found[name] = value
    request_id, token = found.get("x-request-id"), found.get("authorization")
    return CallHead(
        request_id=new_id() if request_id is None else check_id(request_id, "the metadata x-request-id"),
        authorization=None if token is None else token.encode(),
        trace=parse_trace(parents, states) if parents else None,
        is_passed_on=is_passed_on,
        context=context,
    )


Respond = Callable[[bytes, CallHead], bytes | Awaitable[Answered]]


@dataclass(frozen=True, slots=True)
class _Method:
    """What a method does."""

    name: str
    """For metrics."""
    respond: Respond
    is_open: bool = False
    """Needs no token: probes."""


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All methods by path; others are UNIMPLEMENTED."""

    def __init__(self, service: Service, engine: Engine, auth: Auth | None) -> None:
        self._service = service
        self._engine = engine
        self._auth = auth
        self._limits = service.limits
        self._metrics = service.metrics
        self._is_closing = asyncio.Event()
        self._watchers = 0
        self.last_call = -math.inf
        """When somebody called last, on time.monotonic's clock; asking for the health doesn't count."""
        self._handlers = {
            path: grpc.stream_unary_rpc_method_handler(partial(self._handle, method))
            for path, method in self._build_methods().items()
        }
        self._handlers[f"/{HEALTH}/Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call's method."""
        if not handler_call_details.method.startswith(f"/{HEALTH}/"):
            self.last_call = time.monotonic()
        return self._handlers.get(handler_call_details.method)

    def close(self) -> None:
        """End what would go on for ever: the watching of health."""
        self._is_closing.set()

    def _build_methods(self) -> Mapping[str, _Method]:
        service = self._service
        server = messages.server_metadata()
        model = messages.model_metadata(service.signature, service.name, service.model.platform)

        def live(message: bytes, head: CallHead) -> bytes:
            del head
            _parse(pb.ServerLiveRequest, message)
            return pb.ServerLiveResponse(live=True).SerializeToString()

        def ready(message: bytes, head: CallHead) -> bytes:
            del head
            _parse(pb.ServerReadyRequest, message)
            return pb.ServerReadyResponse(ready=service.is_ready).SerializeToString()

        def model_ready(message: bytes, head: CallHead) -> bytes:
            del head
            self._check_model(_parse(pb.ModelReadyRequest, message))
            return pb.ModelReadyResponse(ready=service.is_ready).SerializeToString()

        def metadata(message: bytes, head: CallHead) -> bytes:
            del head
            _parse(pb.ServerMetadataRequest, message)
            return server

        def model_metadata(message: bytes, head: CallHead) -> bytes:
            del head
            self._check_model(_parse(pb.ModelMetadataRequest, message))
            return model

        methods = {
            f"/{INFERENCE}/ServerLive": _Method("grpc_live", live, is_open=True),
            f"/{INFERENCE}/ServerReady": _Method("grpc_ready", ready, is_open=True),
            f"/{INFERENCE}/ModelReady": _Method("grpc_model_ready", model_ready, is_open=True),
            f"/{INFERENCE}/ServerMetadata": _Method("grpc_server_metadata", metadata),
            f"/{INFERENCE}/ModelMetadata": _Method("grpc_model_metadata", model_metadata),
            f"/{INFERENCE}/ModelInfer": _Method(_INFER, self._infer),
            f"/{HEALTH}/Check": _Method("grpc_health", self._check_health, is_open=True),
        }
        if service.remote is not None and service.remote.relay is not None:
            # What is passed on as it is has no rows.
            del methods[f"/{INFERENCE}/ModelInfer"]
        return methods

    async def _handle(self, method: _Method, requests: Any, context: Any) -> bytes | None:
        del requests
        start = time.perf_counter()
        head: CallHead | None = None
        name = method.name
        code, reply, trailers, details = grpc.StatusCode.OK, None, cast(Metadata, ()), ""
        try:
            head = read_head(context.invocation_metadata(), context)
            if self._auth is not None and not method.is_open and not self._auth.allows(head.authorization):
                raise UnauthorizedError("a known token is needed: send the metadata authorization: Bearer <token>")
            if head.is_passed_on and name == _INFER:
                name = PASSED_ON
            message = await self._read(context)
            found = method.respond(message, head)
            if isinstance(found, bytes):
                reply = found
            else:
                answered = (await found).reply
                reply = answered.body
                trailers = tuple((key.decode(), value.decode()) for key, value in answered.headers)
        except RequestError as exc:
            code, trailers, details = code_of(exc), trailers_of(exc), str(exc)
            self._metrics.observe_rejection(type(exc).__name__.removesuffix("Error"))
        except asyncio.CancelledError:
            # The client went away, or its deadline is over: gRPC has told it.
            self._metrics.observe_request(name, grpc.StatusCode.CANCELLED.name, time.perf_counter() - start)
            raise
        except Exception as exc:  # noqa: BLE001 - the edge: the client gets a status and the log no value
            code, details = grpc.StatusCode.INTERNAL, _FAILED
            log_failure(exc, head.request_id if head else "", head.trace if head else None)
        self._metrics.observe_request(name, code.name, time.perf_counter() - start)
        if head is not None and head.trace is not None:
            trailers += tuple((name.decode(), value.decode()) for name, value in head.trace.headers())
        if reply is None:
            await context.abort(code, details, (*trailers, ("x-request-id", head.request_id if head else new_id())))
        if trailers:
            context.set_trailing_metadata(trailers)
        return reply

    async def _read(self, context: Any) -> bytes:
        """The call's message. gRPC itself refuses one that is too large, and would wait for ever for one that isn't."""
        seconds = self._limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError as exc:
            raise BodyTimeoutError(f"the message didn't arrive within {seconds:g} s") from exc
        if message is grpc.aio.EOF:
            raise MalformedRequestError("expected one message; found none")
        return cast(bytes, message)

    def _infer(self, message: bytes, head: CallHead) -> Awaitable[Answered]:
        parse: Parse = partial(self._parse_infer, message, head.request_id)
        router = self._service.rollout.router
        if head.is_passed_on:
            parse = marked(parse, head.context.invocation_metadata())
        elif router is not None and not names_version(message):
            note = partial(_note, head)
            return ask_either(router, self._engine, parse, message, head.request_id, head.context, note)
        return self._engine.ask_parsed(parse, len(message))

    def _parse_infer(self, message: bytes, request_id: str) -> Question:
        """Called on the event loop for small messages, else on a thread."""
        service = self._service
        found = messages.parse_infer(service.features, service.signature, service.name, message, self._limits)
        name = found.id or request_id
        return Question(
            name,
            found.batch,
            len(message),
            lambda answer: Reply(messages.render_infer(service.signature, service.name, answer, found, name)),
        )

    def _check_model(self, request: pb.ModelReadyRequest | pb.ModelMetadataRequest) -> None:
        messages.check_model(self._service.signature, self._service.name, request.name, request.version)

    def _check_health(self, message: bytes, head: CallHead) -> bytes:
        del head
        name = _parse(health_pb2.HealthCheckRequest, message).service
        if name not in _SERVICES:
            raise UnknownPathError(f"this server has the service {INFERENCE!r} and no other")
        return self._health(name)

    def _health(self, name: str) -> bytes:
        status = _Health.SERVING if self._service.is_ready else _Health.NOT_SERVING
        return _Health(status=status if name in _SERVICES else _Health.SERVICE_UNKNOWN).SerializeToString()

    async def _watch(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        """The health now, and whenever it changes, until the server closes."""
        try:
            name = _parse(health_pb2.HealthCheckRequest, message).service
        except RequestError as exc:
            await context.abort(code_of(exc), str(exc))
            return
        if self._watchers >= _MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch already; ask Check instead")
            return
        self._watchers += 1
        last = b""
        try:
            while not self._is_closing.is_set():
                if (health := self._health(name)) != last:
                    last = health
                    yield health
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_SECONDS):
                        await self._is_closing.wait()
        finally:
            self._watchers -= 1


def _note(head: CallHead, error: Exception) -> None:
    """Log why this version failed, where another one answered."""
    if not isinstance(error, RequestError):
        log_failure(error, head.request_id, head.trace)


def _parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise MalformedRequestError(f"the message isn't a {kind.DESCRIPTOR.name}") from None
