"""`python -m modelkit.serve`: fetch and verify one version, load it, answer its samples, then serve until told to stop.

Exit codes: 0 after a graceful stop, 2 when the version can't be served, 1 when the store can't be reached. The
reason is left in the termination log as {"outcome", "reason", "message"} for the operator.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType

from modelkit.artifact.signature import load_signature
from modelkit.artifact.version import ArtifactError, DigestMismatchError, VersionNotFoundError, fetch_version
from modelkit.contract.config import ServerConfig
from modelkit.contract.environment import ExitCode
from modelkit.contract.files import FEEDBACK_STREAM, REQUESTS_STREAM, SIGNATURE
from modelkit.errors import ModelKitError, RefusedError, StoreError, StorePermissionError
from modelkit.logs import set_up_logging
from modelkit.serve.app import App
from modelkit.serve.capture import SegmentWriter
from modelkit.serve.cpu import inference_threads, read_cpu_limit
from modelkit.serve.metrics import ServerMetrics, StreamMetrics
from modelkit.serve.model import load_model
from modelkit.serve.server import DrainingServer, bind
from modelkit.serve.service import Service, utc_now
from modelkit.serve.settings import Settings, read_settings, termination_log
from modelkit.serve.warmup import warm_up
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store

logger = logging.getLogger("modelkit.serve")

_FLUSH_SECONDS = 10.0
"""How long the last segments may take after the last answer."""
_SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter from the event loop; Python's default is 5 ms."""
_MESSAGE_BYTES = 3000
_REASONS = {
    DigestMismatchError: "DigestMismatch",
    VersionNotFoundError: "VersionNotFound",
    ArtifactError: "BadVersion",
    StorePermissionError: "PermissionDenied",
}


def main(environ: Mapping[str, str]) -> int:
    """Serve; returns the exit code."""
    # As a container's first process a signal without a handler would be ignored while the version loads.
    signal.signal(signal.SIGTERM, _stop_loading)
    set_up_logging()
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        serve(read_settings(environ), environ)
    except ModelKitError as exc:
        reason = exc.reason if isinstance(exc, RefusedError) else _REASONS.get(type(exc), "StoreUnavailable")
        logger.error("the version isn't served", extra={"reason": reason, "cause": str(exc)})
        _write_reason(termination_log(environ), reason, str(exc))
        return ExitCode.FAILED if isinstance(exc, StoreError) else ExitCode.REFUSED
    return ExitCode.DONE


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Load the version, serve until SIGTERM, then drain and write what was captured. Raises ModelKitError."""
    config = settings.config
    store = Store.open(config.store, environ)
    directory = fetch_version(store, config.version, settings.work / config.version.digest.removeprefix("sha256:"))
    signature = load_signature((directory / SIGNATURE).read_bytes())
    threads = inference_threads(read_cpu_limit())
    model = load_model(directory, signature, threads)
    cost = warm_up(directory, signature, model)

    metrics = ServerMetrics(model=config.deployment, version=str(signature.number), digest=config.version.digest)
    metrics.declare_classes(signature.classes)
    requests = _open_writer(store, settings, REQUESTS_STREAM, metrics)
    feedback = _open_writer(store, settings, FEEDBACK_STREAM, metrics)
    service = Service(config, signature, model, metrics, requests, feedback)
    with ThreadPoolExecutor(threads, thread_name_prefix="inference") as pool:
        app = App(service, config.limits, cost, pool)
        server = DrainingServer(app, drain_seconds=config.drain_seconds, finish_seconds=config.limits.inference_seconds)
        listener = bind(settings.port)
        logger.info(
            "ready",
            extra={
                "model": config.deployment,
                "version": signature.number,
                "digest": config.version.digest,
                "platform": model.platform,
                "port": listener.getsockname()[1],
                "threads": threads,
            },
        )
        server.run(sockets=[listener])
    feedback.close(_FLUSH_SECONDS)
    requests.close(_FLUSH_SECONDS)
    logger.info("stopped")


def _open_writer(store: Store, settings: Settings, stream: str, metrics: ServerMetrics) -> SegmentWriter:
    config: ServerConfig = settings.config
    names = SegmentNames(config.namespace, config.deployment, stream, settings.pod, utc_now())
    writer = SegmentWriter(
        store,
        names,
        StreamMetrics(metrics, stream),
        max_rows=config.capture.max_queue,
        flush_seconds=config.capture.flush_seconds,
    )
    metrics.watch_queue(stream, writer.waiting)
    writer.start()
    return writer


def _write_reason(path: Path, reason: str, message: str) -> None:
    text = json.dumps({"outcome": "Failed", "reason": reason, "message": message[:_MESSAGE_BYTES]})
    with suppress(OSError):  # Outside of a pod there is none.
        path.write_text(text)


def _stop_loading(sig: int, frame: FrameType | None) -> None:
    del sig, frame
    raise SystemExit(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main(os.environ))
