"""Other versions as no server of ours is: what they answer is bytes of the test's choice."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from modelkit.contract.route import PeerConfig
from tests.unit.serve.serve_process import free_port

Behave = Callable[[socket.socket, threading.Event], None]


@dataclass
class BadPeer:
    """A listener on a loopback port."""

    peer: PeerConfig
    received: list[bytes]


def says(data: bytes, *, closes: bool = False) -> Behave:
    """Answers every request of a connection with bytes; or closes it after the first."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(data)
        while not closes and connection.recv(65_536):
            connection.sendall(data)

    return behave


def hang(connection: socket.socket, over: threading.Event) -> None:
    """Reads, and never answers."""
    over.wait(30)


def drip(connection: socket.socket, over: threading.Event) -> None:
    """An answer that never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b"x")


@contextmanager
def bad_peer(behave: Behave) -> Iterator[BadPeer]:
    """Every request that comes is met with `behave`."""
    over, received = threading.Event(), []
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            # A connection without a request only looks whether there is anybody.
            if request := connection.recv(65_536):
                received.append(request)
                behave(connection, over)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                thread = threading.Thread(target=answer, args=(connections[-1],))
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        try:
            port = listener.getsockname()[1]
            yield BadPeer(PeerConfig(number=4, http=f"127.0.0.1:{port}", grpc=f"127.0.0.1:{free_port()}"), received)
        finally:
            over.set()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for thread in threads:
                thread.join(10)
