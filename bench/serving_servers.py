"""The servers that `make bench-serving` compares: how each is started, and what one asks it."""

import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devcluster.environments import locked_python
from modelkit.contract.codec import dumps
from modelkit.contract.config import CaptureConfig, ServerConfig, StoreConfig, VersionRef
from modelkit.serve.grpc.inference_pb2 import ModelInferRequest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "bench" / "peers"
ENVIRONMENTS = ROOT / "build" / "bench" / "peers"
LOCKS = ROOT / "requirements" / "others"
NAME = "model"

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """One trained model, as a version of ours and as the files that others load."""

    title: str
    store: Path
    version: VersionRef
    rows: Matrix
    joblib: Path

    @property
    def onnx(self) -> Path:
        """The version's own export."""
        return self.store / self.version.path / "model.onnx"


@dataclass(frozen=True)
class Ports:
    """Free ports of one server."""

    rest: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class Start:
    """A process to start."""

    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One side of the comparison."""

    name: str
    start: Callable[[Model, Ports, Path], Start]
    requests: dict[str, Callable[[Model, Ports, Matrix], str]]
    """Base64 of a request with these rows, by protocol: `REST`, `REST v2`, `gRPC`."""


def python(peer: str) -> str:
    """The interpreter of a peer's environment."""
    return str(locked_python(LOCKS / f"{peer}.lock", ENVIRONMENTS / peer))


def http_request(path: str, plain: object, port: int) -> str:
    """A whole HTTP/1.1 request."""
    body = json.dumps(plain, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return b64encode(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body).decode()


def plain_request(model: Model, ports: Ports, rows: Matrix) -> str:
    """{"features": rows}."""
    del model
    return http_request("/predict", {"features": rows.tolist()}, ports.rest)


def v2_request(model: Model, ports: Ports, rows: Matrix) -> str:
    """One FP64 tensor; all servers return the labels."""
    del model
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return http_request(f"/v2/models/{NAME}/infer", {"inputs": [tensor]}, ports.rest)


def grpc_request(model: Model, ports: Ports, rows: Matrix) -> str:
    """A ModelInferRequest with raw contents."""
    del model, ports
    tensor = ModelInferRequest.InferInputTensor(name="X", datatype="FP64", shape=rows.shape)
    raw = rows.astype("<f8").tobytes()
    request = ModelInferRequest(model_name=NAME, inputs=[tensor], raw_input_contents=[raw])
    return b64encode(request.SerializeToString()).decode()


def ours(name: str, sample_percent: int) -> Server:
    """Our server with validation, limits and metrics, as the operator starts it."""

    def start(model: Model, ports: Ports, folder: Path) -> Start:
        config = ServerConfig(
            namespace="bench",
            deployment=NAME,
            version=model.version,
            store=StoreConfig(uri=f"file://{model.store}"),
            capture=CaptureConfig(sample_percent=sample_percent),
        )
        environ = {
            "MODELLOOP_CONFIG": dumps(config),
            "MODELLOOP_HTTP_PORT": str(ports.rest),
            "MODELLOOP_GRPC_PORT": str(ports.grpc),
            "MODELLOOP_WORK": str(folder),
            "MODELLOOP_TERMINATION_LOG": str(folder / "termination.json"),
        }
        return Start([sys.executable, "-m", "modelkit.serve"], environ)

    return Server(name, start, {"REST": plain_request, "REST v2": v2_request, "gRPC": grpc_request})


def _bare(model: Model, ports: Ports, folder: Path) -> Start:
    del folder
    return Start([python("bare"), str(PEERS / "bare_rest.py"), str(model.onnx), str(ports.rest)])


def _bare_grpc(model: Model, ports: Ports, folder: Path) -> Start:
    del folder
    columns = str(model.rows.shape[1])
    return Start([python("bare"), str(PEERS / "bare_grpc.py"), str(model.onnx), str(ports.grpc), columns])


def _flask(model: Model, ports: Ports, folder: Path) -> Start:
    del folder
    options = ["--workers", "1", "--worker-class", "gthread", "--threads", "16", "--keep-alive", "75"]
    bind = ["--bind", f"127.0.0.1:{ports.rest}", "--chdir", str(PEERS), "--log-level", "error"]
    environ = {"BENCH_MODEL": str(model.joblib)}
    return Start([python("bare"), "-m", "gunicorn", *options, *bind, "flask_app:app"], environ)


def _mlserver(model: Model, ports: Ports, folder: Path) -> Start:
    settings = {
        "host": "127.0.0.1",
        "http_port": ports.rest,
        "grpc_port": ports.grpc,
        "metrics_port": ports.metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    implementation = "mlserver_sklearn.SKLearnModel"
    entry = {"name": NAME, "implementation": implementation, "parameters": {"uri": str(model.joblib)}}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(entry))
    return Start([str(Path(python("mlserver")).parent / "mlserver"), "start", str(folder)])


def _kserve(model: Model, ports: Ports, folder: Path) -> Start:
    del folder
    return Start([python("kserve"), str(PEERS / "kserve_server.py"), str(model.joblib), str(ports.rest)])


def _bentoml(model: Model, ports: Ports, folder: Path) -> Start:
    environ = {"BENCH_MODEL": str(model.joblib), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    command = [str(Path(python("bentoml")).parent / "bentoml"), "serve", "bentoml_service:Classifier"]
    address = ["--host", "127.0.0.1", "--port", str(ports.rest), "--working-dir", str(PEERS)]
    return Start([*command, *address], environ)


OURS, CAPTURING = "modelloop", "modelloop, capture 20 %"
BARE, BARE_GRPC, MLSERVER = "bare uvicorn + ONNX Runtime + orjson", "bare grpc.aio + ONNX Runtime", "MLServer"
SERVERS = (
    ours(OURS, 0),
    ours(CAPTURING, 20),
    Server(BARE, _bare, {"REST": plain_request}),
    Server("Flask + gunicorn", _flask, {"REST": plain_request}),
    Server(MLSERVER, _mlserver, {"REST v2": v2_request, "gRPC": grpc_request}),
    Server("KServe SDK", _kserve, {"REST v2": v2_request}),
    Server("BentoML", _bentoml, {"REST": plain_request}),
    Server(BARE_GRPC, _bare_grpc, {"gRPC": grpc_request}),
)


def environment(start: Start, folder: Path) -> dict[str, str]:
    """Of a server's process: one native thread each, which is all that one core is good for."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    common = {"PATH": os.environ["PATH"], "HOME": str(folder), "ORT_DISABLE_TELEMETRY": "1", "TMPDIR": str(folder)}
    return {**common, **threads, **start.environ}
