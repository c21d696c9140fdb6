"""Errors as gRPC statuses: the only place that knows which error is which code."""

from types import MappingProxyType

import grpc

from modelkit.serve.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    InferenceTimeoutError,
    OverloadedError,
    RequestError,
    RuntimeAnswerError,
    RuntimeUnavailableError,
    UnauthorizedError,
    UnknownPathError,
)

Metadata = tuple[tuple[str, str], ...]

_CODES = MappingProxyType(
    {
        UnauthorizedError: grpc.StatusCode.UNAUTHENTICATED,
        UnknownPathError: grpc.StatusCode.NOT_FOUND,
        BodyTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
        BodyTooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        OverloadedError: grpc.StatusCode.UNAVAILABLE,
        InferenceTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
        RuntimeAnswerError: grpc.StatusCode.INTERNAL,
        RuntimeUnavailableError: grpc.StatusCode.UNAVAILABLE,
    }
)
"""Any other RequestError is INVALID_ARGUMENT: what was sent is wrong, and sending it again doesn't help."""
_LATER: Metadata = (("retry-after", "1"), ("grpc-retry-pushback-ms", "1000"))
"""For people, and for gRPC's own retries (gRFC A6)."""


def code_of(error: RequestError) -> grpc.StatusCode:
    """The code that tells a client of `error`."""
    return _CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT)


def trailers_of(error: RequestError) -> Metadata:
    """What else a client should know of it."""
    return _LATER if isinstance(error, OverloadedError | RuntimeUnavailableError) else ()
