"""How many ModelTrainings the operator takes per second, how fast it comes back, and what it needs for it.

A fresh etcd and kube-apiserver per size; of kube-controller-manager only the ServiceAccount controller runs, so that
Jobs stay as they are: their pods would measure the Job controller. The load client is a process of its own.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from bench.fleet import JOBS, TRAININGS, Fleet, connect
from bench.report import Figure, say, write_report
from devcluster.cluster import Cluster
from devcluster.network import find_free_port

ROOT = Path(__file__).resolve().parents[1]
CONTROLLERS = "--controllers=serviceaccount-controller"
SIZES = (1000, 5000)
REST_SECONDS = 10.0
GOAL_RATE, GOAL_RESYNC, GOAL_RSS = ">= 150", "<= 20", "<= 250"
MIB = 1024 * 1024
# No Job controller runs here: that a Job has no pod for 15 s would be written into every status.
START = """
import sys
from datetime import timedelta
from modelloop.__main__ import main
for module in list(sys.modules.values()):
    if hasattr(module, "NO_POD_GRACE"):
        module.NO_POD_GRACE = timedelta(days=1)
main()
"""


@dataclass
class Operator:
    """One `python -m modelloop` over all namespaces, with the token and the rights that an installation gives it."""

    kubeconfig: Path
    folder: Path

    def start(self) -> None:
        """Start it, as the same pod every time."""
        self.port = find_free_port()
        images = {f"MODELLOOP_{kind}_IMAGE": f"registry.example/{kind}:1" for kind in ("TRAINER", "SERVER", "MONITOR")}
        environ = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "POD_NAME": "bench",
            "MODELLOOP_HTTP_HOST": "127.0.0.1",
            "MODELLOOP_HTTP_PORT": str(self.port),
            **images,
        }
        self.log = self.folder / "operator.log"
        with self.log.open("ab") as log:
            self.started = time.time()
            command = [*PREFIX, sys.executable, "-c", START]
            self._process = subprocess.Popen(command, env=environ, stderr=log, stdout=log)
        self._info = psutil.Process(self._process.pid)

    def kill(self) -> None:
        """SIGKILL: what follows is a cold start after a crash."""
        self._process.kill()
        self._process.wait()

    async def metric(self, name: str, *labels: str) -> float:
        """Sum of a metric over the series that have these labels; 0 while it doesn't answer."""
        try:
            async with aiohttp.ClientSession() as session:
                answer = await session.get(f"http://127.0.0.1:{self.port}/metrics")
                text = await answer.text()
        except aiohttp.ClientError:
            if self._process.poll() is not None:
                raise RuntimeError(f"the operator ended:\n{self.log.read_text()[-2000:]}") from None
            return 0.0
        lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels))

    @property
    def rss(self) -> float:
        """Resident memory now, in MiB."""
        return float(self._info.memory_info().rss) / MIB

    @property
    def peak(self) -> float:
        """Highest resident memory so far, in MiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        return float(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = self._info.cpu_times()
        return float(times.user + times.system)


def write_kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig that logs in as the installed ServiceAccount, as the operator's pod does."""
    token = cluster.kubectl("-n", "modelloop-system", "create", "token", "modelloop-operator", "--duration=8h").strip()
    config = json.loads(cluster.kubeconfig.read_text())  # devcluster writes JSON, which is YAML too
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


PREFIX: list[str] = []
"""A profiler's command line in front of the operator's."""


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str, every: float = 0.2) -> float:
    """Wait; returns the Unix time at which it held."""
    deadline = time.time() + seconds
    while not await condition():
        if time.time() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s in vain for {what}")
        await asyncio.sleep(every)
    return time.time()


async def load(cluster: Cluster, what: str, count: int) -> tuple[float, float]:
    """Run the load client; Unix times of its first and last request."""
    command = ["-m", "bench.fleet", what, "--kubeconfig", str(cluster.kubeconfig), "--count", str(count)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE, cwd=ROOT)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load client ended with {process.returncode}")
    first, last = out.split()
    return float(first), float(last)


async def versions(fleet: Fleet) -> dict[str, str]:
    """The resourceVersion of every CR and Job: any write at all changes one."""
    return {
        body["metadata"]["uid"]: body["metadata"]["resourceVersion"]
        for path in (TRAININGS, JOBS)
        async for body in fleet.list(path)
    }


