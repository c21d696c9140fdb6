"""gRPC servers of real versions on loopback ports, and a plain client of them.

All of them are on one event loop, because gRPC's own event queue belongs to one.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from google.protobuf.message import Message
from numpy.typing import NDArray

from modelkit.contract.config import LimitsConfig, StoreConfig, TlsConfig
from modelkit.serve.auth import Auth
from modelkit.serve.batch import Batch
from modelkit.serve.engine import Engine
from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.grpc.calls import Calls
from modelkit.serve.grpc.server import GrpcServer
from modelkit.serve.loading import LoadedVersion, load_version
from modelkit.serve.model import Answer
from modelkit.serve.settings import Settings
from modelkit.serve.v2_tensors import DTYPES, write_raw
from modelkit.serve.warmup import Cost
from modelkit.store.store import Store
from tests.unit.serve.serve_models import Example, store_example
from tests.unit.serve.serve_process import server_config

SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True)
class GrpcServed:
    """A version behind gRPC."""

    example: Example
    version: LoadedVersion
    engine: Engine
    server: GrpcServer
    channel: Any
    loop: asyncio.AbstractEventLoop
    store: Store

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def ask(self, method: str, request: Message | bytes = b"", service: str = SERVICE, **options: Any) -> Any:
        """The answer's bytes; raises grpc.RpcError. Within ten seconds if nothing else is said."""
        message = request if isinstance(request, bytes) else request.SerializeToString()
        return self.channel.unary_unary(f"/{service}/{method}")(message, **({"timeout": 10.0} | options))

    def infer(self, request: pb.ModelInferRequest, **options: Any) -> pb.ModelInferResponse:
        return pb.ModelInferResponse.FromString(self.ask("ModelInfer", request, **options))

    def refused(self, method: str, request: Message | bytes = b"", **options: Any) -> Any:
        """The error of a call that must fail, with its code, details and trailers."""
        try:
            self.ask(method, request, **options)
        except grpc.RpcError as error:
            return error
        raise AssertionError("the call was answered")

    def slow_down(self) -> threading.Event:
        """Make the version answer only after the event, and look expensive enough for a thread."""
        release, predict = threading.Event(), self.version.service.model.predict

        def wait(batch: Batch) -> Answer:
            release.wait(20)
            return predict(batch)

        self.version.service.model.predict = wait  # type: ignore[method-assign]
        self.engine.cost = Cost(fixed=1.0, per_row=0.0)
        return release

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)


GrpcServe = Callable[..., GrpcServed]


def tensor_request(example: Example, rows: NDArray[Any], datatype: str = "FP64", *, raw: bool) -> pb.ModelInferRequest:
    """One matrix tensor [rows, features]."""
    request = pb.ModelInferRequest(model_name=example.signature.model)
    add_input(request, "X", datatype, rows.shape, rows.ravel(), raw=raw)
    return request


def add_input(
    request: pb.ModelInferRequest, name: str, datatype: str, shape: Sequence[int], values: Any, *, raw: bool
) -> None:
    """A tensor with `values`, raw or in the field that the specification names for the datatype."""
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw:
        request.raw_input_contents.append(write_raw(datatype, values))
        return
    fields = {"INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes", "BOOL": "bool"}
    prefix = fields.get(datatype) or ("int" if datatype.startswith("INT") else "uint")
    if datatype == "BYTES":
        values = [str(value).encode() for value in values]
    else:
        values = np.asarray(values).astype(DTYPES[datatype]).tolist()
    getattr(tensor.contents, f"{prefix}_contents").extend(values)


@contextmanager
def grpc_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def serve_grpc(
    stack: ExitStack,
    loop: asyncio.AbstractEventLoop,
    folder: Path,
    example: Example,
    *,
    limits: LimitsConfig | None = None,
    auth: Auth | None = None,
    tls: TlsConfig | None = None,
) -> GrpcServed:
    """Load the example and listen until the stack is closed."""
    root = folder / "store"
    store = Store.open(StoreConfig(uri=f"file://{root}"), {})
    config = server_config(root, store_example(store, example), example.signature.model, limits=limits)
    version = load_version(Settings(config=replace(config), port=0, work=folder / "work", pod="pod-0"), store, 1)
    stack.callback(version.close)
    pool = stack.enter_context(ThreadPoolExecutor(2))
    engine = Engine(version.service, config.limits, config.batching, version.cost, pool, 2)

    async def start() -> GrpcServer:
        server = GrpcServer(Calls(version.service, engine, auth), config.limits, tls, 0)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    stack.callback(lambda: asyncio.run_coroutine_threadsafe(server.wait_closed(0), loop).result(20))
    channel = stack.enter_context(
        grpc.insecure_channel(
            f"127.0.0.1:{server.port}",
            [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)],
        )
    )
    return GrpcServed(example, version, engine, server, channel, loop, store)
