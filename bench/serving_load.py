"""The load client of `make bench-serving`: one process, closed loop, prepared bytes over plain sockets.

A client library would take longer for a request than the servers that are measured. Every answer is checked for its
status, and that it is complete. `python -m bench.serving_load <JSON of a Load>` prints the JSON of a Result.
"""

import json
import selectors
import socket
import statistics
import struct
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

_WARM_UP_SHARE = 0.15
"""Of the time, at its beginning, that isn't counted."""
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Load:
    """What to send."""

    port: int
    connections: int
    seconds: float
    message: str
    """Base64: a whole HTTP/1.1 request, or a gRPC message."""
    grpc: bool = False
    patience: float = 20.0
    """Seconds without any answer, after which the server counts as stuck."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    per_second: float
    p50: float
    """Milliseconds."""


def main(argument: str) -> Result:
    """Send until time is up; raises ValueError for any answer that isn't a success, and for none at all."""
    load = Load(**json.loads(argument))
    message = b64decode(load.message)
    make: Callable[[socket.socket], Http | Grpc] = (
        (lambda sock: Grpc(sock, message, load.port)) if load.grpc else (lambda sock: Http(sock, message))
    )
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        connections = []
        for _ in range(load.connections):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", load.port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(make(sock))
            selector.register(sock, selectors.EVENT_READ, connections[-1])
        return _measure(load, connections, selector)


def _measure(load: Load, connections: "list[Http | Grpc]", selector: selectors.BaseSelector) -> Result:
    start = now = time.perf_counter()
    counted, end = start + _WARM_UP_SHARE * load.seconds, start + load.seconds
    for connection in connections:
        connection.ask()
    latencies: list[float] = []
    while now < end:
        ready = selector.select(load.patience)
        if not ready:
            raise ValueError(f"no answer in {load.patience:g} s")
        for key, _ in ready:
            answered = key.data.receive()
            now = time.perf_counter()
            if answered:
                if key.data.asked >= counted:
                    latencies.append(now - key.data.asked)
                key.data.ask()
    return Result(len(latencies) / (now - counted), statistics.median(latencies) * 1e3)


class Http:
    """One HTTP/1.1 connection."""

    def __init__(self, sock: socket.socket, message: bytes) -> None:
        self.socket = sock
        self.asked = 0.0
        self._message = message
        self._buffer = b""

    def ask(self) -> None:
        """Send the request."""
        self.asked = time.perf_counter()
        self.socket.sendall(self._message)

    def receive(self) -> bool:
        """Read; is the answer whole?"""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ValueError("the server closed the connection")
        self._buffer += part
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"not a success: {self._buffer[:300]!r}")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            if not body.endswith(b"0\r\n\r\n"):
                return False
        else:
            start = lower.index(b"content-length:") + 15
            if len(body) < int(lower[start:].split(b"\r\n", 1)[0]):
                return False
        self._buffer = b""
        return True


class Grpc:
    """One HTTP/2 connection that calls ModelInfer, one call at a time.

    The frames of a call are the same but for the stream's number. Answers aren't decoded: a call that failed has no
    DATA frame.
    """

    def __init__(self, sock: socket.socket, message: bytes, port: int) -> None:
        self.socket = sock
        self.asked = 0.0
        self._stream = -1
        self._got_data = False
        self._buffer = b""
        self._received = 0
        self._head = b"".join(
            _literal(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
                (b":authority", b"127.0.0.1:%d" % port),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            )
        )
        self._body = b"\0" + struct.pack(">I", len(message)) + message
        settings = struct.pack(">HI", 4, _WINDOW_BYTES)  # initial window of a stream
        sock.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        sock.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", _WINDOW_BYTES)))

    def ask(self) -> None:
        """Send the call."""
        self._stream += 2
        self._got_data = False
        self.asked = time.perf_counter()
        frames = _frame(_HEADERS, 4, self._stream, self._head)
        for start in range(0, len(self._body), 16_384):
            part = self._body[start : start + 16_384]
            frames += _frame(_DATA, _END_STREAM * (start + 16_384 >= len(self._body)), self._stream, part)
        self.socket.sendall(frames)

    def receive(self) -> bool:
        """Read and answer the connection's own frames; is the call over?"""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ValueError("the server closed the connection")
        self._buffer += part
        done = False
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + size:
                break
            kind, flags = self._buffer[3], self._buffer[4]
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            done = self._handle(kind, flags, payload) or done
        return done

    def _handle(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == _SETTINGS and not flags & _ACK:
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind in (_GOAWAY, _RST):
            raise ValueError(f"the server ended the call: frame {kind}, {payload!r}")
        elif kind == _DATA:
            self._got_data = True
            self._received += len(payload)
            if self._received > _WINDOW_BYTES // 2:
                self.socket.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", self._received)))
                self._received = 0
        over = kind in (_HEADERS, _DATA) and bool(flags & _END_STREAM)
        if over and not self._got_data:
            raise ValueError("the call failed")
        return over


def _literal(name: bytes, value: bytes) -> bytes:
    """A header without Huffman coding and outside of the table (RFC 7541, 6.2.2); name and value under 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


if __name__ == "__main__":
    print(json.dumps(asdict(main(sys.argv[1]))))