async def measure(cluster: Cluster, count: int, folder: Path) -> list[Figure]:
    """All figures for one number of ModelTrainings."""
    operator = Operator(write_kubeconfig(cluster, folder), folder)
    async with connect(cluster.kubeconfig) as fleet:
        await fleet.make_namespaces()
        operator.start()
        try:
            return await _figures(cluster, fleet, operator, count)
        finally:
            operator.kill()


async def _figures(cluster: Cluster, fleet: Fleet, operator: Operator, count: int) -> list[Figure]:
    await until(lambda: _is_active(operator), 60, "an active operator")
    empty = operator.rss

    async def have_jobs() -> bool:
        return await fleet.count(JOBS) >= count

    say(f"{count}: creating")
    before = operator.cpu_seconds
    loading = asyncio.create_task(load(cluster, "create", count))
    done = await until(have_jobs, 600, f"{count} Jobs")
    first, last = await loading
    busy = operator.cpu_seconds - before
    create_seconds = done - first
    await asyncio.sleep(REST_SECONDS)
    at_rest, peak = operator.rss, operator.peak

    say(f"{count}: changing every spec")
    watching = asyncio.create_task(fleet.wait_for_generation(2, count))
    changed, _ = await load(cluster, "change", count)
    await asyncio.wait_for(watching, 600)
    change_seconds = time.time() - changed
    await asyncio.sleep(REST_SECONDS)

    say(f"{count}: cold start")
    stored = await versions(fleet)
    operator.kill()
    operator.start()

    async def all_reconciled() -> bool:
        return await operator.metric("modelloop_reconciles_total", 'kind="ModelTraining"', 'outcome="done"') >= count

    resynced = await until(all_reconciled, 300, "a pass over every ModelTraining") - operator.started
    await asyncio.sleep(REST_SECONDS)
    writes = await operator.metric("modelloop_writes_total")
    moved = sum(1 for uid, version in (await versions(fleet)).items() if stored.get(uid) != version)
    label = f"{count:,} ModelTrainings"
    return [
        Figure(f"{label}: CR to Job, first create to last Job", count / create_seconds, "CR/s", GOAL_RATE),
        Figure(f"{label}: the load client created", count / (last - first), "CR/s"),
        Figure(f"{label}: spec change to status", count / change_seconds, "CR/s"),
        Figure(f"{label}: operator's processor time per CR", busy / count * 1000, "ms"),
        Figure(f"{label}: cold start until all were reconciled", resynced, "s", GOAL_RESYNC),
        Figure(f"{label}: writes after the cold start", max(writes, moved), "writes", "= 0"),
        Figure(f"{label}: RSS with none", empty, "MiB"),
        Figure(f"{label}: RSS at rest", at_rest, "MiB", GOAL_RSS),
        Figure(f"{label}: RSS peak", peak, "MiB", GOAL_RSS),
        Figure(f"{label}: RSS at rest after the cold start", operator.rss, "MiB", GOAL_RSS),
        Figure(f"{label}: RSS peak of the cold start", operator.peak, "MiB", GOAL_RSS),
    ]


async def _is_active(operator: Operator) -> bool:
    return await operator.metric("modelloop_lease_held") == 1.0


def main() -> None:
    """`python -m bench.operator_rate [--size N …]`; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, action="append", help="number of ModelTrainings; may be repeated")
    parser.add_argument("--prefix", default="", help="a profiler's command line, put in front of the operator's")
    arguments = parser.parse_args()
    PREFIX.extend(arguments.prefix.split())
    figures: list[Figure] = []
    for count in arguments.size or SIZES:
        cluster = Cluster(f"bench-{os.getpid()}", owner_pid=os.getpid(), controller_manager_args=(CONTROLLERS,))
        cluster.up()
        try:
            cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
            for part in ("namespace", "rbac"):
                cluster.kubectl("apply", "--server-side", "-f", str(ROOT / f"manifests/install/{part}.yaml"))
            with tempfile.TemporaryDirectory() as folder:
                figures += asyncio.run(measure(cluster, count, Path(folder)))
        finally:
            cluster.down()
    path = write_report("operator", figures)
    say(f"written to {path}")
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        sys.exit("goals missed:\n  " + "\n  ".join(missed))


if __name__ == "__main__":
    main()
