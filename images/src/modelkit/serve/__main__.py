"""`python -m modelkit.serve`: load one verified version, then serve it until told to stop.

Exit codes: 0 after a graceful stop, 2 when the version can't be served, 1 when the store can't be reached. The
reason is left in the termination log as {"outcome", "reason", "message"} for the operator.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from modelkit.contract.environment import ExitCode
from modelkit.errors import ModelKitError
from modelkit.logs import set_up_logging
from modelkit.serve.app import App
from modelkit.serve.auth import Auth
from modelkit.serve.cpu import inference_threads, read_cpu_limit
from modelkit.serve.engine import Engine
from modelkit.serve.grpc.calls import Calls
from modelkit.serve.grpc.server import GrpcServer
from modelkit.serve.loading import load_version
from modelkit.serve.outcome import exit_code_of, reason_of, write_reason
from modelkit.serve.server import Server, bind
from modelkit.serve.settings import Settings, read_settings, termination_log
from modelkit.serve.tls import Certificate
from modelkit.store.store import Store

logger = logging.getLogger("modelkit.serve")

_SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter from the event loop; Python's default is 5 ms."""


def main(environ: Mapping[str, str]) -> int:
    """Serve; returns the exit code."""
    # A container's first process ignores signals without a handler: it couldn't be stopped while it loads.
    signal.signal(signal.SIGTERM, _stop_loading)
    set_up_logging()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        serve(read_settings(environ), environ)
    except ModelKitError as exc:
        logger.error("the version isn't served", extra={"reason": reason_of(exc), "cause": str(exc)})
        write_reason(termination_log(environ), exc)
        return exit_code_of(exc)
    return ExitCode.DONE


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Load the version, serve until SIGTERM, then drain and write what was captured. Raises ModelKitError."""
    config, threads = settings.config, inference_threads(read_cpu_limit())
    certificate = None if config.tls is None else Certificate(config.tls)
    auth = None if config.auth is None else Auth(config.auth)
    version = load_version(settings, Store.open(config.store, environ), threads)
    service = version.service
    # What was loaded stays: the collector needn't look through it again while requests wait.
    gc.collect()
    gc.freeze()
    workers = threads if version.remote is None else version.remote.threads
    # One more for a costly question, such as an explanation, that mustn't keep predictions waiting.
    with ThreadPoolExecutor(workers + 1, thread_name_prefix="inference") as pool, bind(settings.port) as listener:
        engine = Engine(service, config.limits, config.batching, version.cost, pool, workers)
        grpc = GrpcServer(
            Calls(service, engine, auth),
            config.limits,
            config.tls,
            settings.grpc_port,
            age_seconds=config.grpc_age_seconds,
        )
        server = Server(
            App(service, engine, pool, auth),
            config.limits,
            drain_seconds=config.drain_seconds,
            certificate=certificate,
            auth=auth,
            companions=(service.rollout, grpc, *(() if version.remote is None else (version.remote.watch,))),
        )
        logger.info(
            "ready",
            extra={
                "model": service.name,
                "version": service.signature.number,
                "digest": config.version.digest,
                "platform": service.model.platform,
                "port": listener.getsockname()[1],
                "grpc_port": settings.grpc_port,
                "threads": threads,
            },
        )
        server.run(listener)
    version.close()
    logger.info("stopped")


def _stop_loading(sig: int, frame: FrameType | None) -> None:
    del sig, frame
    raise SystemExit(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main(os.environ))
