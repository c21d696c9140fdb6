"""KServe's Python client, unmodified: both REST protocols and gRPC.

Program: host, HTTP port, gRPC port, model; {"rows": [[…]]} on standard input. Prints {"health": […],
"answers": [{"way", "labels", "probabilities"}]}; probabilities are None where the protocol has none.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

host, http_port, grpc_port, model = sys.argv[1:5]
rows = np.array(json.load(sys.stdin)["rows"], dtype=np.float64)


def request(binary: bool) -> InferRequest:
    """All rows as one tensor."""
    tensor = InferInput("X", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="9")


def found(way: str, response: Any) -> dict[str, Any]:
    """An answer of the Open Inference Protocol."""
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    probabilities = outputs["probabilities"].tolist()
    return {"way": way, "labels": outputs["prediction"].tolist(), "probabilities": probabilities}


async def main() -> None:
    """Ask in all ways."""
    url, answers = f"http://{host}:{http_port}", []
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    health = [await rest.is_server_live(url), await rest.is_server_ready(url), await rest.is_model_ready(url, model)]
    for binary in (False, True):
        answers.append(found(f"rest v2 binary={binary}", await rest.infer(url, request(binary), model_name=model)))
    await rest.close()
    rest = InferenceRESTClient(RESTConfig(protocol="v1"))
    health.append(await rest.is_model_ready(url, model))
    plain = await rest.infer(url, {"instances": rows.tolist()}, model_name=model)
    answers.append({"way": "rest v1", "labels": plain["predictions"], "probabilities": None})
    await rest.close()
    grpc = InferenceGRPCClient(f"{host}:{grpc_port}")
    health += [await grpc.is_server_live(), await grpc.is_server_ready(), await grpc.is_model_ready(model)]
    for binary in (False, True):
        answers.append(found(f"grpc raw={binary}", await grpc.infer(request(binary))))
    await grpc.close()
    print(json.dumps({"health": health, "answers": answers}))


asyncio.run(main())
