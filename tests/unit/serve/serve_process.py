"""A server process on a free port, started as a pod starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from modelkit.contract.codec import dumps
from modelkit.contract.config import CaptureConfig, LimitsConfig, ServerConfig, StoreConfig, VersionRef


@dataclass(frozen=True)
class Pod:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    termination_log: Path
    grpc_port: int

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, as the kubelet does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


def server_config(
    store: Path,
    version: VersionRef,
    deployment: str = "cancer",
    *,
    limits: LimitsConfig | None = None,
    **changes: float,
) -> ServerConfig:
    """A configuration with a short flush."""
    return ServerConfig(
        namespace="team",
        deployment=deployment,
        version=version,
        store=StoreConfig(uri=f"file://{store}"),
        capture=CaptureConfig(flush_seconds=0.1),
        limits=limits or LimitsConfig(),
        drain_seconds=changes.get("drain_seconds", 0.0),
    )


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_pod(config: ServerConfig, folder: Path, name: str = "pod-0", port: int | None = None) -> Pod:
    """Start a server, on a free port unless one is named; it isn't ready yet."""
    port = free_port() if port is None else port
    grpc_port = free_port()
    termination_log = folder / f"{name}.termination"
    environ = os.environ | {
        "MODELLOOP_CONFIG": dumps(config),
        "MODELLOOP_HTTP_PORT": str(port),
        "MODELLOOP_GRPC_PORT": str(grpc_port),
        "MODELLOOP_WORK": str(folder / f"{name}.work"),
        "MODELLOOP_TERMINATION_LOG": str(termination_log),
        "POD_NAME": name,
    }
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "modelkit.serve"], env=environ, stdout=output, stderr=output)
    return Pod(process, f"http://127.0.0.1:{port}", log, termination_log, grpc_port)


def wait_ready(pod: Pod, timeout: float = 30.0) -> None:
    """Wait until the pod answers that it is ready."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        assert pod.process.poll() is None, pod.log.read_text()
        try:
            if httpx.get(f"{pod.url}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"not ready after {timeout} s: {pod.log.read_text()}")


@contextmanager
def running_pod(config: ServerConfig, folder: Path, name: str = "pod-0") -> Iterator[Pod]:
    """A ready server, killed at the end if it still runs."""
    pod = start_pod(config, folder, name)
    try:
        wait_ready(pod)
        yield pod
    finally:
        if pod.process.poll() is None:
            pod.process.kill()
        pod.process.wait()
