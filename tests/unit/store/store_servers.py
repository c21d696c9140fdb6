"""Real servers on loopback: files over TLS with a certificate of their own, and just enough of three object stores."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
# What a list of objects looks like: one entry, and the whole.
_S3 = (
    "<Contents><Key>{path}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
    "<Size>{size}</Size></Contents>",
    "<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
)
_AZURE = (
    "<Blob><Name>{path}</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
    "<Etag>x</Etag><Content-Length>{size}</Content-Length><Content-Type>text/csv</Content-Type></Properties></Blob>",
    "<EnumerationResults><Blobs>{}</Blobs><NextMarker/></EnumerationResults>",
)


@dataclass
class Files:
    """What a server has, and what it was asked."""

    content: dict[str, bytes]
    """By path, without the leading `/`."""
    authorization: str | None = None
    """What the header must be; None: anything."""
    ranges: bool = True
    lengths: bool = True
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers to paths other than with their content."""
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    """Method, target and headers, lower case."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """Of an answer with a status."""


def _handler(files: Files) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            files.requests.append((self.command, self.path, headers))
            parts = urlsplit(self.path)
            path = unquote(parts.path).lstrip("/")
            if files.authorization is not None and headers.get("authorization") != files.authorization:
                return self._answer(401, b"")
            query = parse_qs(parts.query)
            if "list-type" in query or "comp" in query:
                entry, whole = _AZURE if "comp" in query else _S3
                return self._answer(200, self._listed(path, query["prefix"][0], entry, whole))
            if path in files.statuses:
                return self._answer(files.statuses[path], files.bodies.get(path, b""))
            if path not in files.content:
                return self._answer(404, b"")
            return self._send(files.content[path], headers.get("range"))

        do_HEAD = do_GET  # noqa: N815 - the base class calls it so

        def _send(self, data: bytes, wanted: str | None) -> None:
            if wanted is None or not files.ranges:
                return self._answer(200, data)
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            part = data[int(start) : int(end) + 1]
            return self._answer(206, part, {"Content-Range": f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"})

        def _answer(self, status: int, data: bytes, more: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            if files.lengths:
                self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            for key, value in (more or {}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _listed(self, bucket: str, prefix: str, entry: str, whole: str) -> bytes:
            below = f"{bucket.rstrip('/')}/"
            entries = [
                entry.format(path=path.removeprefix(below), size=len(data))
                for path, data in sorted(files.content.items())
                if path.startswith(below + prefix)
            ]
            return whole.format("".join(entries)).encode()

    return Handler


@contextmanager
def serve(files: Files, tls: Path | None = None) -> Iterator[str]:
    """The address of a running server, `http://127.0.0.1:port`, or https:// with the PEM file `tls`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(files))
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that break off are the test
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def make_certificate(folder: Path) -> tuple[Path, str]:
    """A server's PEM file (certificate and key) for 127.0.0.1, and the PEM text of the authority that signed it."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]

    def certificate(index: int, authority: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(names[0], names[index], keys[index].public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        if not authority:
            address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(address, critical=False)
        return builder.sign(keys[0], hashes.SHA256())

    pem = serialization.Encoding.PEM
    key = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(certificate(1, False).public_bytes(pem) + key)
    return file, certificate(0, True).public_bytes(pem).decode()
