"""Bytes over a socket, for what no HTTP client would send."""

import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.unit.serve.serve_models import iris

BODY = json.dumps({"features": iris().values(1)}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: pod\r\n"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: pod\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def post(body: bytes = BODY, *, path: str = "/predict", headers: bytes = b"") -> bytes:
    """A whole request."""
    return b"POST %b HTTP/1.1\r\nHost: pod\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        headers,
        len(body),
        body,
    )


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@contextmanager
def connected(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Many connections, closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port)) for _ in range(count)]


def exchange(port: int, *parts: bytes, half_close: bool = True) -> list[Reply]:
    """Send the parts, then no more, and read until the server closes the connection."""
    with connect(port) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except (ConnectionResetError, BrokenPipeError):
                break
        if half_close:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        return parse_replies(read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def read_replies(connection: socket.socket, count: int) -> list[Reply]:
    """The next `count` responses of a connection that stays open."""
    received = b""
    while len(replies := parse_replies(received)) < count:
        chunk = connection.recv(65_536)
        assert chunk, "the server closed the connection"
        received += chunk
    assert len(replies) == count
    return replies


def parse_replies(received: bytes) -> list[Reply]:
    """Whole responses; what is left over must be the beginning of one."""
    replies = []
    while (end := received.find(b"\r\n\r\n")) >= 0:
        line, *lines = received[:end].decode("latin-1").split("\r\n")
        headers = dict(_header(text) for text in lines)
        size = int(headers.get("content-length", 0))
        body = received[end + 4 : end + 4 + size]
        if len(body) < size:
            break
        received = received[end + 4 + size :]
        replies.append(Reply(int(line.split()[1]), headers, body))
    return replies


def statuses(replies: Iterable[Reply]) -> list[int]:
    return [reply.status for reply in replies]


def _header(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"([a-z0-9-]+): (.*)", text)
    assert found, text
    return found.group(1), found.group(2)
