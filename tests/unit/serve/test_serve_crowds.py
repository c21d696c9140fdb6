"""Clients that are slow, many or too much: what they meet, and that others don't notice."""

import select
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from tests.unit.serve.conftest import Serve, Served, serving
from tests.unit.serve.serve_models import iris
from tests.unit.serve.serve_shapes import CHUNKED, LENGTH, LIVE, SHAPES
from tests.unit.serve.serve_sockets import BODY, GET, HEAD, connect, connected, exchange, post, read_replies, statuses


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Small limits and little patience."""
    limits = LimitsConfig(header_seconds=0.3, body_seconds=0.3, max_header_bytes=1024, max_body_bytes=65_536)
    with serving(tmp_path_factory.mktemp("strict"), iris(), limits=limits) as served:
        yield served


@pytest.mark.parametrize(
    "head",
    [
        LIVE + b"Host: pod\r\nX: " + b"a" * 2000,
        LIVE + b"Host: pod\r\n" + b"X: a\r\n" * 400 + b"\r\n",
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: pod\r\n\r\n",
        b"GET /" + b"a" * 2000,
        b"\r\n" * 1000,
    ],
    ids=["one header", "many headers", "the target", "an endless target", "empty lines"],
)
def test_a_head_over_the_limit_is_a_431(strict: Served, head: bytes) -> None:
    replies = exchange(strict.loopback.port, head, half_close=False)
    assert statuses(replies) == [431]
    assert replies[0].headers["connection"] == "close"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 408),
        (b"GET /v2", 408),
        (LIVE + b"Host: pod\r\n", 408),
        (HEAD + b"Content-Length: 10\r\n\r\n123", 408),
        (HEAD + CHUNKED + b"\r\n5\r\n12", 408),
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a chunk"],
)
def test_what_does_not_come_in_time_is_a_408(strict: Served, data: bytes, status: int) -> None:
    start = time.monotonic()
    replies = exchange(strict.loopback.port, data, half_close=False)
    assert statuses(replies) == [status]
    assert 0.25 < time.monotonic() - start < 5


def test_time_for_a_head_is_not_longer_for_one_that_comes_byte_by_byte(strict: Served) -> None:
    start = time.monotonic()
    with connect(strict.loopback.port) as connection:
        for byte in b"GET /v2 HTTP/1.1\r\n" + b"X: y\r\n" * 1000:
            if select.select([connection], [], [], 0.02)[0]:
                break
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < 5


def test_a_connection_that_was_used_may_be_idle_for_longer(strict: Served) -> None:
    with connect(strict.loopback.port) as connection:
        connection.sendall(GET)
        read_replies(connection, 1)
        assert not select.select([connection], [], [], 0.7)[0]
        connection.sendall(GET)
        assert statuses(read_replies(connection, 1)) == [200]


def test_an_endless_chunk_extension_is_cut_off(strict: Served) -> None:
    with connect(strict.loopback.port) as connection:
        connection.sendall(HEAD + CHUNKED + b"\r\n5;")
        sent = 0
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"a" * 65_536)
            sent += 65_536
        assert connection.recv(100).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 408 "))
    assert sent < 256 * 65_536


def test_a_body_is_asked_for_only_when_it_will_be_read(strict: Served) -> None:
    expect = b"Expect: 100-continue\r\n"
    with connect(strict.loopback.port) as connection:
        connection.sendall(GET + HEAD + expect + LENGTH + b"\r\n")
        first, word = read_replies(connection, 2)
        assert (first.status, word.status) == (200, 100)
        connection.sendall(BODY)
        assert statuses(read_replies(connection, 1)) == [200]
    for head in (
        HEAD + expect + b"Content-Length: 70000\r\n",
        HEAD.replace(b"predict", b"nothing") + expect + LENGTH,
        HEAD + expect + LENGTH + b"Content-Type: text/plain\r\n",
    ):
        (reply,) = exchange(strict.loopback.port, head + b"\r\n", half_close=False)
        assert reply.status in (413, 404, 415)
        assert reply.headers["connection"] == "close"


def test_honest_clients_are_answered_while_hundreds_of_connections_crawl(serve: Serve) -> None:
    port = serve(iris(), limits=LimitsConfig(header_seconds=30)).loopback.port
    with connected(port, 400) as crawling:
        for index, connection in enumerate(crawling):
            connection.sendall(LIVE[: 1 + index % 20])
        for _ in range(3):
            for connection in crawling:
                connection.sendall(b"H")
            assert statuses(exchange(port, post() * 5)) == [200] * 5


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Room for ten connections."""
    with serving(tmp_path_factory.mktemp("narrow"), iris(), limits=LimitsConfig(max_connections=10)) as served:
        yield served


def test_beyond_the_most_connections_the_one_that_is_idle_longest_goes(narrow: Served) -> None:
    with connected(narrow.loopback.port, 10) as connections:
        for connection in connections:
            connection.sendall(GET)
            read_replies(connection, 1)
        assert statuses(exchange(narrow.loopback.port, GET)) == [200]
        with suppress(ConnectionError):
            assert connections[0].recv(1) == b""
        for connection in connections[1:]:
            connection.sendall(GET)
            assert statuses(read_replies(connection, 1)) == [200]


def test_half_a_head_is_idle_too_so_that_slow_clients_take_no_room(narrow: Served) -> None:
    with connected(narrow.loopback.port, 30) as crawling:
        for connection in crawling:
            connection.sendall(b"GET /v2 HT")
        assert statuses(exchange(narrow.loopback.port, GET)) == [200]


def test_when_all_connections_are_busy_a_further_one_is_a_503(narrow: Served) -> None:
    with connected(narrow.loopback.port, 10) as busy:
        for connection in busy:
            connection.sendall(HEAD + LENGTH + b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        (reply,) = exchange(narrow.loopback.port)
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        for connection in busy:
            connection.sendall(BODY)
            assert statuses(read_replies(connection, 1)) == [200]


def test_a_client_that_does_not_read_is_cut_off_and_fills_no_memory(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkit.serve.connection.WRITE_SECONDS", 0.3)
    served = serve(iris())
    with connect(served.loopback.port) as connection:
        connection.setblocking(False)
        sent, request = 0, b"GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n" * 200
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                sent += connection.send(request)
            except BlockingIOError:
                time.sleep(0.02)
            except ConnectionError:
                break
        else:
            raise AssertionError(f"the server still reads after {sent} bytes")
    assert statuses(exchange(served.loopback.port, GET)) == [200]


DAMAGE = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 6), st.binary(max_size=3)),
    max_size=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=3), damage=DAMAGE, cut=st.integers(0, 400))
def test_damaged_requests_are_never_the_servers_fault(
    strict: Served, names: list[str], damage: list[tuple[int, int, bytes]], cut: int
) -> None:
    data = b"".join(SHAPES[name][0] for name in names)
    for at, removed, added in damage:
        data = data[:at] + added + data[at + removed :]
    replies = exchange(strict.loopback.port, *filter(None, (data[:cut], data[cut:])))
    assert set(statuses(replies)) <= {200, 400, 404, 405, 413, 415, 417, 422, 431, 501}
    assert strict.app.engine.active == 0
