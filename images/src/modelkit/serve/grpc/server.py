"""gRPC on a port of its own, in the process and on the event loop of the REST server.

It ends as that does: while the pod drains, calls are answered; then clients are told to go elsewhere (GOAWAY), what is
in flight is finished, and the rest is ended.

A call that comes in the moment in which a gRPC server stops is CANCELLED, while none is lost when a connection ends
by its age. So connections are short-lived, and a server that stops waits until its clients have gone by themselves.
"""

import asyncio
import errno
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from modelkit.contract.config import LimitsConfig, TlsConfig
from modelkit.errors import RefusedError
from modelkit.serve.grpc.calls import Calls
from modelkit.serve.hub import KEEP_ALIVE_SECONDS

logger = logging.getLogger(__name__)

_MESSAGE_BYTES = 65_536
"""What a message may have beyond the largest body: a tensor's names, shapes and parameters."""
_MAX_STREAMS = 128
"""Calls at once on one connection; further ones wait at the client."""
_MAX_CALLS = 4096
"""Calls at once on all connections, with those whose message hasn't come yet."""
_AGE_SPREAD = 0.1
"""gRPC's own, so that connections that were made at once don't end at once."""
_QUIET_SECONDS = 1.0
"""Without a call for so long, nobody is likely to call in the moment of the stop."""
_LOOK_SECONDS = 0.05
_PING_SECONDS = 10
"""Clients that ping more often than this are sent away."""
_PING_STRIKES = 2


def build_options(limits: LimitsConfig, age_seconds: float | None) -> list[tuple[str, int]]:
    """gRPC's channel arguments for `limits`; connections end after about `age_seconds`."""
    age = [] if age_seconds is None else [("grpc.max_connection_age_ms", _milliseconds(age_seconds))]
    return [
        *age,
        ("grpc.max_receive_message_length", limits.max_body_bytes + _MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.server_handshake_timeout_ms", _milliseconds(limits.header_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(limits.body_seconds + limits.inference_seconds)),
        ("grpc.keepalive_time_ms", _milliseconds(KEEP_ALIVE_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(_PING_SECONDS)),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        # Two servers on one port would each get some of the connections.
        ("grpc.so_reuseport", 0),
    ]


class GrpcServer:
    """A companion of the REST server (see server.Companion)."""

    def __init__(
        self, calls: Calls, limits: LimitsConfig, tls: TlsConfig | None, port: int, *, age_seconds: float | None = None
    ) -> None:
        """Port 0 takes a free one; for `age_seconds` see ServerConfig.grpc_age_seconds.

        Raises RefusedError for a certificate that can't be used.
        """
        self.port = port
        """Where it listens, once it does."""
        self._calls = calls
        self._age_seconds = age_seconds
        self._options = build_options(limits, age_seconds)
        self._credentials = None if tls is None else _build_credentials(KeyPair(tls))
        self._server: Any = None

    async def start(self) -> None:
        """Listen on all addresses; raises OSError when somebody else has the port."""
        server = grpc.aio.server(options=self._options, maximum_concurrent_rpcs=_MAX_CALLS)
        server.add_generic_rpc_handlers((self._calls,))
        address = f"[::]:{self.port}"
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, self._credentials)
        except RuntimeError as exc:
            raise OSError(errno.EADDRINUSE, f"the port {self.port} for gRPC can't be listened on") from exc
        await server.start()
        self._server = server

    async def wait_closed(self, seconds: float) -> None:
        """Let clients go elsewhere, take no new calls, finish what is in flight, end the rest after `seconds`."""
        if self._age_seconds is not None:
            await self._wait_quiet(self._age_seconds * (1 + _AGE_SPREAD) + _QUIET_SECONDS)
        self._calls.close()
        await self._server.stop(seconds)

    async def _wait_quiet(self, seconds: float) -> None:
        """Until nobody calls any more; at most so long that every connection has ended by its age."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and now - self._calls.last_call < _QUIET_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)


class KeyPair:
    """A certificate and its key in files that may change. Used from gRPC's threads: one at a time, at handshakes."""

    def __init__(self, config: TlsConfig) -> None:
        self._certificate = Path(config.certificate_path)
        self._key = Path(config.key_path)
        self._known: tuple[bytes, bytes] = (b"", b"")

    def read(self) -> Any:
        """The pair for gRPC; raises RefusedError when it can't be read or doesn't belong together."""
        try:
            self._known = self._load()
        except (OSError, ssl.SSLError) as exc:
            raise RefusedError(
                "BadCertificate",
                f"{self._certificate} and {self._key} aren't a usable certificate and its key ({type(exc).__name__})",
            ) from exc
        return _configuration(self._known)

    def read_changed(self) -> Any:
        """The pair when it is another than at the last time; None when it isn't, or can't be used."""
        try:
            if (self._certificate.read_bytes(), self._key.read_bytes()) == self._known:
                return None
            self._known = self._load()
        except (OSError, ssl.SSLError) as exc:
            logger.error("the new certificate can't be used; the old one stays", extra={"error": type(exc).__name__})
            return None
        return _configuration(self._known)

    def _load(self) -> tuple[bytes, bytes]:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key, password=lambda: "")
        return self._certificate.read_bytes(), self._key.read_bytes()


def _build_credentials(pair: KeyPair) -> Any:
    read_changed: Callable[[], Any] = pair.read_changed
    return grpc.dynamic_ssl_server_credentials(pair.read(), read_changed)


def _configuration(pair: tuple[bytes, bytes]) -> Any:
    certificate, key = pair
    return grpc.ssl_server_certificate_configuration([(key, certificate)])


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
