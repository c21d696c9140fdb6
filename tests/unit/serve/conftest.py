"""In-process servers of real versions, asked over loopback."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.contract.config import CaptureConfig, LimitsConfig, StoreConfig
from modelkit.serve.app import App
from modelkit.serve.auth import Auth
from modelkit.serve.batch import Batch
from modelkit.serve.engine import Engine
from modelkit.serve.loading import LoadedVersion, load_version
from modelkit.serve.model import Answer
from modelkit.serve.server import Server
from modelkit.serve.settings import Settings
from modelkit.serve.tls import Certificate
from modelkit.serve.warmup import Cost
from modelkit.store.store import Store
from tests.unit.serve.serve_loopback import Loopback, running
from tests.unit.serve.serve_models import Example, store_example
from tests.unit.serve.serve_process import server_config


@dataclass(frozen=True)
class Served:
    """A loaded version and a client of its app."""

    example: Example
    app: App
    version: LoadedVersion
    client: httpx.AsyncClient
    store: Store
    loopback: Loopback

    async def predict(self, features: Any, **headers: str) -> httpx.Response:
        return await self.client.post("/predict", json={"features": features}, headers=headers)

    async def infer(self, **body: Any) -> httpx.Response:
        return await self.client.post(f"/v2/models/{self.example.signature.model}/infer", json=body)

    async def metric(self, sample: str) -> float:
        """The value of one line of /metrics."""
        for line in (await self.client.get("/metrics")).text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {sample}")


Serve = Callable[..., Served]


def slow_down(served: Served) -> threading.Event:
    """Make the version answer only after the event, and look expensive enough for a thread."""
    release, predict = threading.Event(), served.version.service.model.predict

    def wait(batch: Batch) -> Answer:
        release.wait(20)
        return predict(batch)

    served.version.service.model.predict = wait  # type: ignore[method-assign]
    served.app.engine.cost = Cost(fixed=1.0, per_row=0.0)
    return release


@contextmanager
def serving(folder: Path, example: Example, **options: Any) -> Iterator[Served]:
    """One server of an example, for fixtures with a scope of their own."""
    with ExitStack() as stack:
        yield _serve(stack, folder, example, **options)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Load an example as the server does; several in one test are several servers on one store."""
    with ExitStack() as stack:
        yield partial(_serve, stack, tmp_path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The same, loaded once per example for all tests that only ask."""
    with ExitStack() as stack:
        yield cache(partial(_serve, stack, tmp_path_factory.mktemp("shared")))


def _serve(
    stack: ExitStack,
    folder: Path,
    example: Example,
    *,
    limits: LimitsConfig | None = None,
    capture: CaptureConfig | None = None,
    auth: Auth | None = None,
    certificate: Certificate | None = None,
    drain_seconds: float = 0.0,
) -> Served:
    root = folder / "store"
    store = Store.open(StoreConfig(uri=f"file://{root}"), {})
    config = server_config(root, store_example(store, example), example.signature.model, limits=limits)
    if capture is not None:
        config = replace(config, capture=capture)
    version = load_version(Settings(config=config, port=0, work=folder / "work", pod="pod-0"), store, 1)
    stack.callback(version.close)
    pool = stack.enter_context(ThreadPoolExecutor(2))
    engine = Engine(version.service, config.limits, config.batching, version.cost, pool, 2)
    app = App(version.service, engine, pool, auth)
    server = Server(
        app, config.limits, drain_seconds=drain_seconds, certificate=certificate, auth=auth, refresh_seconds=0.02
    )
    loopback = stack.enter_context(running(server))
    # Tests have event loops of their own, which no kept connection may outlive.
    client = httpx.AsyncClient(base_url=loopback.url, limits=httpx.Limits(max_keepalive_connections=0))
    return Served(example, app, version, client, store, loopback)
