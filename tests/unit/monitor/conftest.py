"""A stored version, captured traffic and an API server over real HTTP, for the monitor's tests."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkit.artifact.version import write_version
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import FEEDBACK_STREAM, METRICS, PROFILE, REQUESTS_STREAM, SIGNATURE, capture_hour
from modelkit.contract.monitoring import MonitorConfig
from modelkit.data.profile import build_profile
from modelkit.store.segments import SegmentNames, compress_segment
from modelkit.store.store import Store

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = ("age", "income", "score", "city")
CITIES = np.array(["Ulm", "Bonn", "Köln"], dtype=object)


@dataclass(frozen=True)
class World:
    """One version and its traffic in a folder."""

    store: Store
    config: MonitorConfig

    def send(
        self,
        rows: Sequence[dict[str, Any]],
        labels: Sequence[Any] = (),
        *,
        predictions: Sequence[Any] | None = None,
        digest: str | None = None,
        ago: float = 60.0,
        pod: str = "pod-a",
    ) -> None:
        """Capture `rows`, and `labels` for the first of them, `ago` seconds before the window's end."""
        time = END - timedelta(seconds=ago)
        stamp = time.isoformat()
        lines = []
        for index, features in enumerate(rows):
            answer = predictions[index] if predictions is not None else index % 2
            record = {
                "id": f"{pod}-{index}",
                "row": 0,
                "time": stamp,
                "digest": digest or self.config.version.digest,
                "version": self.config.version.number,
                "features": features,
                "prediction": answer,
                "probabilities": [1.0 - answer, float(answer)],
            }
            lines.append(record)
        told = [
            {"id": f"{pod}-{index}", "row": 0, "label": label, "time": stamp, "received": stamp}
            for index, label in enumerate(labels)
        ]
        for stream, records in ((REQUESTS_STREAM, lines), (FEEDBACK_STREAM, told)):
            names = SegmentNames(self.config.namespace, self.config.deployment, stream, pod, time)
            data = compress_segment(json.dumps(record).encode() + b"\n" for record in records)
            self.store.write_new(names.next_path(capture_hour(time)), data)


def draw_rows(count: int, seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """Rows of the version's world; `shift` moves the age by so many standard deviations."""
    generator = np.random.default_rng(seed)
    columns = [
        generator.normal(40 + 10 * shift, 10, count),
        generator.lognormal(8, 1, count),
        generator.integers(0, 5, count).astype(float),
        generator.choice(CITIES, count),
    ]
    return [dict(zip(NAMES, values, strict=True)) for values in zip(*(c.tolist() for c in columns), strict=True)]


@pytest.fixture
def rows() -> Callable[..., list[dict[str, Any]]]:
    return draw_rows


@pytest.fixture
def world(tmp_path: Path) -> World:
    config = StoreConfig(uri=f"file://{tmp_path}/store")
    store = Store.open(config, {})
    (tmp_path / "store").mkdir()
    reference = draw_rows(500, seed=1)
    columns = {name: np.array([row[name] for row in reference], dtype=object) for name in NAMES}
    kinds = {name: "categorical" if name == "city" else "numeric" for name in NAMES}
    predictions = np.arange(200) % 2
    scores = np.stack([1.0 - predictions, predictions], axis=1)
    profile = build_profile(columns, kinds, predictions, scores, "Classification", [0, 1])
    metrics = {"metric": "accuracy", "metrics": {"accuracy": 0.95, "f1": 0.94}, "test_rows": 200}
    inputs = [{"name": name, "dtype": "float64", "kind": kinds[name], "nullable": False} for name in NAMES]
    signature = {"task": "Classification", "metric": "accuracy", "classes": [0, 1], "inputs": inputs}
    contents = {PROFILE: profile, METRICS: metrics, SIGNATURE: signature}
    path = "models/shop/churn/3-0a1b2c3d"
    files = {name: json.dumps(content).encode() for name, content in contents.items()}
    digest = write_version(store, path, files, {"run": "test"})
    return World(
        store,
        MonitorConfig(
            namespace="shop",
            name="churn-monitor",
            deployment="churn",
            version=VersionRef(number=3, path=path, digest=digest),
            version_since=END - timedelta(days=1),
            store=config,
            window_seconds=3600,
        ),
    )


@dataclass
class ApiState:
    """What the API server holds, what it was asked, and how it fails next."""

    status: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    failures: list[int | str] = field(default_factory=list)
    """Taken one per request: an HTTP code, `hang up`, or `write` (another writer between read and patch)."""
    url: str = ""
    handler: Any = None


class _Handler(BaseHTTPRequestHandler):
    """GET and server-side apply of one status, with the resourceVersion check of the real one."""

    state: ApiState

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._record(None)
        if not self._fail():
            self._answer(200, self._object())

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._record(body)
        if self._fail():
            return
        if body["metadata"]["resourceVersion"] != str(self.state.version):
            self._answer(409, {"message": "the object has been modified"})
            return
        self.state.status |= body["status"]
        self.state.version += 1
        self._answer(200, self._object())

    def _record(self, body: Any) -> None:
        self.state.requests.append((self.command, self.path, dict(self.headers), body))

    def _object(self) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": str(self.state.version)}, "status": self.state.status}

    def _fail(self) -> bool:
        failure = self.state.failures.pop(0) if self.state.failures else 200
        if failure == "write":
            answer = self._object()
            self.state.version += 1
            self._answer(200, answer)
            return True
        if failure == "hang up":
            self.connection.close()
            return True
        if failure != 200:
            self._answer(int(failure), {"message": f"told to answer {failure}"})
        return failure != 200

    def _answer(self, code: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def api() -> Iterator[ApiState]:
    state = ApiState()
    state.handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), state.handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("a-token\n")
    return path
