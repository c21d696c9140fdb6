"""Answers that go to the client piece by piece, as somebody else gives them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from modelkit.serve.errors import RequestError

_END = b"0\r\n\r\n"


class Stream(Protocol):
    """A body that is still coming."""

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises RequestError or OSError when the rest won't come."""

    def close(self) -> None:
        """Nobody reads on. A second time does nothing."""

    async def wait_closed(self) -> None:
        """Return once it is closed."""


class Outflow:
    """Writes one streamed body to a client, no faster than the client reads. On the event loop."""

    def __init__(
        self, stream: Stream, write: Callable[[bytes], None], *, is_chunked: bool, done: Callable[[bool], None]
    ) -> None:
        """`done` is called once, with whether the body is whole; not after `cancel`."""
        self._stream = stream
        self._write = write
        self._is_chunked = is_chunked
        self._done = done
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def pause(self) -> None:
        """The client doesn't keep up."""
        self._is_open.clear()

    def resume(self) -> None:
        """It has."""
        self._is_open.set()

    def cancel(self) -> None:
        """The client is gone."""
        self._task.cancel()
        # Also when the task hasn't begun, and will never get to do it.
        self._stream.close()

    async def _run(self) -> None:
        is_whole = False
        try:
            while part := await self._stream.read():
                self._write(b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked else part)
                await self._is_open.wait()
            if self._is_chunked:
                self._write(_END)
            is_whole = True
        except (RequestError, OSError):
            pass  # The answer's head is long gone: that its end is missing is all that can be told.
        except Exception as exc:  # noqa: BLE001 - the edge: the client must get to know, whatever it was
            context = {"message": "a streamed answer failed", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)
        finally:
            self._stream.close()
        self._done(is_whole)
