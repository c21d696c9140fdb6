"""Honest clients of one ModelDeployment, over all its protocols, that count what fails and who answered when.

Nothing is tried again: whatever isn't a right answer counts as a failure.
"""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from modelkit.serve.grpc import inference_pb2 as pb
from modelkit.serve.v2_tensors import write_raw
from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_traffic import Row

_PATIENCE = 10.0
_JSON = {"Content-Type": "application/json"}
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


class CallError(Exception):
    """Something else than a right answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is asked."""

    host: str
    http_port: int
    grpc_port: int
    model: str


class Caller(Protocol):
    """One client. `ask` gives the version that answered; anything that it raises is a failure."""

    def ask(self, row: Row) -> str:
        """One request."""

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""


class Rest:
    """HTTP/1.1 over one connection: `/predict`, or the Open Inference Protocol."""

    def __init__(self, endpoint: Endpoint, *, is_v2: bool) -> None:
        self._connection = http.client.HTTPConnection(endpoint.host, endpoint.http_port, timeout=_PATIENCE)
        self._path = f"/v2/models/{endpoint.model}/infer" if is_v2 else "/predict"
        self._is_v2 = is_v2

    def ask(self, row: Row) -> str:
        """One request; raises CallError, OSError, HTTPException, ValueError or KeyError."""
        body = {"inputs": [_tensor(row)]} if self._is_v2 else {"features": [row]}
        self._connection.request("POST", self._path, json.dumps(body), _JSON)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise CallError(f"{answer.status}: {text[:200]!r}")
        plain = json.loads(text)
        predictions = plain["outputs"][0]["data"] if self._is_v2 else plain["predictions"]
        _require_label(predictions)
        return str(plain["model_version" if self._is_v2 else "version"])

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()


class Grpc:
    """ModelInfer over one channel."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: Any = None

    def ask(self, row: Row) -> str:
        """One call; raises CallError or grpc.RpcError."""
        if self._channel is None:
            target = f"{self._endpoint.host}:{self._endpoint.grpc_port}"
            self._channel = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        request = pb.ModelInferRequest(model_name=self._endpoint.model)
        request.inputs.add(name="X", datatype="FP64", shape=(1, len(row)))
        request.raw_input_contents.append(write_raw("FP64", list(row.values())))
        content = self._channel.unary_unary(_METHOD)(request.SerializeToString(), timeout=_PATIENCE)
        answer = pb.ModelInferResponse.FromString(content)
        if len(answer.outputs) == 0:
            raise CallError("an answer without a prediction")
        return str(answer.model_version)

    def close(self) -> None:
        """Close the channel; the next call opens one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _tensor(row: Row) -> dict[str, Any]:
    return {"name": "X", "shape": [1, len(row)], "datatype": "FP64", "data": list(row.values())}


def _require_label(predictions: list[Any]) -> None:
    if len(predictions) != 1 or predictions[0] not in (0, 1):
        raise CallError("an answer without a right prediction")


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of client."""

    make: Callable[[Endpoint], Caller]
    keeps: bool
    """One connection for all requests, not a new one for each."""


KINDS = (
    Kind(lambda endpoint: Rest(endpoint, is_v2=False), keeps=True),
    Kind(lambda endpoint: Rest(endpoint, is_v2=False), keeps=False),
    Kind(lambda endpoint: Rest(endpoint, is_v2=True), keeps=True),
    Kind(lambda endpoint: Rest(endpoint, is_v2=True), keeps=False),
    Kind(Grpc, keeps=True),
    Kind(Grpc, keeps=False),
)


@dataclass(slots=True)
class Answers:
    """What one version answered; times are those of the requests' beginnings, on the monotonic clock."""

    count: int
    first: float
    last: float


@dataclass(slots=True)
class Count:
    """What the clients got."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    by_version: dict[str, Answers] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    """Of every request."""


class Callers:
    """One client of each kind, asking without end; `with` them for as long as they shall."""

    def __init__(self, endpoint: Endpoint, rows: Sequence[Row], pause: float = 0.08) -> None:
        self._endpoint, self._rows, self._pause = endpoint, rows, pause
        self._stop, self._quiet = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._count = Count()
        self._busy = 0
        self._threads = [
            threading.Thread(target=self._run, args=(kind, number), daemon=True) for number, kind in enumerate(KINDS)
        ]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def requests(self) -> int:
        """Sent so far."""
        with self._lock:
            return self._count.requests

    @property
    def failures(self) -> list[str]:
        """What went wrong so far, in words."""
        with self._lock:
            return list(self._count.failures)

    @property
    def seconds(self) -> list[float]:
        """How long every request took."""
        with self._lock:
            return list(self._count.seconds)

    def answers_of(self, version: int) -> Answers:
        """What a version has answered so far."""
        with self._lock:
            found = self._count.by_version.get(str(version))
            return Answers(0, 0.0, 0.0) if found is None else Answers(found.count, found.first, found.last)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """No request is under way or sent while this lasts."""
        with self._lock:
            self._quiet.set()
        wait_for(lambda: not self._busy, 2 * _PATIENCE, what="the last answers", every=0.01)
        try:
            yield
        finally:
            self._quiet.clear()

    def _run(self, kind: Kind, number: int) -> None:
        caller = kind.make(self._endpoint)
        first = number * len(self._rows) // len(KINDS)
        for row in itertools.islice(itertools.cycle(self._rows), first, None):
            if self._stop.is_set():
                break
            if not self._call(caller, row) or not kind.keeps:
                caller.close()
            self._stop.wait(self._pause)
        caller.close()

    def _call(self, caller: Caller, row: Row) -> bool:
        """Did the request succeed? In silence there is none, and no connection is kept that the server may close."""
        with self._lock:
            if self._quiet.is_set():
                return False
            self._busy += 1
        failure, version, began = "", "", time.monotonic()
        try:
            version = caller.ask(row)
        except grpc.RpcError as exc:
            failure = f"gRPC {exc.code()}: {exc.details()}"
        except (CallError, OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            failure = f"{type(exc).__name__}: {exc}"
        seconds = time.monotonic() - began
        with self._lock:
            self._busy -= 1
            self._count.requests += 1
            self._count.seconds.append(seconds)
            if failure:
                clock = time.strftime("%H:%M:%S", time.gmtime())
                self._count.failures.append(f"{clock} {type(caller).__name__} after {seconds:.2f} s: {failure}")
            else:
                answers = self._count.by_version.setdefault(version, Answers(0, began, began))
                answers.count += 1
                answers.first, answers.last = min(answers.first, began), max(answers.last, began)
        return not failure
