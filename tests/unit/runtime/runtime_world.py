"""Other model servers as processes, and our own server before them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from devcluster.network import find_free_port
from modelkit.contract.config import RuntimeConfig, ServerConfig, StoreConfig
from modelkit.serve.runtime.fetch import fetch_for_runtime
from modelkit.store.store import Store
from tests.unit.serve.serve_models import Example, store_example
from tests.unit.serve.serve_process import Pod, running_pod, server_config, start_pod, wait_ready

PROGRAM = Path(__file__).parents[2] / "e2e" / "e2e_runtime_v1.py"


@dataclass(frozen=True)
class World:
    """A stored version, and a configuration of our server that asks a runtime at `port` for its answers."""

    folder: Path
    example: Example
    config: ServerConfig
    port: int

    @classmethod
    def of(cls, folder: Path, example: Example, protocol: str, **changes: Any) -> "World":
        """`changes` are of the RuntimeConfig, and `samples` and other files of the version (see store_example)."""
        root, port, name = folder / "store", find_free_port(), example.signature.model
        files = {key: changes.pop(key) for key in ("samples", "signature") if key in changes}
        version = store_example(Store.open(StoreConfig(uri=f"file://{root}"), {}), example, **files)
        runtime = RuntimeConfig(address=f"http://127.0.0.1:{port}", protocol=protocol, model_name=name)
        config: ServerConfig = replace(server_config(root, version, "front"), runtime=replace(runtime, **changes))
        return cls(folder, example, config, port)

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Our own server as the runtime: it speaks V2."""
        config = replace(self.config, deployment=self.example.signature.model, runtime=None)
        with ExitStack() as stack:
            pod = start_pod(config, self.folder, "back", port=self.port)
            stack.callback(pod.process.wait)
            stack.callback(pod.process.kill)
            wait_ready(pod)
            yield

    @contextmanager
    def program(self) -> Iterator[subprocess.Popen[bytes]]:
        """The V1 runtime; it may not answer yet."""
        store = Store.open(self.config.store, {})
        fetch_for_runtime(self.config, store, self.folder / "models")
        name = self.example.signature.model
        command = [sys.executable, str(PROGRAM), str(self.folder / "models"), name, str(self.port)]
        process = subprocess.Popen(command)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def front(self, name: str = "front", **changes: Any) -> Iterator[Pod]:
        """Our server before the runtime, ready."""
        with running_pod(replace(self.config, **changes), self.folder, name) as pod:
            yield pod


def wait_until(condition: Any, what: str, timeout: float = 20.0) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.02)


def readiness(pod: Pod) -> int:
    """The status of the pod's readiness; 0 when it doesn't listen yet."""
    try:
        return httpx.get(f"{pod.url}/v2/health/ready").status_code
    except httpx.TransportError:
        return 0
