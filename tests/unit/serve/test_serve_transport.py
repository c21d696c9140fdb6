"""What clients may do to a connection: shapes that two parties could read differently, slowness, size, order."""

import gzip
import json
import select
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelkit.contract.config import LimitsConfig
from tests.unit.serve.conftest import Serve, Served, serving
from tests.unit.serve.serve_models import diabetes, iris
from tests.unit.serve.serve_sockets import (
    BODY,
    GET,
    HEAD,
    Reply,
    connect,
    connected,
    exchange,
    parse_replies,
    post,
    read_all,
    read_replies,
    statuses,
)

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
END = b"0\r\n\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\n"

SHAPES: dict[str, tuple[bytes, list[int]]] = {
    # Where does the body end?
    "length and chunked": (HEAD + LENGTH + CHUNKED + b"\r\n" + END + GET, [400]),
    "chunked and length": (HEAD + CHUNKED + LENGTH + b"\r\n" + END + GET, [400]),
    "two differing lengths": (HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY, [400]),
    "two equal lengths": (HEAD + LENGTH + LENGTH + b"\r\n" + BODY, [400]),
    "a list of lengths": (HEAD + b"Content-Length: 5, 5\r\n\r\n" + BODY, [400]),
    "a length with a plus": (HEAD + b"Content-Length: +5\r\n\r\n" + BODY, [400]),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n" + BODY, [400]),
    "two numbers as length": (HEAD + b"Content-Length: 5 5\r\n\r\n" + BODY, [400]),
    "a hexadecimal length": (HEAD + b"Content-Length: 0x5\r\n\r\n" + BODY, [400]),
    "an empty length": (HEAD + b"Content-Length:\r\n\r\n" + BODY, [400]),
    "a length beyond 64 bits": (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", [400]),
    "a length in other digits": (HEAD + "Content-Length: ٥\r\n\r\n".encode() + BODY, [400]),
    "an unknown coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", [501]),
    "an unknown coding before chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END, [501]),
    "identity as coding": (HEAD + b"Transfer-Encoding: identity\r\n\r\n" + END, [501]),
    "nearly chunked": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + END, [501]),
    "chunked in quotes": (HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n' + END, [501]),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END, [400]),
    "chunked in two headers": (HEAD + CHUNKED + CHUNKED + b"\r\n" + END, [400]),
    "chunked and identity": (HEAD + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + END, [400]),
    "chunked after a vertical tab": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END, [400]),
    "chunked in HTTP/1.0": (b"POST /predict HTTP/1.0\r\n" + CHUNKED + b"\r\n" + CHUNK + END, [400]),
    "a chunk size with a plus": (HEAD + CHUNKED + b"\r\n+2\r\n{}\r\n" + END, [400]),
    "a negative chunk size": (HEAD + CHUNKED + b"\r\n-2\r\n{}\r\n" + END, [400]),
    "a chunk size with 0x": (HEAD + CHUNKED + b"\r\n0x2\r\n{}\r\n" + END, [400]),
    "a chunk size before a space": (HEAD + CHUNKED + b"\r\n2 \r\n{}\r\n" + END, [400]),
    "a chunk size with an underscore": (HEAD + CHUNKED + b"\r\n1_0\r\n{}\r\n" + END, [400]),
    "a chunk size beyond 64 bits": (HEAD + CHUNKED + b"\r\nfffffffffffffffff\r\n{}\r\n" + END, [400]),
    "an empty chunk size": (HEAD + CHUNKED + b"\r\n\r\n{}\r\n" + END, [400]),
    "a chunk longer than its size": (HEAD + CHUNKED + b"\r\n1\r\n{}\r\n" + END, [400]),
    "a chunk that ends in a bare LF": (HEAD + CHUNKED + b"\r\n2\r\n{}\n" + END, [400]),
    "a chunk size that ends in a bare LF": (HEAD + CHUNKED + b"\r\n2\n{}\r\n" + END, [400]),
    "a length as trailer": (HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\nContent-Length: 3\r\n\r\n", [400]),
    # Where does the head end?
    "bare LF everywhere": (b"GET /v2/health/live HTTP/1.1\nHost: pod\n\n", [400]),
    "a bare LF after a header": (LIVE + b"Host: pod\nX: y\r\n\r\n", [400]),
    "a bare LF at the end": (LIVE + b"Host: pod\r\n\n", [400]),
    "a bare CR in a header": (LIVE + b"Host: pod\rX: y\r\n\r\n", [400]),
    "a folded header": (LIVE + b"Host: pod\r\nX: a\r\n b\r\n\r\n", [400]),
    "a folded header with a tab": (LIVE + b"Host: pod\r\nX: a\r\n\tb\r\n\r\n", [400]),
    "a first header after a space": (LIVE + b" Host: pod\r\n\r\n", [400]),
    "a space before the colon": (LIVE + b"Host : pod\r\n\r\n", [400]),
    "a tab before the colon": (HEAD + b"Content-Length\t: 5\r\n\r\n" + BODY, [400]),
    "a header without name": (LIVE + b"Host: pod\r\n: x\r\n\r\n", [400]),
    "a header without colon": (LIVE + b"Host: pod\r\nnothing\r\n\r\n", [400]),
    "a quote in a header's name": (LIVE + b'Host: pod\r\nX"y: z\r\n\r\n', [400]),
    "NUL in a header": (LIVE + b"Host: pod\r\nX: a\0b\r\n\r\n", [400]),
    "NUL in a header's name": (LIVE + b"Host: pod\r\nX\0: a\r\n\r\n", [400]),
    "a control character in a header": (LIVE + b"Host: pod\r\nX: a\x01b\r\n\r\n", [400]),
    # Who is asked for what?
    "no host": (LIVE + b"\r\n", [400]),
    "two hosts": (LIVE + b"Host: pod\r\nHost: other\r\n\r\n", [400]),
    "a host with a path": (LIVE + b"Host: pod/x\r\n\r\n", [400]),
    "a host with a space": (LIVE + b"Host: pod other\r\n\r\n", [400]),
    "two content types": (HEAD + LENGTH + b"Content-Type: application/json\r\n" * 2 + b"\r\n" + BODY, [400]),
    "two authorizations": (LIVE + b"Host: pod\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", [400]),
    "NUL in the target": (b"GET /v2/health/live\0 HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "a space in the target": (b"GET /v2/health/live x HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "a byte beyond ASCII in the target": (b"GET /\xff HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "a fragment": (b"GET /v2#x HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "a lower-case method": (b"get /v2 HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "an unknown method": (b"FOO /v2 HTTP/1.1\r\nHost: pod\r\n\r\n", [400]),
    "CONNECT": (b"CONNECT pod:80 HTTP/1.1\r\nHost: pod:80\r\n\r\n" + GET, [400]),
    "HTTP/0.9": (b"GET /v2\r\n\r\n", [400]),
    "HTTP/1.2": (b"GET /v2 HTTP/1.2\r\nHost: pod\r\n\r\n", [400]),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "HTTP/2.0 by name": (b"GET /v2 HTTP/2.0\r\nHost: pod\r\n\r\n", [400]),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), [400]),
    "an expectation that nobody knows": (HEAD + LENGTH + b"Expect: money\r\n\r\n" + BODY, [417]),
    "a number that is none": (HEAD + LENGTH + b"Inference-Header-Content-Length: -1\r\n\r\n" + BODY, [400]),
    # What must work.
    "chunked": (HEAD + CHUNKED + b"\r\n" + CHUNK + END, [200]),
    "chunked in capitals": (HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNK + END, [200]),
    "a chunk with an extension": (HEAD + CHUNKED + b"\r\n" + CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + END, [200]),
    "a trailer": (HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\nX-Checksum: 5\r\n\r\n" + GET, [200, 200]),
    "HTTP/1.0": (b"GET /v2/health/live HTTP/1.0\r\n\r\n", [200]),
    "an absolute target": (b"GET http://pod/v2/health/live HTTP/1.1\r\nHost: pod\r\n\r\n", [200]),
    "a percent-encoded path": (b"GET /v2/health/%6Cive HTTP/1.1\r\nHost: pod\r\n\r\n", [200]),
    "a query": (b"GET /v2/health/live?verbose=1 HTTP/1.1\r\nHost: pod\r\n\r\n", [200]),
    "a body on GET": (LIVE + b"Host: pod\r\nContent-Length: 3\r\n\r\nabc" + GET, [200, 200]),
    "an empty line before": (b"\r\n" + GET, [200]),
    "an upgrade that isn't taken": (
        LIVE + b"Host: pod\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET,
        [200, 200],
    ),
    "an upgrade with a body": (
        HEAD + LENGTH + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + BODY + GET,
        [200, 200],
    ),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\nHost: pod\r\n\r\n", [404]),
    "HEAD": (b"HEAD /metrics HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n", [200]),
    "nothing after close": (LIVE + b"Host: pod\r\nConnection: close\r\n\r\n" + GET, [200]),
    "a request after an unknown path": (post(path="/nothing") + GET, [404, 200]),
    "a request after a wrong type": (post(headers=b"Content-Type: text/plain\r\n") + GET, [415, 200]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_a_request_has_one_meaning(shared: Serve, name: str) -> None:
    data, expected = SHAPES[name]
    port = shared(iris()).loopback.port
    replies = exchange(port, data)
    if name == "HEAD":
        assert replies == [] or statuses(replies) == expected
        return
    assert statuses(replies) == expected
    for reply in replies:
        assert reply.status < 400 or set(reply.json) == {"error"}
    if expected[-1] in (400, 417, 501):
        assert replies[-1].headers["connection"] == "close"
    # Byte by byte means the same.
    with connect(port) as connection:
        with suppress(OSError):
            for index in range(len(data)):
                connection.sendall(data[index : index + 1])
            connection.shutdown(socket.SHUT_WR)
        assert statuses(parse_replies(read_all(connection))) == expected


@pytest.mark.parametrize("kind", ["gzip", "x-gzip", "GZIP"])
def test_a_gzip_body_is_decompressed(shared: Serve, kind: str) -> None:
    body = gzip.compress(BODY[:20]) + gzip.compress(BODY[20:])
    (reply,) = exchange(shared(iris()).loopback.port, post(body, headers=b"Content-Encoding: %b\r\n" % kind.encode()))
    assert reply.json["predictions"] == ["setosa"]


def test_feedback_may_be_compressed_too(shared: Serve) -> None:
    body = gzip.compress(b'{"id": "a", "label": "setosa"}')
    (reply,) = exchange(
        shared(iris()).loopback.port, post(body, path="/feedback", headers=b"Content-Encoding: gzip\r\n")
    )
    assert (reply.status, reply.json) == (202, {"accepted": 1})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (gzip.compress(BODY)[:-9], 400, "ends too early"),
        (gzip.compress(BODY)[:-4] + b"\0\0\0\0", 400, "isn't gzip"),
        (BODY, 400, "isn't gzip"),
        (zlib.compress(BODY), 400, "isn't gzip"),
        (gzip.compress(b" " * 2_000_000), 413, "when it is decompressed"),
        (gzip.compress(gzip.compress(BODY)), 400, "isn't JSON"),
    ],
    ids=["cut", "a wrong sum", "plain", "zlib", "a bomb", "twice"],
)
def test_a_gzip_body_that_is_none_or_too_much_is_refused(shared: Serve, body: bytes, status: int, message: str) -> None:
    port = shared(iris()).loopback.port
    first, second = exchange(port, post(body, headers=b"Content-Encoding: gzip\r\n") + GET)
    assert (first.status, second.status) == (status, 200)
    assert message in first.json["error"]


@pytest.mark.parametrize("kind", [b"deflate", b"br", b"gzip, gzip", b"zstd"])
def test_other_encodings_are_a_415(shared: Serve, kind: bytes) -> None:
    (reply,) = exchange(shared(iris()).loopback.port, post(headers=b"Content-Encoding: %b\r\n" % kind))
    assert reply.status == 415


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


def test_the_trace_of_a_request_comes_back_with_its_answer(shared: Serve) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    trace = f"traceparent: {parent}\r\ntracestate: a=1\r\nTracestate: b=2\r\n".encode()
    (reply,) = exchange(shared(iris()).loopback.port, post(headers=trace))
    assert (reply.headers["traceparent"], reply.headers["tracestate"]) == (parent, "a=1,b=2")
    (reply,) = exchange(shared(iris()).loopback.port, post(headers=b"traceparent: nonsense\r\n"))
    assert reply.status == 200
    assert "traceparent" not in reply.headers


def request_of(row: int) -> bytes:
    return post(
        json.dumps({"features": diabetes().values(row + 1)[row:]}).encode(), headers=b"X-Request-Id: %d\r\n" % row
    )


STEPS = st.lists(
    st.one_of(
        st.integers(0, 19).map(lambda row: ("row", row)),
        st.sampled_from([("get", 0), ("bad", 0), ("unknown", 0)]),
    ),
    min_size=1,
    max_size=12,
)


def check_reply(reply: Reply, kind: str, row: int) -> None:
    if kind == "row":
        assert (reply.status, reply.json["id"]) == (200, str(row))
        assert reply.json["predictions"] == pytest.approx([diabetes().predictions(20)[row]], rel=1e-4)
    else:
        assert reply.status == {"get": 200, "bad": 400, "unknown": 404}[kind]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(STEPS, min_size=1, max_size=5), data=st.data())
