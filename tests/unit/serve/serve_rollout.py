"""Pods of two versions on loopback ports, each with a route.json that is swapped as the kubelet does it.

All of them are on one event loop, because gRPC's own event queue belongs to one.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from modelkit.contract.codec import dumps, from_plain
from modelkit.contract.config import LimitsConfig, RuntimeConfig, StoreConfig, TlsConfig
from modelkit.contract.route import PeerConfig, RouteConfig, RouteReport, RuleConfig
from modelkit.serve.app import App
from modelkit.serve.auth import Auth
from modelkit.serve.batch import Batch
from modelkit.serve.engine import Engine
from modelkit.serve.grpc.calls import Calls
from modelkit.serve.grpc.server import GrpcServer
from modelkit.serve.loading import LoadedVersion, load_version
from modelkit.serve.model import Answer
from modelkit.serve.server import Server
from modelkit.serve.settings import Settings
from modelkit.serve.tls import Certificate
from modelkit.serve.warmup import Cost
from modelkit.store.store import Store
from tests.unit.serve.serve_models import Example, cancer, diabetes, refit, store_example
from tests.unit.serve.serve_process import server_config

PATHS = {"plain": "/predict", "v2": "/v2/models/cancer/infer", "v1": "/v1/models/cancer:predict"}


@cache
def newer_cancer() -> Example:
    """Version 4 of `cancer`: a tree, which often says something else."""
    example = cancer()
    target = example.pipeline.predict(example.rows)
    target[::7] = 1 - target[::7]
    return refit(example, make_pipeline(DecisionTreeClassifier(max_depth=3, random_state=0)).fit(example.rows, target))


@cache
def newer_diabetes() -> Example:
    """Version 4 of `diabetes`: other coefficients."""
    example = diabetes()
    target = example.pipeline.predict(example.rows) * 1.3 - 20
    return refit(example, make_pipeline(Ridge(alpha=10.0)).fit(example.rows, target))


@dataclass
class RolloutPod:
    """A pod of one version."""

    example: Example
    version: LoadedVersion
    app: App
    engine: Engine
    server: Server
    grpc: GrpcServer
    store: Store
    port: int
    mount: Path
    loop: asyncio.AbstractEventLoop
    scheme: str = "http"
    stopped: threading.Event = field(default_factory=threading.Event)
    writes: int = 0

    @property
    def digest(self) -> str:
        return self.version.service.rollout.report().digest

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def peer(self) -> PeerConfig:
        return PeerConfig(number=4, http=self.place, grpc=f"127.0.0.1:{self.grpc.port}")

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=f"{self.scheme}://{self.place}", timeout=20, verify=False, **options)

    def ask(self, rows: Any = None, path: str = "/predict", **options: Any) -> httpx.Response:
        """One request of the first row, if nothing else is said."""
        content = {"features": self.example.values(1) if rows is None else rows}
        with self.client() as client:
            return client.post(path, **({"json": content} | options))

    def report(self) -> RouteReport:
        with self.client() as client:
            return from_plain(RouteReport, client.get("/rollout").raise_for_status().json())

    def metric(self, name: str, **labels: str) -> float:
        return self.version.service.metrics.registry.get_sample_value(name, labels) or 0.0

    def asked(self) -> float:
        """Requests that other pods have passed on to this one and that it answered."""
        return self.metric("modelloop_requests_total", route="passed_on", code="200")

    def mount_text(self, text: str | bytes) -> None:
        """What the kubelet does: a new folder, to which a link then turns at once."""
        self.writes += 1
        data = self.mount / f"..{self.writes}"
        data.mkdir(parents=True)
        (data / "route.json").write_bytes(text.encode() if isinstance(text, str) else text)
        link = self.mount / "..new"
        link.symlink_to(data.name)
        link.rename(self.mount / "..data")
        if not (self.mount / "route.json").is_symlink():
            (self.mount / "route.json").symlink_to("..data/route.json")

    def follow(self, config: RouteConfig) -> None:
        """Mount the route and wait until it is in effect."""
        self.mount_text(dumps(config))
        wait_until(lambda: self.report().revision == config.revision)
        wait_until(lambda: self.is_reaching_nobody)

    @property
    def is_reaching_nobody(self) -> bool:
        """Has the other version's address been tried, if there is a rule?"""
        router = self.version.service.rollout.router
        return router is None or router.lane.reach()

    def slow_down(self) -> threading.Event:
        """Make the version answer only after the event, and look expensive enough for a thread."""
        release, predict = threading.Event(), self.version.service.model.predict

        def wait(batch: Batch) -> Answer:
            release.wait(20)
            return predict(batch)

        self.version.service.model.predict = wait  # type: ignore[method-assign]
        self.engine.cost = Cost(fixed=1.0, per_row=0.0)
        return release

    def break_down(self, error: Exception | None = None) -> Callable[[], None]:
        """Make the version fail; what is returned mends it."""
        model, predict = self.version.service.model, self.version.service.model.predict
        found = error or RuntimeError("broken")

        def fail(batch: Batch) -> Answer:
            raise found

        def mend() -> None:
            model.predict = predict  # type: ignore[method-assign]

        model.predict = fail  # type: ignore[method-assign]
        return mend

    def run(self, call: Callable[[], Any]) -> Any:
        """Do something on the pod's event loop."""

        async def work() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(20)

    def stop(self) -> None:
        """What a signal does."""
        self.loop.call_soon_threadsafe(self.server.stop)


