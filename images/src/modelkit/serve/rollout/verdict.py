"""What became of a request at one of the versions. Pure."""

from typing import Any

import grpc

from modelkit.contract.route import ERROR, REFUSED, TIMEOUT, UNREACHABLE
from modelkit.serve.errors import (
    InferenceTimeoutError,
    OverloadedError,
    RequestError,
    RuntimeAnswerError,
    RuntimeUnavailableError,
)
from modelkit.serve.record import record
from modelkit.serve.routes import Response

ANSWERED = "Answered"

_OURS = (OverloadedError, RuntimeAnswerError, RuntimeUnavailableError)
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""A message that is too large is the only exhausted resource that our servers tell of."""
_UNCOUNTED = frozenset({"CANCELLED", *(code.name for code in _REFUSALS)})


@record
class PassedOn:
    """The other version's answer, for the client."""

    id: str
    """The request's, as the other version understood it."""
    response: Response
    """By gRPC, its body is the message."""
    predictions: bytes | None = None
    """The header of that name."""


@record
class Verdict:
    """What the other version made of a request."""

    kind: str
    """ANSWERED or one of FAILURES."""
    passed: PassedOn | None = None
    """When it answered."""
    seconds: float = 0.0


def judge_error(error: BaseException) -> str:
    """This version's failure: one of FAILURES, REFUSED when the client asked wrongly."""
    if isinstance(error, InferenceTimeoutError):
        return TIMEOUT
    return REFUSED if isinstance(error, RequestError) and not isinstance(error, _OURS) else ERROR


def judge_status(status: int) -> str:
    """The other version's HTTP status."""
    if 200 <= status < 300:
        return ANSWERED
    if status == 504:
        return TIMEOUT
    return REFUSED if 400 <= status < 500 and status != 429 else ERROR


def judge_code(code: Any, *, has_answered: bool) -> str:
    """The other version's gRPC status; `has_answered`: it came from a server of ours, not from the way there."""
    if code in _REFUSALS:
        return REFUSED
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TIMEOUT
    return UNREACHABLE if code is grpc.StatusCode.UNAVAILABLE and not has_answered else ERROR


def judge_counted(code: int | str) -> str | None:
    """A code that requests are counted by in /metrics; None for what only concerns the client."""
    if isinstance(code, int):
        kind = ERROR if code == 429 else judge_status(code)
        return None if kind == REFUSED or code == 501 else kind
    if code == "OK":
        return ANSWERED
    if code in _UNCOUNTED:
        return None
    return TIMEOUT if code == "DEADLINE_EXCEEDED" else ERROR