def test_any_interleaving_gets_the_answers_of_asking_alone_in_order(
    shared: Serve, plans: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    port = shared(diabetes()).loopback.port
    wire = {"get": GET, "bad": post(b"{"), "unknown": post(path="/nothing")}
    streams = [b"".join(request_of(row) if kind == "row" else wire[kind] for kind, row in plan) for plan in plans]
    with connected(port, len(plans)) as connections:
        while any(streams):
            index = data.draw(st.sampled_from([at for at, stream in enumerate(streams) if stream]))
            size = data.draw(st.integers(1, len(streams[index])))
            connections[index].sendall(streams[index][:size])
            streams[index] = streams[index][size:]
        for connection, plan in zip(connections, plans, strict=True):
            for reply, (kind, row) in zip(read_replies(connection, len(plan)), plan, strict=True):
                check_reply(reply, kind, row)


def test_hundreds_of_pipelined_requests_are_answered_in_order(shared: Serve) -> None:
    rows = [index % 20 for index in range(300)]
    replies = exchange(shared(diabetes()).loopback.port, b"".join(map(request_of, rows)))
    for reply, row in zip(replies, rows, strict=True):
        check_reply(reply, "row", row)


def test_a_client_that_goes_away_while_it_waits_leaves_no_place_taken(serve: Serve) -> None:
    served = serve(iris())
    release, predict = threading.Event(), served.version.service.model.predict
    served.version.service.model.predict = lambda batch: (release.wait(10), predict(batch))[1]  # type: ignore[method-assign]
    served.app.engine.cost = type(served.app.engine.cost)(fixed=1.0, per_row=0.0)
    for _ in range(5):
        with connect(served.loopback.port) as connection:
            connection.sendall(post())
    deadline = time.monotonic() + 10
    while served.app.engine.active < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    release.set()
    while served.app.engine.active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.app.engine.active == 0


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
