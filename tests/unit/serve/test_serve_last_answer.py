"""The last answer of a connection arrives whole, however slowly it is read, and then the connection goes."""

import json
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelkit.contract.config import LimitsConfig
from modelkit.serve.tls import Certificate
from tests.unit.serve.conftest import Served, serving
from tests.unit.serve.serve_certificates import tls_config, write_pair
from tests.unit.serve.serve_models import iris
from tests.unit.serve.serve_sockets import parse_replies, post, read_all

ROWS = 180_000
"""Their answer is larger than what a kernel takes for a client that doesn't read."""
LAST = post(
    json.dumps({"features": iris().values(20) * (ROWS // 20)}).encode(),
    headers=b"Connection: close\r\n",
)


@pytest.fixture(scope="module", params=["plain", "TLS"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, bool]]:
    """A server that takes many rows, and whether it speaks TLS."""
    folder, is_tls = tmp_path_factory.mktemp("large"), request.param == "TLS"
    certificate = make_certificate(folder / "pair") if is_tls else None
    with serving(
        folder, iris(), limits=LimitsConfig(max_rows=ROWS, max_body_bytes=2**24), certificate=certificate
    ) as served:
        yield served, is_tls


def make_certificate(folder: Path) -> Certificate:
    write_pair(folder, "pod")
    return Certificate(tls_config(folder))


@contextmanager
def asking(served: Served, is_tls: bool) -> Iterator[socket.socket]:
    """A client with little room for what it doesn't read, that has asked for the last time; its answer begins."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(30)
    plain.connect(("127.0.0.1", served.loopback.port))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(plain) if is_tls else plain as connection:
        connection.sendall(LAST)
        assert select.select([connection], [], [], 30)[0]
        yield connection


def test_it_arrives_whole_at_a_client_that_reads_slowly(
    large: tuple[Served, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkit.serve.connection.LINGER_SECONDS", 0.2)
    with asking(*large) as connection:
        time.sleep(1.5)  # Longer than a client that has it all may stay.
        (reply,) = parse_replies(read_all(connection))
    assert len(reply.json["predictions"]) == ROWS


def test_after_it_the_connection_is_gone_whether_or_not_the_client_closes_it(
    large: tuple[Served, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkit.serve.connection.LINGER_SECONDS", 0.2)
    served, _ = large
    with asking(*large) as stays:
        read_all(stays)
        with asking(*large) as goes:
            read_all(goes)
        wait_gone(served)


def wait_gone(served: Served) -> None:
    """Until no connection is open."""
    gauge, deadline = served.version.service.metrics.connections, time.monotonic() + 10
    while sum(sample.value for found in gauge.collect() for sample in found.samples):
        assert time.monotonic() < deadline
        time.sleep(0.02)