@dataclass
class Pods:
    """Where tests get pods from."""

    stack: ExitStack
    folder: Path
    loop: asyncio.AbstractEventLoop
    count: int = 0

    def start(
        self,
        example: Example,
        *,
        limits: LimitsConfig | None = None,
        tls: TlsConfig | None = None,
        auth: Auth | None = None,
        drain_seconds: float = 0.0,
        runtime: RuntimeConfig | None = None,
    ) -> RolloutPod:
        """A ready pod, stopped at the end of the test."""
        self.count += 1
        root, name = self.folder / "store", f"pod-{self.count}"
        store = Store.open(StoreConfig(uri=f"file://{root}"), {})
        config = server_config(root, store_example(store, example), example.signature.model, limits=limits)
        config = replace(config, tls=tls, runtime=runtime)
        mount = self.folder / name / "route"
        settings = Settings(
            config=config, port=0, work=self.folder / name / "work", pod=name, route=mount / "route.json"
        )
        version = load_version(settings, store, 1)
        self.stack.callback(version.close)
        pool = self.stack.enter_context(ThreadPoolExecutor(3))
        engine = Engine(version.service, config.limits, config.batching, version.cost, pool, 2)
        watch = () if version.remote is None else (version.remote.watch,)
        app = App(version.service, engine, pool, auth)
        grpc = GrpcServer(Calls(version.service, engine, auth), config.limits, tls, 0)
        server = Server(
            app,
            config.limits,
            drain_seconds=drain_seconds,
            certificate=None if tls is None else Certificate(tls),
            auth=auth,
            companions=(version.service.rollout, grpc, *watch),
            refresh_seconds=0.02,
        )
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        scheme = "http" if tls is None else "https"
        pod = RolloutPod(
            example, version, app, engine, server, grpc, store, listener.getsockname()[1], mount, self.loop, scheme
        )
        self._run(pod, listener)
        return pod

    def _run(self, pod: RolloutPod, listener: socket.socket) -> None:
        started = threading.Event()

        async def serve() -> None:
            try:
                await pod.server.serve(listener, started.set)
            finally:
                pod.stopped.set()

        running = asyncio.run_coroutine_threadsafe(serve(), self.loop)

        def stop() -> None:
            for _ in range(2):
                pod.stop()
            running.result(30)

        self.stack.callback(stop)
        assert started.wait(10)
        wait_until(lambda: pod.version.service.is_ready)

    def pair(self, **options: Any) -> tuple[RolloutPod, RolloutPod]:
        """A stable pod and one of a newer version."""
        return self.start(cancer(), **options), self.start(newer_cancer(), **options)


@contextmanager
def rollout_pods(folder: Path, loop: asyncio.AbstractEventLoop) -> Iterator[Pods]:
    """Stop all of them at the end. An address that leads nowhere is given up soon."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelkit.serve.rollout.lane.REACH_SECONDS", 0.2)
        yield Pods(stack, folder, loop)


@contextmanager
def forward(port: int, target: int) -> Iterator[None]:
    """Lead `port` of the loopback network to another one, as a Service's address does once the node knows of it."""

    threads: list[threading.Thread] = []
    ends: list[socket.socket] = []

    def start(work: Callable[..., None], *args: socket.socket) -> None:
        threads.append(threading.Thread(target=work, args=args, daemon=True))
        threads[-1].start()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", target))
                ends.extend((near, far))
                start(copy, near, far)
                start(copy, far, near)

    with socket.create_server(("127.0.0.1", port)) as listener:
        start(accept)
        yield
        listener.shutdown(socket.SHUT_RDWR)
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)
    for end in ends:
        end.close()


def route(
    stable: RolloutPod,
    other: RolloutPod | PeerConfig,
    *,
    revision: str = "1",
    measurement: str = "m",
    digest: str = "sha256:other",
    labels: Sequence[str] = (),
    **rule: Any,
) -> RouteConfig:
    """One rule: `stable` shares with `other`. With a timeout that no busy machine reaches."""
    if isinstance(other, RolloutPod):
        digest, peer = other.digest, other.peer
    else:
        peer = other
    found = RuleConfig(other=digest, **({"timeout_seconds": 10.0} | rule))
    return RouteConfig(
        revision=revision,
        measurement=measurement,
        peers={digest: peer},
        rules={stable.digest: found},
        labels=tuple(labels),
    )


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't come true in time"
        time.sleep(0.005)
