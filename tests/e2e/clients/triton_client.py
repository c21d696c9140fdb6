"""tritonclient, unmodified, over HTTP and gRPC: what it was told about the server, and all ways to ask.

Program: host, HTTP port, gRPC port, model; {"rows": [[…]]} on standard input. Prints {"health": […], "metadata": …,
"answers": [{"way", "labels", "probabilities"}]}.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

THREADS, TIMES = 8, 25
host, http_port, grpc_port, model = sys.argv[1:5]
rows = np.array(json.load(sys.stdin)["rows"], dtype=np.float64)
answers: list[dict[str, Any]] = []


def add(way: str, result: Any) -> None:
    """Keep an answer."""
    labels, probabilities = result.as_numpy("prediction"), result.as_numpy("probabilities")
    found = {"way": way, "labels": labels.tolist(), "probabilities": probabilities.tolist()}
    answers.append(found)


def http_tensor(dtype: str, binary: bool) -> Any:
    """All rows as one tensor."""
    tensor = triton_http.InferInput("X", list(rows.shape), dtype)
    tensor.set_data_from_numpy(rows.astype({"FP64": np.float64, "FP32": np.float32}[dtype]), binary_data=binary)
    return tensor


def http_outputs(binary: bool) -> list[Any]:
    """Both outputs, in another order than the model's."""
    return [triton_http.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "prediction")]


def grpc_tensor() -> Any:
    """All rows as one tensor."""
    tensor = triton_grpc.InferInput("X", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows)
    return tensor


def ask_often(client: Any, tensor: Any) -> Any:
    """One thread's work: the last answer, when all were equal."""
    results = [client.infer(model, [tensor]) for _ in range(TIMES)]
    first = results[0].as_numpy("prediction")
    assert all((result.as_numpy("prediction") == first).all() for result in results)
    return results[-1]


with triton_http.InferenceServerClient(f"{host}:{http_port}", concurrency=4) as client:
    health = [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)]
    health.append(client.is_model_ready(model, "1"))
    metadata = {"server": client.get_server_metadata(), "model": client.get_model_metadata(model)}
    for dtype in ("FP64", "FP32"):
        for sent in (True, False):
            for wanted in (True, False):
                asked = client.infer(model, [http_tensor(dtype, sent)], outputs=http_outputs(wanted), request_id="7")
                assert asked.get_response()["id"] == "7"
                add(f"http {dtype} binary={sent} outputs binary={wanted}", asked)
    add("http, no outputs named, version", client.infer(model, [http_tensor("FP64", True)], model_version="1"))
    gzipped = client.infer(model, [http_tensor("FP64", True)], request_compression_algorithm="gzip")
    add("http gzip", gzipped)
    pending = [client.async_infer(model, [http_tensor("FP64", True)]) for _ in range(8)]
    add("http async", [request.get_result() for request in pending][-1])


def http_thread(_: int) -> Any:
    """A client of its own: gevent's clients can't be shared between threads."""
    with triton_http.InferenceServerClient(f"{host}:{http_port}") as own:
        return ask_often(own, http_tensor("FP64", True))


with ThreadPoolExecutor(THREADS) as pool:
    for result in pool.map(http_thread, range(THREADS)):
        add("http, 8 threads", result)

with triton_grpc.InferenceServerClient(f"{host}:{grpc_port}") as client:
    health += [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)]
    metadata["grpc server"] = client.get_server_metadata(as_json=True)
    metadata["grpc model"] = client.get_model_metadata(model, as_json=True)
    asked = client.infer(model, [grpc_tensor()], request_id="8", model_version="1")
    assert asked.get_response().id == "8"
    add("grpc", asked)
    wanted = [triton_grpc.InferRequestedOutput(name) for name in ("probabilities", "prediction")]
    add("grpc, outputs named", client.infer(model, [grpc_tensor()], outputs=wanted, client_timeout=30))
    try:
        client.infer("another", [grpc_tensor()])
    except triton_grpc.InferenceServerException as exc:
        metadata["grpc unknown model"] = exc.status()
    with ThreadPoolExecutor(THREADS) as pool:
        for result in pool.map(lambda _: ask_often(client, grpc_tensor()), range(THREADS)):
            add("grpc, 8 threads", result)

print(json.dumps({"health": health, "metadata": metadata, "answers": answers}))
