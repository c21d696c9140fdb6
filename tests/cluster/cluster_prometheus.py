"""A real Prometheus on this host's loopback address, from Debian's package, and what it scrapes.

It is killed, stopped in its tracks and started again like anybody's.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiohttp import web

from devcluster.debian import ensure_programs
from devcluster.network import find_free_port
from devcluster.shell import find_program
from tests.cluster.cluster_api import wait_for
from tests.cluster.cluster_node import Background

SCRAPE_INTERVAL = "200ms"
QUERY_TIMEOUT = 1.0
"""Seconds after which it gives up a query by itself, whatever it is asked for."""
START_SECONDS = 60.0


def find_hindrance() -> str:
    """Why there is no Prometheus on this machine and none can be installed; empty: nothing is in the way."""
    if find_program("prometheus") is not None:
        return ""
    if os.geteuid() != 0 or find_program("apt-get") is None:
        return "there is no prometheus on this machine, and installing Debian's needs root and apt-get"
    return ""


def find_debian_s() -> Path:
    """Debian's program, which is installed where it is missing."""
    ensure_programs(["prometheus"])
    program = find_program("prometheus")
    assert program is not None, "installed, and not on the search path"
    return Path(program)


class Exporter:
    """What Prometheus scrapes: samples by series, such as `played_errors{pod="a"}`."""

    def __init__(self, background: Background) -> None:
        self.samples: dict[str, float] = {}
        self._background = background
        self.port = background.run(self._start())

    def close(self) -> None:
        """Answer no more."""
        self._background.run(self._runner.cleanup())

    async def _start(self) -> int:
        app = web.Application()
        app.router.add_get("/metrics", self._tell)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _tell(self, _: web.Request) -> web.Response:
        lines = [f"{series} {value}\n" for series, value in self.samples.copy().items()]
        return web.Response(text="".join(lines), content_type="text/plain")


def build_played_config(exporter: Exporter) -> dict[str, Any]:
    """Scrapes an exporter, often."""
    target = {"job_name": "played", "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}]}
    return {"global": dict.fromkeys(("scrape_interval", "scrape_timeout"), SCRAPE_INTERVAL), "scrape_configs": [target]}


@dataclass(kw_only=True)
class PrometheusProcess:
    """One process. It may be started again after its end, at the same address and with what it had stored."""

    folder: Path
    config: Mapping[str, Any]
    """Its prometheus.yml."""
    port: int = field(default_factory=find_free_port)
    program: Path | None = None
    """None: Debian's."""
    query_seconds: float = QUERY_TIMEOUT
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """What a ModelDeployment's spec names."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "PrometheusProcess":
        """Start it and wait until it answers queries."""
        program = self.program or find_debian_s()
        config = self.folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(dict(self.config)))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(program),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    f"--query.timeout={self.query_seconds:g}s",
                    "--log.level=warn",
                ],
                cwd=self.folder,
                # What it asks is on this host.
                env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
                stdout=log,
                stderr=log,
            )
        wait_for(self._is_up, START_SECONDS, what="a Prometheus that is ready")
        return self

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = httpx.post(f"{self.address}/api/v1/{path}", data=parameters, trust_env=False, timeout=10.0)
        assert answer.status_code == httpx.codes.OK, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def read(self, query: str) -> list[float]:
        """The values of all series that a query results in."""
        return [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]

    def hang(self) -> None:
        """It stays, keeps its port open and answers nothing any more."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; fine when it isn't running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    @property
    def _log(self) -> Path:
        return self.folder / "prometheus.log"

    def _signal(self, number: int) -> None:
        assert self._process is not None, "it isn't running"
        self._process.send_signal(number)

    def _is_up(self) -> bool:
        assert self._process is not None, "it isn't running"
        assert self._process.poll() is None, f"Prometheus ended by itself:\n{self._log.read_text(errors='replace')}"
        try:
            return httpx.get(f"{self.address}/-/ready", trust_env=False, timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
