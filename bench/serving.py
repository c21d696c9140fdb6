"""How fast models are served: our server beside a bare handler and other servers, in one run on the same machine.

Every server is a real process on one core with one native thread; the load comes from a process on another core. The
servers take turns, several rounds, and the medians count, because a machine isn't equally fast all the time.
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import pandas as pd
import psutil
import sklearn
from sklearn.datasets import load_breast_cancer, load_iris

from bench.report import Figure, say, write_report, write_section
from bench.serving_load import Load, Result
from bench.serving_servers import (
    BARE,
    BARE_GRPC,
    CAPTURING,
    MLSERVER,
    NAME,
    OURS,
    ROOT,
    SERVERS,
    Model,
    Ports,
    Server,
    environment,
)
from devcluster.network import find_free_port
from modelkit.artifact.native import load_native
from modelkit.contract.codec import dumps
from modelkit.contract.config import (
    CandidateConfig,
    DataConfig,
    PreprocessingConfig,
    StoreConfig,
    TrainerConfig,
    VersionRef,
)

START_SECONDS = 120.0
SHAPES = ((1, 1), (1, 16), (100, 1), (100, 16))
"""Rows of a request, connections."""


@dataclass(frozen=True)
class Key:
    """One cell of the table."""

    model: str
    server: str
    protocol: str
    rows: int
    connections: int


@dataclass(frozen=True)
class Footprint:
    """Of a server that has answered one request after its start."""

    cold_start: float
    """Seconds from the process's start to its first answer."""
    memory: float
    """MiB that the process and its children have for themselves (PSS)."""


Results = dict[Key, list[Result]]


def train(title: str, frame: pd.DataFrame, estimator: str, params: dict[str, int], folder: Path) -> Model:
    """A version made by the trainer, and the same pipeline as the file that others load."""
    folder.mkdir()
    source, store = folder / "rows.csv", folder / "store"
    frame.to_csv(source, index=False)
    config = TrainerConfig(
        namespace="bench",
        name=NAME,
        number=1,
        version="1-bench",
        trigger="Created",
        store=StoreConfig(uri=f"file://{store}"),
        data=DataConfig(uri=f"file://{source}", display_uri=source.name, target="target"),
        candidates=(CandidateConfig(estimator=estimator, params=params),),
        preprocessing=PreprocessingConfig(scaling="None", imputation="None"),
    )
    log = folder / "termination.json"
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "MODELLOOP_CONFIG": dumps(config)}
    environ |= {"MODELLOOP_TERMINATION_LOG": str(log), "ORT_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-m", "modelkit.train"], env=environ, check=True, capture_output=True)
    made = json.loads(log.read_text())
    version = VersionRef(number=1, path=made["path"], digest=made["digest"])
    model = folder / "model.joblib"
    joblib.dump(load_native(store / version.path), model)
    rows = frame.drop(columns="target").to_numpy(float)
    return Model(title, store, version, rows, model)


@contextmanager
def running(server: Server, model: Model, core: int) -> Iterator[tuple[Ports, Footprint]]:
    """A server that answers, on one core."""
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), Ports(find_free_port(), find_free_port(), find_free_port())
        start = server.start(model, ports, folder)
        with (folder / "log").open("wb") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                start.command,
                env=environment(start, folder),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        try:
            protocol = next(iter(server.requests))
            message = server.requests[protocol](model, ports, model.rows[:1])
            wait_answer(process, ports, protocol, message, folder / "log")
            footprint = Footprint(time.perf_counter() - began, measure_memory(process.pid))
            yield ports, footprint
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_answer(process: subprocess.Popen[bytes], ports: Ports, protocol: str, message: str, log: Path) -> None:
    """Ask until the answer is right; raises RuntimeError when the process ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if protocol == "gRPC":
                send_load(Load(ports.grpc, 1, 0.05, message, grpc=True), None)
            else:
                ask_once(ports.rest, b64decode(message))
        except (OSError, RuntimeError, ValueError):
            time.sleep(0.005)
            continue
        return
    raise RuntimeError(f"the server doesn't answer: {log.read_text()[-2000:]}")


def ask_once(port: int, message: bytes) -> None:
    """One request; ValueError unless it succeeds."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(message)
        if not sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
            raise ValueError("not a success")


def send_load(load: Load, core: int | None) -> Result:
    """The load client as a process of its own."""
    pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
    command = [sys.executable, "-m", "bench.serving_load", json.dumps(asdict(load))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=pin)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-1000:])
    return Result(**json.loads(done.stdout))


