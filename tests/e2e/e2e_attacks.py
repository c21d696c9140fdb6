"""What no client should send: mutated bodies by the thousand, connections that never finish, bodies without an end."""

import http.client
import json
import random
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from tests.e2e.e2e_traffic import Row

_THREADS = 4
_TOKENS = (
    b"null", b"true", b"[]", b"{}", b'""', b"1e999", b"-1e999", b"NaN", b"Infinity", b"-0", b"1e-400", b"9" * 400,
    b"18446744073709551616", b'"\\ud800"', b'"\\u0000"', b"[" * 200, b"{\"a\":" * 200, b"\xff\xfe", b"\xef\xbb\xbf",
    b'"' + b"x" * 70_000 + b'"', b"//", b"/**/", b",,", b"0x10", b"01", b"+1", b".5", b"'a'", b"\x00", b"}", b"]",
)  # fmt: skip
_HONEST = 400
"""Requests of one measurement of the 99th percentile."""


def _bodies(model: str, rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """Right requests to all paths, which mutations start from."""
    matrix = [list(row.values()) for row in rows[:3]]
    shape = [len(matrix), len(matrix[0])]
    flat = [value for row in matrix for value in row]
    tensor = {"name": "X", "shape": shape, "datatype": "FP64", "data": flat}
    columns = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in list(rows[0].items())
    ]
    plain: list[tuple[str, object]] = [
        ("/predict", {"features": rows[:2]}),
        ("/predict", {"features": matrix}),
        (f"/v2/models/{model}/infer", {"id": "1", "inputs": [tensor], "outputs": [{"name": "prediction"}]}),
        (f"/v2/models/{model}/infer", {"inputs": columns, "parameters": {"binary_data_output": False}}),
        (f"/v1/models/{model}:predict", {"instances": matrix}),
        (f"/v1/models/{model}:predict", {"inputs": {name: [value] for name, value in rows[0].items()}}),
        ("/evaluate", {"features": matrix, "labels": [0, 1, 0]}),
        ("/explain", {"features": matrix[:1]}),
        ("/feedback", [{"id": "1", "label": 1}, {"id": "2", "label": [0, None]}]),
    ]
    return [(path, json.dumps(body).encode()) for path, body in plain]


def mutate(draw: random.Random, body: bytes) -> bytes:
    """One to four random changes."""
    changed = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        where = draw.randrange(len(changed) + 1)
        match draw.randrange(7):
            case 0:
                changed[where : where + 1] = bytes([draw.randrange(256)])
            case 1:
                del changed[where : where + draw.randint(1, 20)]
            case 2:
                changed[where:where] = draw.choice(_TOKENS)
            case 3:
                other = draw.randrange(len(changed) + 1)
                changed[where:where] = changed[other : other + draw.randint(1, 40)]
            case 4:
                changed = changed[:where]
            case 5:
                # A whole value for another.
                start = changed.find(b":", where)
                end = min((at for at in (changed.find(b",", start), changed.find(b"}", start)) if at > 0), default=-1)
                if 0 < start < end:
                    changed[start + 1 : end] = draw.choice(_TOKENS)
            case _:
                digits = [index for index, byte in enumerate(changed) if 48 <= byte < 58]
                if digits:
                    changed[draw.choice(digits)] = draw.randrange(48, 58)
    return bytes(changed)


def send_mutations(address: str, model: str, rows: Sequence[Row], count: int) -> Counter[int]:
    """Send `count` mutated bodies over some connections; how often each status came back.

    A connection that the server closes after an answer is opened again; one that it closes without an answer raises.
    """
    codes: Counter[int] = Counter()
    failures: list[BaseException] = []
    lock = threading.Lock()

    def run(seed: int) -> None:
        draw, found = random.Random(seed), Counter[int]()
        bodies = _bodies(model, rows)
        connection = _connect(address)
        try:
            for _ in range(count // _THREADS):
                path, body = draw.choice(bodies)
                connection.request("POST", path, mutate(draw, body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                found[answer.status] += 1
                if answer.status >= 400 and set(json.loads(text)) != {"error"}:
                    raise AssertionError(f"{answer.status} without an error in JSON")
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(exc)
        connection.close()
        with lock:
            codes.update(found)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return codes


def measure_p99(address: str, row: Row) -> float:
    """The 99th percentile of honest requests one after another, in seconds."""
    connection, seconds = _connect(address), []
    body = json.dumps({"features": [row]})
    for _ in range(_HONEST):
        start = time.perf_counter()
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - start)
        assert answer.status == 200
    connection.close()
    return statistics.quantiles(seconds, n=100)[98]


class Slow:
    """Connections that each send a byte of a head or a body now and then, and one body without an end."""

    def __init__(self, address: str, connections: int) -> None:
        self._address = address
        self._count = connections
        self._sockets: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._drip, self._flood)]

    def __enter__(self) -> "Slow":
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        for index in range(self._count):
            sock = self._open()
            sock.sendall(head if index % 2 else head + b"Content-Length: 1000\r\n\r\n{")
            self._sockets.append(sock)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def open_connections(self) -> int:
        """Connections that the server hasn't closed."""
        return sum(map(_is_open, self._sockets))

    def _drip(self) -> None:
        for index in self._forever():
            with suppress(OSError):
                self._sockets[index].send(b"X")
            self._stop.wait(2.0 / self._count)

    def _forever(self) -> Iterator[int]:
        while not self._stop.is_set():
            yield from range(self._count)

    def _flood(self) -> None:
        """A chunked body that is larger than any limit, again and again."""
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while not self._stop.is_set():
            with suppress(OSError), self._open() as sock:
                sock.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not self._stop.is_set():
                    sock.sendall(chunk)
            self._stop.wait(0.05)

    def _open(self) -> socket.socket:
        target = urlsplit(self._address)
        return socket.create_connection((target.hostname, target.port), timeout=10)


def _is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.setblocking(True)


def _connect(address: str) -> http.client.HTTPConnection:
    target = urlsplit(address)
    return http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
