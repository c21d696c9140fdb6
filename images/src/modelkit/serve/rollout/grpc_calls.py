"""What a gRPC call is to the router, and what a call that another pod passes on is to this one. On the event loop."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from modelkit.serve.engine import Engine, Parse
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.question import Question, Reply
from modelkit.serve.rollout.grpc_peer import build_metadata
from modelkit.serve.rollout.lane import Lane
from modelkit.serve.rollout.marks import PREFIX, Headers, apply_marks
from modelkit.serve.rollout.router import Ask, Router
from modelkit.serve.rollout.verdict import PassedOn, Verdict
from modelkit.serve.service import Answered
from modelkit.serve.together import Outcome

_NO_DEADLINE = 3600.0
"""gRPC says so much, or nothing, where the client waits for ever."""


def names_version(message: bytes) -> bool:
    """Does the client want one version and no other? Also of what is no request: the version here may refuse it."""
    try:
        return bool(pb.ModelInferRequest.FromString(message).model_version)
    except DecodeError:
        return True


async def ask_either(
    router: Router,
    engine: Engine,
    parse: Parse,
    message: bytes,
    request_id: str,
    context: Any,
    note: Callable[[Exception], None],
) -> Answered:
    """The answer of whichever version is asked; raises as Engine.ask_parsed does."""
    metadata = context.invocation_metadata()
    pass_on = partial(_pass_on, message, metadata, request_id)
    left = context.time_remaining()
    seconds = None if left is None or left > _NO_DEADLINE else left
    ask = Ask(engine, parse, len(message), False, _read_key(router, metadata), pass_on, note, seconds)
    future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome | PassedOn) -> None:
        if future.done():
            return  # It was cancelled in this very moment.
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif isinstance(outcome, PassedOn):
            future.set_result(Answered(outcome.id, Reply(outcome.response.body)))
        else:
            future.set_result(outcome)

    waiting = router.answer(ask, done)
    try:
        return await future
    finally:
        if waiting is not None:
            waiting.abandon()


def marked(parse: Parse, metadata: Iterable[tuple[str, Any]]) -> Parse:
    """`parse` for a call that another pod has passed on, with its marks."""
    names = [name.encode() for name, _ in metadata if name.startswith(PREFIX.decode())]

    def parse_marked() -> Question:
        return apply_marks(parse(), names)

    return parse_marked


def _read_key(router: Router, metadata: Iterable[tuple[str, Any]] | None) -> str | None:
    wanted = router.rule.sticky_header
    if wanted is None:
        return None
    found = next((value for name, value in metadata or () if name == wanted), "")
    return (found.decode("latin-1") if isinstance(found, bytes) else found) or None


async def _pass_on(message: bytes, metadata: Any, request_id: str, lane: Lane, marks: Headers) -> Verdict:
    return await lane.grpc.ask(message, build_metadata(metadata, request_id, marks), request_id)
