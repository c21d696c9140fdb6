"""Operator processes under test: started, ended in two ways, with their logs at hand when a test fails."""

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from devcluster.network import find_free_port
from tests.cluster.cluster_zygote import Zygote

IMAGES = {kind: f"registry.example/modelloop-{kind}:test" for kind in ("trainer", "server", "monitor")}


@dataclass(kw_only=True)
class OperatorProcess:
    """One operator. It may be started again after its end, as the same pod."""

    kubeconfig: Path
    namespace: str
    """What it watches, and where its Lease is."""
    log: Path
    pod_name: str = "operator-0"
    zygote: Zygote | None = None
    """Forks it when given; otherwise it is `python -m modelloop`."""
    overrides: dict[str, float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=find_free_port)
    _pid: int = 0
    _pidfd: int = -1
    _child: "subprocess.Popen[bytes] | None" = None

    @property
    def environ(self) -> dict[str, str]:
        """Everything that the process has in its environment."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "default",
            "KUBECONFIG": str(self.kubeconfig),
            "POD_NAME": self.pod_name,
            "POD_NAMESPACE": self.namespace,
            "MODELLOOP_WATCH_NAMESPACES": self.namespace,
            "MODELLOOP_HTTP_HOST": "127.0.0.1",
            "MODELLOOP_HTTP_PORT": str(self.port),
            **{f"MODELLOOP_{kind.upper()}_IMAGE": image for kind, image in IMAGES.items()},
            **self.extra,
        }

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._pid

    def start(self) -> "OperatorProcess":
        """Start it; doesn't wait for anything."""
        if self.zygote is not None:
            self._pid = self.zygote.fork(self.environ, self.log, self.overrides)
        else:
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "modelloop"], env=self.environ, stdout=log, stderr=log
                )
            self._pid = self._child.pid
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError as exc:
            raise AssertionError(f"the operator ended at once:\n{self.tail()}") from exc
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the process if it is alive."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    def wait(self, timeout: float) -> bool:
        """Whether it has ended within `timeout` seconds."""
        if self._pidfd < 0:
            return True
        ended, _, _ = select.select([self._pidfd], [], [], timeout)
        if ended:
            os.close(self._pidfd)
            self._pidfd = -1
            if self._child is not None:
                self._child.wait()
        return bool(ended)

    @property
    def exit_code(self) -> int | None:
        """Of `python -m modelloop`, once it has ended."""
        return self._child.returncode if self._child is not None else None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        assert self.wait(10), f"process {self._pid} survives SIGKILL"

    def kill_from_afar(self) -> None:
        """SIGKILL from another thread than the one that waits; returns when nothing of it runs any more."""
        self.signal(signal.SIGKILL)
        select.select([self._pidfd], [], [], 10)

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, as the kubelet does; it must be gone within `timeout` seconds."""
        self.signal(signal.SIGTERM)
        if not self.wait(timeout):
            self.kill()
            raise AssertionError(f"the operator didn't end within {timeout} s of SIGTERM:\n{self.tail()}")

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of its /healthz, /readyz or /metrics; 0 while it doesn't answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5.0, trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"
