"""A body that comes piece by piece: it goes on as it comes, and its client gets to know when the rest won't come."""

import asyncio
from typing import Any

import pytest

from modelkit.serve.errors import RuntimeAnswerError
from modelkit.serve.streaming import Outflow


class Pieces:
    """A stream of two pieces and then an end or an error."""

    def __init__(self, end: Exception | None) -> None:
        self._parts, self._end = [b"b", b"a"], end
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if not self._parts and self._end is not None:
            raise self._end
        return self._parts.pop() if self._parts else b""

    def close(self) -> None:
        self.closed.set()

    async def wait_closed(self) -> None:
        await self.closed.wait()


@pytest.mark.parametrize(
    ("end", "is_whole", "is_logged"),
    [
        (None, True, False),
        (RuntimeAnswerError("gone"), False, False),
        (OSError(), False, False),
        (KeyError("x"), False, True),
    ],
    ids=["whole", "cut short", "unreachable", "a mistake of ours"],
)
async def test_an_end_is_told_and_an_unexpected_one_is_logged(
    end: Exception | None, is_whole: bool, is_logged: bool
) -> None:
    written, told, unhandled = list[bytes](), list[bool](), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context["exception"]))
    stream = Pieces(end)
    Outflow(stream, written.append, is_chunked=True, done=told.append)
    await stream.wait_closed()
    assert told == [is_whole]
    assert b"".join(written) == b"1\r\na\r\n1\r\nb\r\n" + (b"0\r\n\r\n" if is_whole else b"")
    assert unhandled == ([end] if is_logged else [])
