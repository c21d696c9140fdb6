"""The connection to the runtime: whatever it sends, or doesn't, ends in a whole answer or an error, in time."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from modelkit.errors import RefusedError
from modelkit.serve.errors import InferenceTimeoutError, RuntimeAnswerError, RuntimeUnavailableError
from modelkit.serve.runtime import client as client_module
from modelkit.serve.runtime.client import RuntimeClient
from modelkit.serve.runtime.wire import MAX_HEADER_BYTES, ResponseReader, end_to_end, parse_address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
Script = Callable[[socket.socket], None]


def read_request(connection: socket.socket) -> bytes:
    """A request without a body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return data
        data += part
    return data


@contextmanager
def runtime(*scripts: Script) -> Iterator[str]:
    """A server whose n-th connection is the n-th script's; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for script in scripts:
                connection, _ = listener.accept()
                with connection:
                    script(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def say(*answers: bytes) -> Script:
    """Each request gets the next answer; then the connection is closed."""

    def script(connection: socket.socket) -> None:
        for answer in answers:
            if not read_request(connection):
                return
            connection.sendall(answer)

    return script


def ask(address: str, timeout: float = 5.0) -> tuple[int, bytes]:
    client = RuntimeClient(address, timeout)
    try:
        found = client.ask(b"GET", b"/")
        return found.status, found.body
    finally:
        client.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (200, b"hi")),
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + OK, (200, b"hi")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\nT: x\r\n\r\n", (200, b"hi")),
        (b"HTTP/1.0 200 OK\r\n\r\nhi", (200, b"hi")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", (500, b"")),
    ],
)
def test_whole_answers_are_read_however_they_are_framed(answer: bytes, expected: tuple[int, bytes]) -> None:
    with runtime(say(answer)) as address:
        assert ask(address) == expected

    def slowly(connection: socket.socket) -> None:
        read_request(connection)
        for index in range(len(answer)):
            connection.sendall(answer[index : index + 1])

    with runtime(slowly) as address:
        assert ask(address) == expected


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "isn't HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", "before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection without an answer"),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEADER_BYTES + b"\r\n\r\n",
            "headers of the runtime's answer have more than",
        ),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx", "isn't HTTP/1.1"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(answer: bytes, message: str) -> None:
    with runtime(say(answer)) as address, pytest.raises((RuntimeAnswerError, RuntimeUnavailableError), match=message):
        ask(address)


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 100_000)

    def endless(connection: socket.socket) -> None:
        read_request(connection)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 10_000)
        except OSError:
            return

    with runtime(endless) as address, pytest.raises(RuntimeAnswerError, match="more than 100000 bytes"):
        ask(address)


def test_a_runtime_that_trickles_is_given_up_at_the_deadline_of_the_whole() -> None:
    def trickle(connection: socket.socket) -> None:
        read_request(connection)
        try:
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            return

    start = time.monotonic()
    with runtime(trickle) as address, pytest.raises(InferenceTimeoutError, match=r"within 0\.3 s"):
        ask(address, 0.3)
    assert time.monotonic() - start < 3


def test_connections_are_kept_and_a_closed_one_is_replaced_without_an_error() -> None:
    with runtime(say(OK, OK), say(OK)) as address:
        client = RuntimeClient(address, 5.0)
        # The first two by one connection, which the runtime then closes.
        assert [client.ask(b"GET", b"/").body for _ in range(3)] == [b"hi"] * 3
        client.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", OK + b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_a_connection_is_not_kept_when_it_is_closed_or_says_more_than_was_asked(answer: bytes) -> None:
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    with runtime(say(answer, second), say(OK)) as address:
        client = RuntimeClient(address, 5.0)
        assert [client.ask(b"GET", b"/").body for _ in range(2)] == [b"hi"] * 2
        client.close()


def test_a_runtime_that_closes_without_an_answer_is_unavailable() -> None:
    with runtime(lambda _: None) as address, pytest.raises(RuntimeUnavailableError, match="can't be reached"):
        ask(address)
    with pytest.raises(RuntimeUnavailableError, match="can't be reached"):
        ask(address)


def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    barrier = threading.Barrier(3)

    def together(connection: socket.socket) -> None:
        threading.Thread(target=answer, args=(connection.dup(),), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            read_request(connection)
            barrier.wait(5)
            connection.sendall(OK)

    with runtime(together, together, together) as address:
        client = RuntimeClient(address, 5.0)
        bodies: list[bytes] = []
        threads = [threading.Thread(target=lambda: bodies.append(client.ask(b"GET", b"/").body)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        client.close()
    assert bodies == [b"hi"] * 3


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:1", "127.0.0.1:80", "http://127.0.0.1", "http://h:99999", "http://h:1/path", ""]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(RefusedError, match="must be http://") as caught:
        parse_address(address)
    assert caught.value.reason == "BadConfig"


def test_headers_of_the_connection_are_not_passed_on() -> None:
    headers: Sequence[tuple[bytes, bytes]] = [
        (b"Connection", b"close, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Content-Length", b"3"),
        (b"Accept", b"*/*"),
        (b"Cookie", b"a=b"),
    ]
    assert end_to_end(headers) == [(b"accept", b"*/*"), (b"cookie", b"a=b")]


def test_the_length_of_an_answer_to_head_is_of_no_body() -> None:
    reader = ResponseReader(b"HEAD")
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    assert (reader.is_complete, reader.status, reader.take()) == (True, 200, b"")
