"""A server with a protocol of its own, as vLLM has one: `python raw_server.py <port>`."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GO = threading.Event()
GONE = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """By path."""
        path = self.path.partition("?")[0]
        if path == "/go":
            GO.set()
        elif path == "/gone":
            self.reply(200 if GONE.is_set() else 404, b"")
            return
        elif path == "/big":
            self.begin("application/octet-stream")
            for index in range(256):
                self.chunk(bytes([index]) * 65_536)
            self.chunk(b"")
            return
        elif path == "/half":
            self.begin("text/event-stream")
            self.chunk(b"data: 1\n\n")
            self.close_connection = True
            return
        elif path == "/hang":
            GO.wait(30)
        elif path == "/empty":
            self.send_response(204)
            self.end_headers()
            return
        self.echo()

    def do_POST(self) -> None:
        """Server-sent events: the second is sent once /go was asked for, then many until the client is gone."""
        if self.path != "/v1/chat/completions":
            self.echo()
            return
        size = int(self.headers["Content-Length"])
        is_endless = json.loads(self.rfile.read(size)).get("endless")
        self.begin("text/event-stream")
        self.chunk(b"data: 1\n\n")
        GO.wait(30)
        GO.clear()
        try:
            while is_endless:
                self.chunk(b"data: more\n\n" * 100)
        except OSError:
            GONE.set()
            return
        self.chunk(b"data: 2\n\n")
        self.chunk(b"")

    do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_GET  # noqa: N815 - as the base class looks for them

    def echo(self) -> None:
        """What was asked."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        plain: dict[str, Any] = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self.reply(201, json.dumps(plain).encode())

    def reply(self, status: int, body: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/x-own")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Own", "yes")
        self.send_header("Connection", "X-Hop")
        self.send_header("X-Hop", "no")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, kind: str) -> None:
        """An answer of unknown length."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """A piece of it; the empty one is the last."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        """Silence."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