def measure_memory(pid: int) -> float:
    """Proportional set size of the process and all its children, in MiB."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(member.memory_full_info().pss for member in family) / 2**20


def measure(server: Server, model: Model, seconds: float, cores: tuple[int, int], results: Results) -> Footprint:
    """All protocols and shapes of one server, once."""
    with running(server, model, cores[0]) as (ports, footprint):
        for protocol, request in server.requests.items():
            is_grpc = protocol == "gRPC"
            for rows, connections in SHAPES:
                message = request(model, ports, model.rows[:rows])
                load = Load(ports.grpc if is_grpc else ports.rest, connections, seconds, message, is_grpc)
                found = send_load(load, cores[1])
                results.setdefault(Key(model.title, server.name, protocol, rows, connections), []).append(found)
    return footprint


def judge(results: Results, footprints: dict[str, list[Footprint]], models: list[Model]) -> list[Figure]:
    """The goals, each against what ran beside it."""
    figures = []
    for model in models:

        def p50(server: str, protocol: str, title: str = model.title) -> float:
            return statistics.median(found.p50 for found in results[Key(title, server, protocol, 1, 1)])

        def rate(server: str, protocol: str, title: str = model.title) -> float:
            return statistics.median(found.per_second for found in results[Key(title, server, protocol, 1, 16)])

        title = model.title
        figures += [
            Figure(f"{title}: p50 against the bare handler's", p50(OURS, "REST") / p50(BARE, "REST"), "×", "<= 1.5"),
            Figure(f"{title}: rate against the bare handler's", rate(OURS, "REST") / rate(BARE, "REST"), "×", ">= 0.7"),
            Figure(
                f"{title}: rate against MLServer's, REST",
                rate(OURS, "REST v2") / rate(MLSERVER, "REST v2"),
                "×",
                ">= 10",
            ),
            Figure(f"{title}: rate against MLServer's, gRPC", rate(OURS, "gRPC") / rate(MLSERVER, "gRPC"), "×", ">= 3"),
            Figure(f"{title}: gRPC rate against the bare handler's", rate(OURS, "gRPC") / rate(BARE_GRPC, "gRPC"), "×"),
            Figure(f"{title}: rate with capture at 20 %", rate(CAPTURING, "REST") / rate(OURS, "REST"), "×", ">= 0.95"),
        ]
    figures.append(Figure("cold start", statistics.median(f.cold_start for f in footprints[OURS]), "s", "<= 1"))
    figures.append(Figure("memory", statistics.median(f.memory for f in footprints[OURS]), "MiB", "<= 150"))
    return figures


def describe(results: Results, footprints: dict[str, list[Footprint]], rounds: int, seconds: float) -> str:
    """The tables in Markdown."""
    lines = [
        f"Medians of {rounds} rounds of {seconds:g} s, the servers taking turns; server on one core, load on another; "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, scikit-learn {sklearn.__version__}, "
        f"{time.strftime('%B %Y')}. p50 in ms with 1 connection / requests per second with 16."
    ]
    for title in dict.fromkeys(key.model for key in results):
        lines += ["", f"| {title} | protocol | 1 row | 100 rows |", "|---|---|---|---|"]
        for server, protocol in dict.fromkeys((key.server, key.protocol) for key in results):
            cells = []
            for rows in (1, 100):
                one = statistics.median(found.p50 for found in results[Key(title, server, protocol, rows, 1)])
                many = statistics.median(found.per_second for found in results[Key(title, server, protocol, rows, 16)])
                cells.append(f"{one:.2f} / {many:,.0f}")
            lines.append(f"| {server} | {protocol} | {' | '.join(cells)} |")
    lines += ["", "| | cold start | memory |", "|---|---|---|"]
    for server, found in footprints.items():
        start, memory = (
            statistics.median(getattr(entry, name) for entry in found) for name in ("cold_start", "memory")
        )
        lines.append(f"| {server} | {start:.2f} s | {memory:.0f} MiB |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, print, and with --write change the page; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-serving")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of servers; goals need all")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    available = sorted(os.sched_getaffinity(0))
    cores = (available[0], available[-1])
    servers = [server for server in SERVERS if not options.only or server.name in options.only]
    results: Results = {}
    footprints: dict[str, list[Footprint]] = {}
    with tempfile.TemporaryDirectory() as name:
        forest, boosted = "iris, forest of 100 trees", "breast cancer, boosting"
        iris, cancer = load_iris(as_frame=True).frame, load_breast_cancer(as_frame=True).frame
        models = [
            train(forest, iris, "RandomForestClassifier", {"n_estimators": 100}, Path(name) / "iris"),
            train(boosted, cancer, "GradientBoostingClassifier", {"n_estimators": 100}, Path(name) / "cancer"),
        ]
        for turn in range(options.rounds):
            for model in models:
                for server in servers:
                    say(f"round {turn + 1}: {model.title}: {server.name}")
                    footprint = measure(server, model, options.seconds, cores, results)
                    footprints.setdefault(server.name, []).append(footprint)
    text = describe(results, footprints, options.rounds, options.seconds)
    print(text)
    if options.only:
        return 0
    if options.write:
        write_section("serving", text)
    figures = judge(results, footprints, models)
    write_report("serving", figures)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
