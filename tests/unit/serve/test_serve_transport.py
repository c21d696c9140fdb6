"""What clients may do to a connection: shapes that two parties could read differently, encodings, order."""

import gzip
import json
import socket
import time
import zlib
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.serve.conftest import Serve, slow_down
from tests.unit.serve.serve_models import diabetes, iris
from tests.unit.serve.serve_shapes import SHAPES
from tests.unit.serve.serve_sockets import (
    BODY,
    GET,
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
    release = slow_down(served)
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
