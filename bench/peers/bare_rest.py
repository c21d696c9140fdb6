"""The least that can be called a model server: uvicorn, orjson and ONNX Runtime, without any check.

`python bare_rest.py <model.onnx> <port>`; POST [[…], …] → {"predictions": […]}.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """One ASGI request."""
    del scope
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    rows = np.array(orjson.loads(body)["features"], dtype=dtype)
    answer = orjson.dumps({"predictions": session.run(outputs, {name: rows})[0].tolist()})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
