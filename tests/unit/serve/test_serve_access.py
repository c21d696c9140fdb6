"""Who gets in, and how: TLS with renewed certificates, bearer tokens that change."""

import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from modelkit.contract.config import AuthConfig, LimitsConfig
from modelkit.errors import RefusedError
from modelkit.serve.auth import Auth
from modelkit.serve.tls import Certificate
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_certificates import make_pair, mount_pair, tls_config, write_pair
from tests.unit.serve.serve_models import iris
from tests.unit.serve.serve_sockets import GET, connect, exchange, parse_replies, post, read_all, read_replies, statuses


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def handshake(port: int, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connect(port), server_hostname="localhost")


def common_name(connection: ssl.SSLSocket) -> str:
    found = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    mount_pair(folder, "first")
    return folder


def test_requests_are_answered_over_tls(serve: Serve, secret: Path) -> None:
    port = serve(iris(), certificate=Certificate(tls_config(secret))).loopback.port
    context = ssl.create_default_context(cafile=str(secret / "tls.crt"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with handshake(port, context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(post() * 3)
        assert statuses(read_replies(connection, 3)) == [200] * 3
        connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
        assert statuses(parse_replies(read_all(connection))) == [400]


def test_a_large_body_comes_whole_over_tls(serve: Serve, secret: Path) -> None:
    port = serve(iris(), certificate=Certificate(tls_config(secret))).loopback.port
    with handshake(port) as connection:
        connection.sendall(post(b" " * 900_000 + b"{}"))
        assert statuses(read_replies(connection, 1)) == [400]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_versions_of_tls_are_spoken(serve: Serve, secret: Path, version: ssl.TLSVersion) -> None:
    port = serve(iris(), certificate=Certificate(tls_config(secret))).loopback.port
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with handshake(port, context) as connection:
        connection.sendall(GET)
        assert statuses(read_replies(connection, 1)) == [200]


def test_older_versions_are_not(secret: Path) -> None:
    assert Certificate(tls_config(secret)).context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_used_for_new_connections_and_old_ones_go_on(serve: Serve, secret: Path) -> None:
    port = serve(iris(), certificate=Certificate(tls_config(secret))).loopback.port

    def shown() -> str:
        with handshake(port) as connection:
            return common_name(connection)

    with handshake(port) as old:
        assert common_name(old) == "first"
        mount_pair(secret, "second")
        wait_until(lambda: shown() == "second")
        old.sendall(GET)
        assert statuses(read_replies(old, 1)) == [200]


def test_a_pair_that_does_not_fit_is_not_taken(secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate = Certificate(tls_config(secret))
    (secret / "tls.key").unlink()
    (secret / "tls.key").write_bytes(make_pair("other")[1])
    assert not certificate.refresh()
    assert "the old one stays" in caplog.text
    assert "PRIVATE" not in caplog.text
    (secret / "tls.crt").unlink()
    assert not certificate.refresh()
    write_pair(secret, "third")
    assert certificate.refresh()
    assert not certificate.refresh()


@pytest.mark.parametrize(
    "files", [{}, {"tls.crt": b"", "tls.key": b""}, {"tls.crt": make_pair("a")[0], "tls.key": make_pair("b")[1]}]
)
def test_a_server_without_a_usable_certificate_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusedError, match="usable certificate") as raised:
        Certificate(tls_config(tmp_path))
    assert raised.value.reason == "BadCertificate"


def test_a_handshake_that_never_comes_is_cut_off_and_plain_http_gets_no_answer(serve: Serve, secret: Path) -> None:
    limits = LimitsConfig(header_seconds=0.3)
    port = serve(iris(), certificate=Certificate(tls_config(secret)), limits=limits).loopback.port
    with connect(port) as connection:
        start = time.monotonic()
        assert connection.recv(10) == b""
        assert time.monotonic() - start < 5
    with connect(port) as connection:
        connection.sendall(GET)
        with suppress(ConnectionError):
            assert b"HTTP" not in read_all(connection)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "alice").write_text("s3cret-of-alice\n")
    (folder / "bob").write_text("s3cret-of-bob")
    (folder / "..data").mkdir()
    (folder / ".hidden").write_text("hidden")
    (folder / "empty").write_text("\n")
    return folder


@pytest.fixture
def guarded(serve: Serve, tokens: Path) -> int:
    return serve(iris(), auth=Auth(AuthConfig(directory=str(tokens)))).loopback.port


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (b"Authorization: Bearer s3cret-of-alice", True),
        (b"authorization: bearer   s3cret-of-bob ", True),
        (b"Authorization: Bearer s3cret-of-alic", False),
        (b"Authorization: Bearer s3cret-of-alicee", False),
        (b"Authorization: Bearer hidden", False),
        (b"Authorization: Bearer", False),
        (b"Authorization: Bearer ", False),
        (b"Authorization: s3cret-of-alice", False),
        (b"Authorization: Basic s3cret-of-alice", False),
        (b"Authorization: Bearer \xff", False),
        (b"X: y", False),
    ],
)
def test_only_known_bearer_tokens_are_let_in(guarded: int, header: bytes, allowed: bool) -> None:
    replies = exchange(guarded, post(headers=header + b"\r\n") + GET)
    assert statuses(replies) == [200 if allowed else 401, 200]
    if not allowed:
        assert replies[0].headers["www-authenticate"] == "Bearer"
        assert set(replies[0].json) == {"error"}


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/v2/health/live", True),
        ("/v2/health/ready", True),
        ("/v2/models/iris/ready", True),
        ("/metrics", True),
        ("/v2", False),
        ("/v2/models/iris", False),
        ("/nothing", False),
    ],
)
def test_probes_and_metrics_are_open_and_nothing_else(guarded: int, path: str, is_open: bool) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n".encode()
    assert statuses(exchange(guarded, request)) == [200 if is_open else 401]


def test_tokens_follow_their_files(guarded: int, tokens: Path) -> None:
    def asked(token: str) -> int:
        return exchange(guarded, post(headers=f"Authorization: Bearer {token}\r\n".encode()))[0].status

    assert asked("s3cret-of-alice") == 200
    (tokens / "alice").unlink()
    (tokens / "carol").write_text("s3cret-of-carol")
    wait_until(lambda: asked("s3cret-of-carol") == 200)
    assert (asked("s3cret-of-alice"), asked("s3cret-of-bob")) == (401, 200)
    for path in ("bob", "carol"):
        (tokens / path).unlink()
    wait_until(lambda: asked("s3cret-of-bob") == 401)
    assert asked("") == 401


def test_tokens_that_can_not_be_read_again_stay_and_none_is_logged(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = Auth(AuthConfig(directory=str(tokens)))
    os.rename(tokens, tokens.with_name("away"))
    auth.refresh()
    assert auth.allows(b"Bearer s3cret-of-bob")
    assert "the known ones stay" in caplog.text
    os.rename(tokens.with_name("away"), tokens)
    (tokens / "dave").write_text("s3cret-of-dave")
    auth.refresh()
    assert auth.allows(b"Bearer s3cret-of-dave")
    assert "s3cret" not in caplog.text


def test_a_server_that_nobody_could_ask_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(RefusedError, match="token") as raised:
            Auth(AuthConfig(directory=str(folder)))
        assert raised.value.reason == "BadTokens"


def test_a_refused_client_can_not_make_the_server_read_a_large_body(guarded: int) -> None:
    with connect(guarded) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: pod\r\nContent-Length: 2000000\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        (reply,) = parse_replies(read_all(connection))
        assert (reply.status, reply.headers["connection"]) == (413, "close")
