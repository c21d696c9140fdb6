"""Requests that are passed on as they are: what is asked for, and what is left of them when the client goes."""

import asyncio

import pytest

from modelkit.contract.config import RuntimeConfig
from modelkit.serve.exchange import Exchange
from modelkit.serve.message import parse_head
from modelkit.serve.question import Request
from modelkit.serve.routes import Response, Route
from modelkit.serve.runtime.relay import Relay
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import iris


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/a?next=http://other/b", "/a?next=http://other/b"),
        ("http://pod/a?b=c", "/a?b=c"),
        ("HTTPS://pod", "/"),
        ("*", "*"),
    ],
)
async def test_the_runtime_is_asked_for_what_the_client_asks_for(target: str, sent: str) -> None:
    asked = list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as runtime:
        port = runtime.sockets[0].getsockname()[1]
        relay = Relay(
            RuntimeConfig(address=f"http://127.0.0.1:{port}", protocol="Raw", model_name="m"), hides_token=False
        )
        head = parse_head(b"GET", target.encode(), "1.1", [(b"Host", b"pod")], keeps_alive=True)
        assert (await relay(Request(b"", "r", head=head))).status == 204
    assert asked == [f"GET {sent} HTTP/1.1\r\n".encode()]


class Nobody:
    """Has no answers to write."""

    def flush(self) -> None:
        """See exchange.Owner."""


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_client_that_goes_leaves_no_place_taken_however_far_its_request_has_come(
    serve: Serve, turns: int
) -> None:
    async def relay(request: Request) -> Response:
        await asyncio.sleep(20)
        raise AssertionError("nobody waits for it")

    app = serve(iris()).app
    head = parse_head(b"GET", b"/", "1.1", [(b"Host", b"pod")], keeps_alive=True)
    exchange = Exchange(Nobody(), head, "r", 0.0)
    exchange.route = Route("raw", relay=relay)
    app.answer(exchange)
    assert app.engine.active == 1
    for _ in range(turns):
        await asyncio.sleep(0)
    exchange.abandon()
    assert exchange.task is not None
    await asyncio.wait([exchange.task])
    await asyncio.sleep(0)
    assert app.engine.active == 0
