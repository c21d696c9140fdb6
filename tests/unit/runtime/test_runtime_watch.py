"""When a runtime counts as ready: what it says, how often it may be late, and what is refused for good."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from modelkit.contract.config import RuntimeConfig
from modelkit.serve.errors import InferenceTimeoutError, ModelUnusableError, RequestError, RuntimeUnavailableError
from modelkit.serve.runtime import watch as watch_module
from modelkit.serve.runtime.client import RuntimeClient
from modelkit.serve.runtime.watch import RuntimeWatch, build_probe
from tests.unit.runtime.runtime_world import wait_until

GONE = RuntimeUnavailableError("gone")
LATE = InferenceTimeoutError("late")
OTHER = ModelUnusableError("SamplesDiffer", "another model")


class Scripted:
    """Raises the script's errors one after the other, and stays with the last."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if step is not None:
            raise step


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL_SECONDS", 0.005)
    monkeypatch.setattr(watch_module, "_FIRST_SECONDS", 0.001)


@contextmanager
def watched(probe: Scripted, check: Scripted) -> Iterator[tuple[RuntimeWatch, list[str]]]:
    """A watch that runs, and its refusals."""
    refusals: list[str] = []
    watch = RuntimeWatch(probe, check, lambda: refusals.append("refused"))

    async def run(step: Callable[[], Any]) -> None:
        await step()

    asyncio.run(run(watch.start))
    try:
        yield watch, refusals
    finally:
        asyncio.run(run(lambda: watch.wait_closed(1)))


def test_it_is_ready_once_it_says_so_and_its_answers_are_right() -> None:
    probe, check = Scripted(GONE, GONE, None), Scripted(GONE, None)
    with watched(probe, check) as (watch, refusals):
        wait_until(lambda: watch.is_ready, "ready")
    assert (probe.calls >= 4, check.calls, refusals) == (True, 2, [])


def test_a_runtime_that_is_late_twice_stays_ready_and_three_times_does_not() -> None:
    probe = Scripted(None, LATE, LATE, None, LATE, LATE, None)
    with watched(probe, Scripted(None)) as (watch, _):
        wait_until(lambda: watch.is_ready, "ready")
        seen = [watch.is_ready for _ in iter(lambda: len(probe.script) == 1, True)]
        assert all(seen)
        probe.script = [LATE]
        wait_until(lambda: not watch.is_ready, "not ready")


def test_a_runtime_that_is_gone_is_not_ready_at_once_and_is_checked_when_it_comes_back() -> None:
    probe, check = Scripted(None), Scripted(None)
    with watched(probe, check) as (watch, refusals):
        wait_until(lambda: watch.is_ready, "ready")
        probe.script = [GONE]
        wait_until(lambda: not watch.is_ready, "not ready")
        check.script = [OTHER]
        probe.script = [None]
        wait_until(lambda: check.calls >= 3, "checked again")
        assert not watch.is_ready, "it came back as another model: not ready, but the pod served well before"
        check.script = [None]
        wait_until(lambda: watch.is_ready, "ready again")
    assert refusals == []
    assert watch.refusal is None


def test_another_model_than_the_versions_is_refused_for_good() -> None:
    probe, check = Scripted(None), Scripted(OTHER)
    with watched(probe, check) as (watch, refusals):
        wait_until(lambda: bool(refusals), "refused")
    assert (watch.is_ready, watch.refusal, check.calls) == (False, OTHER, 1)


@contextmanager
def saying(status: int, body: bytes) -> Iterator[str]:
    """A runtime that answers everything so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "plain", "is_ready"),
    [
        (200, None, True),
        (200, {}, True),
        (200, {"name": "m", "ready": True}, True),
        (200, {"name": "m", "ready": "True"}, True),
        (200, {"ready": False}, False),
        (200, {"model_version_status": [{"state": "LOADING"}, {"state": "AVAILABLE"}]}, True),
        (200, {"model_version_status": [{"state": "LOADING"}]}, False),
        (200, {"model_version_status": None}, False),
        (503, {"ready": True}, False),
        (404, {"error": "no such model"}, False),
    ],
)
@pytest.mark.parametrize("protocol", ["V1", "V2"])
def test_what_the_runtimes_say_of_their_readiness(protocol: str, status: int, plain: Any, is_ready: bool) -> None:
    body = b"" if plain is None else json.dumps(plain).encode()
    with saying(status, body) as address:
        client = RuntimeClient(address, 5.0)
        probe = build_probe(RuntimeConfig(address=address, protocol=protocol, model_name="m"), client)
        if is_ready:
            probe()
        else:
            with pytest.raises(RequestError, match="isn't ready"):
                probe()
        client.close()
