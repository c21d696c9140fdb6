"""The data plane: what runs inside the trainer, server and monitor pods."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels report usage unless told not to; a user's own image must be spared that too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
