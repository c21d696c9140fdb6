"""Is the runtime ready? Asked on a thread of its own, from the server's start to its end.

A runtime may need minutes to load its model, during which our server is live but not ready; the kubelet's startup probe
decides when that takes too long. Before it counts as ready for the first time, and whenever it comes back, it must say
that it is ready and answer the version's own samples as recorded. A runtime that is gone makes the pod not ready at
once; one that is merely slow to say that it is ready, after three times: it may be busy with answers.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote

import orjson

from modelkit.contract.config import RuntimeConfig
from modelkit.serve.errors import InferenceTimeoutError, ModelUnusableError, RequestError, RuntimeUnavailableError
from modelkit.serve.runtime.client import RuntimeClient
from modelkit.serve.runtime.model import RAW, V2
from modelkit.serve.runtime.wire import parse_address

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
_FIRST_SECONDS = 0.05
_PROBE_SECONDS = 2.0
_MAX_TIMEOUTS = 3

Check = Callable[[], None]


class RuntimeWatch:
    """Whether the runtime is ready. A companion of the server (see server.Companion)."""

    def __init__(self, probe: Check, check: Check, on_refusal: Check) -> None:
        """`probe` asks the runtime, `check` makes sure of its answers: both raise RequestError when it isn't ready.

        `on_refusal` is called, on the watch's thread, when `check` raises ModelUnusableError before the runtime was
        ready for the first time.
        """
        self.is_ready = False
        self.refusal: ModelUnusableError | None = None
        """Why the version can't be served by this runtime: it was up, and isn't the one that was asked for."""
        self._probe = probe
        self._check = check
        self._on_refusal = on_refusal
        self._was_ready = False
        self._timeouts = 0
        self._said = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runtime-watch", daemon=True)

    async def start(self) -> None:
        """Begin to ask, once the server does what it does on its start (see server.Companion).

        A refusal stops the server by a signal, which must not come before the server listens to it.
        """
        asyncio.get_running_loop().call_soon(self._thread.start)

    async def wait_closed(self, seconds: float) -> None:
        """Stop asking."""
        del seconds
        self._stopped.set()

    def _run(self) -> None:
        delay = _FIRST_SECONDS
        while True:
            try:
                self._look()
            except ModelUnusableError as exc:
                if self._stopped.is_set():
                    return  # Nobody listens to a refusal any more: the last captures are being written.
                if not self._was_ready:
                    self.refusal = exc
                    self._on_refusal()
                    return
                self._lose(str(exc))
            except RequestError as exc:
                self._timeouts += 1
                if not self.is_ready or not isinstance(exc, InferenceTimeoutError) or self._timeouts >= _MAX_TIMEOUTS:
                    self._lose(str(exc))
            delay = INTERVAL_SECONDS if self.is_ready else min(INTERVAL_SECONDS, delay * 2)
            if self._stopped.wait(delay):
                return

    def _look(self) -> None:
        self._probe()
        if not self.is_ready:
            self._check()
            self._was_ready = self.is_ready = True
            self._said = ""
            logger.info("the runtime is ready")
        self._timeouts = 0

    def _lose(self, cause: str) -> None:
        self.is_ready = False
        if cause != self._said:
            self._said = cause
            logger.warning("the runtime isn't ready", extra={"cause": cause})


def build_probe(config: RuntimeConfig, client: RuntimeClient) -> Check:
    """Asks the runtime, in its protocol, whether it is ready; raises RequestError when it isn't."""
    if config.protocol == RAW:
        return lambda: _connect(config.address)
    name = quote(config.model_name, safe="")
    target = (f"/v2/models/{name}/ready" if config.protocol == V2 else f"/v1/models/{name}").encode()

    def probe() -> None:
        found = client.ask(b"GET", target, timeout=_PROBE_SECONDS)
        if found.status != 200 or not _says_ready(found.body):
            raise RuntimeUnavailableError(
                f"the runtime at {client.place} isn't ready: it answered {found.status} to {target.decode()}"
            )

    return probe


def _connect(address: str) -> None:
    try:
        with closing(socket.create_connection(parse_address(address), _PROBE_SECONDS)):
            return
    except TimeoutError as exc:
        raise InferenceTimeoutError(f"the runtime at {address} accepts no connection") from exc
    except OSError as exc:
        raise RuntimeUnavailableError(f"the runtime at {address} can't be reached ({exc.strerror})") from exc


def _says_ready(body: bytes) -> bool:
    """What 200 comes with: KServe's {"ready"}, TensorFlow Serving's states of versions, or anything else."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError:
        return True
    if not isinstance(plain, Mapping):
        return True
    if "model_version_status" in plain:
        return any(_is_available(status) for status in plain["model_version_status"] or ())
    return str(plain.get("ready", True)).lower() == "true"


def _is_available(status: Any) -> bool:
    return isinstance(status, Mapping) and status.get("state") == "AVAILABLE"
