"""The little of HTTP that the server needs on top of ASGI: heads, bodies within limits, responses."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from modelkit.serve.body import check_id, new_id
from modelkit.serve.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    RequestError,
    UnsupportedMediaTypeError,
)
from modelkit.serve.question import JSON
from modelkit.serve.routes import Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 30.0
"""A client that needs longer to send its body is cut off."""
_DISCARD_SECONDS = 2.0
_DISCARD_BYTES = 16 * 1024 * 1024
"""How much of a refused body is read away: a client that is still sending would else never see the answer."""


class DisconnectedError(RequestError):
    """The client went away before its body was complete; nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """The headers that matter."""

    request_id: str
    """The client's X-Request-Id or a new one."""
    named: bool
    """Did the client name it?"""
    content_type: bytes
    content_encoding: bytes
    content_length: int | None


def parse_head(scope: Scope) -> Head:
    """The request's head; raises MalformedRequestError for an X-Request-Id that can't be used."""
    request_id = content_type = content_encoding = length = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = int(value)
        elif name == b"x-request-id":
            request_id = value
        elif name == b"content-encoding":
            content_encoding = value
    named = None if request_id is None else check_id(request_id.decode("latin-1"), "the header X-Request-Id")
    return Head(named or new_id(), named is not None, content_type or b"", content_encoding or b"", length)


def check_json(head: Head) -> None:
    """Raise UnsupportedMediaTypeError unless the body is said to be plain JSON, or nothing is said."""
    if head.content_encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaTypeError("the body must not be compressed (Content-Encoding)")
    kind = head.content_type.partition(b";")[0].strip().lower()
    if kind not in (b"", JSON) and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise UnsupportedMediaTypeError("the body must be JSON: send Content-Type: application/json")


async def read_body(head: Head, receive: Receive, limit: int) -> bytes:
    """The whole body, refused as soon as it is known to be longer than `limit` bytes."""
    if head.content_length is not None and head.content_length > limit:
        raise BodyTooLargeError(f"the body has {head.content_length} bytes; the limit is {limit}")
    # asyncio.timeout does the same, for 8 µs instead of 1: a tenth of a small request.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    timer = loop.call_later(BODY_SECONDS, task.cancel)
    try:
        return await _read_all(receive, limit)
    except asyncio.CancelledError as exc:
        if loop.time() < timer.when():
            raise
        task.uncancel()
        raise BodyTimeoutError(f"the body didn't arrive within {BODY_SECONDS:g} s") from exc
    finally:
        timer.cancel()


async def discard_body(scope: Scope, receive: Receive) -> None:
    """Read away what a refused client is still sending, within bounds."""
    if any(name == b"expect" for name, _ in scope["headers"]):
        return  # It waits for a word before it sends, and reading would be that word.
    left = _DISCARD_BYTES
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


async def send_response(send: Send, response: Response, request_id: str, *, close: bool) -> None:
    """Send the whole response; `close` ends the connection after it."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-request-id", request_id.encode("ascii")),
        *response.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _read_all(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError("the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError(f"the body has more than the limit of {limit} bytes")
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)
