"""grpc.aio and ONNX Runtime without any check: raw FP64 bytes of the rows in, raw INT64 bytes of the classes out.

`python bare_grpc.py <model.onnx> <port> <columns>`. It reads the messages just far enough to find the tensor.
"""

import sys
from typing import Any

import grpc
import numpy as np
import onnxruntime
import uvloop

METHOD = "/inference.GRPCInferenceService/ModelInfer"
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]
columns = int(sys.argv[3])


def read_tensor(message: bytes) -> bytes:
    """Field 7, raw_input_contents: the last of the message."""
    position = 0
    while position < len(message):
        tag = message[position]
        size, shift, position = 0, 0, position + 1
        while True:
            byte = message[position]
            size |= (byte & 127) << shift
            shift, position = shift + 7, position + 1
            if byte < 128:
                break
        if tag >> 3 == 7:
            return message[position : position + size]
        position += size
    raise ValueError("no tensor")


async def infer(request: bytes, context: Any) -> bytes:
    """One call."""
    del context
    rows = np.frombuffer(read_tensor(request), np.float64).reshape(-1, columns).astype(dtype)
    labels: bytes = session.run(outputs, {name: rows})[0].tobytes()
    size, head = len(labels), bytearray([6 << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + labels


class Handler(grpc.GenericRpcHandler):
    """The one method, on bytes."""

    def service(self, details: Any) -> Any:
        """As of grpc."""
        return grpc.unary_unary_rpc_method_handler(infer) if details.method == METHOD else None


async def main() -> None:
    """Serve for ever."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
