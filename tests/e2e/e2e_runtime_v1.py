"""Another model server: TensorFlow Serving's REST form over model.onnx, of nothing that is ours.

`python e2e_runtime_v1.py <folder> <model name> <port>` serves `<folder>/<model name>/<number>/model.onnx`, a model with
one input of [rows, features]. It is short enough to be a container's command: `python -c "$(cat e2e_runtime_v1.py)" …`.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER, NAME, PORT = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SESSION: list[Any] = []


def load() -> None:
    """The newest version, as TensorFlow Serving picks it."""
    newest = max((FOLDER / NAME).iterdir(), key=lambda path: int(path.name))
    SESSION.append(onnxruntime.InferenceSession(newest / "model.onnx", providers=["CPUExecutionProvider"]))


def predict(instances: Any) -> list[dict[str, Any]]:
    """The named outputs of each row; raises ValueError or TypeError for what isn't rows."""
    (entry,) = SESSION[0].get_inputs()
    dtype = np.float32 if "float" in entry.type else np.float64
    rows = np.array([[np.nan if value is None else value for value in row] for row in instances], dtype=dtype)
    if rows.ndim != 2:
        raise ValueError("instances must be rows")
    names = [output.name for output in SESSION[0].get_outputs()]
    values = SESSION[0].run(None, {entry.name: rows})
    return [{name: value[row].tolist() for name, value in zip(names, values, strict=True)} for row in range(len(rows))]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The model's state."""
        if self.path != f"/v1/models/{NAME}":
            return self.reply(404, {"error": f"nothing at {self.path}"})
        state = "AVAILABLE" if SESSION else "LOADING"
        return self.reply(200, {"model_version_status": [{"version": "1", "state": state, "status": {}}]})

    def do_POST(self) -> None:
        """Predictions in row form."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != f"/v1/models/{NAME}:predict" or not SESSION:
            return self.reply(404, {"error": "Servable not found"})
        try:
            return self.reply(200, {"predictions": predict(json.loads(body)["instances"])})
        except (ValueError, TypeError, KeyError) as exc:
            return self.reply(400, {"error": f"bad instances: {type(exc).__name__}"})

    def reply(self, status: int, plain: dict[str, Any]) -> None:
        """Answer with JSON."""
        body = json.dumps(plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Silence: rows must not be in logs."""


if __name__ == "__main__":
    threading.Thread(target=load, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
