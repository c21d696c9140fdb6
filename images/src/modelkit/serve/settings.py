"""What the server reads from its environment, once."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelkit.contract import environment, files
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import ServerConfig
from modelkit.contract.route import ROUTE_FILE, ROUTE_MOUNT
from modelkit.errors import RefusedError

PORT = "MODELLOOP_HTTP_PORT"
GRPC_PORT = "MODELLOOP_GRPC_PORT"
WORK = "MODELLOOP_WORK"
TERMINATION_LOG = "MODELLOOP_TERMINATION_LOG"
ROUTE = "MODELLOOP_ROUTE"
POD_NAME = "POD_NAME"
POD_IP = "POD_IP"
LOADING = "MODELLOOP_LOAD_SECONDS"
LOAD_SECONDS = 90.0
"""Below the 120 s after which the startup probe ends the container without a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The pod's configuration and places."""

    config: ServerConfig
    port: int
    grpc_port: int = environment.GRPC_PORT
    work: Path
    """A writable folder for the version's files."""
    pod: str
    load_seconds: float = LOAD_SECONDS
    """How long the model may take to load and to answer its samples."""
    termination_log: Path = Path(files.TERMINATION_LOG)
    route: Path = Path(ROUTE_MOUNT, ROUTE_FILE)
    """How the pods share requests while versions change; there may be none."""
    pod_ip: str = ""
    """Where it is known: the pod needn't tell itself what it tells others."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment; raises RefusedError naming the variable that doesn't fit."""
    text = environ.get(environment.CONFIG)
    if not text:
        raise RefusedError("BadConfig", f"the environment variable {environment.CONFIG} must hold the ServerConfig")
    try:
        config = loads(ServerConfig, text)
        port = int(environ.get(PORT, environment.HTTP_PORT))
        grpc_port = int(environ.get(GRPC_PORT, environment.GRPC_PORT))
    except ContractError as exc:
        raise RefusedError("BadConfig", f"{environment.CONFIG} doesn't fit: {exc}") from exc
    except ValueError as exc:
        raise RefusedError("BadConfig", f"{PORT} and {GRPC_PORT} must be port numbers") from exc
    return Settings(
        config=config,
        port=port,
        grpc_port=grpc_port,
        work=Path(environ.get(WORK, files.WORK_MOUNT)),
        pod=environ.get(POD_NAME) or socket.gethostname(),
        load_seconds=_positive(environ, LOADING, LOAD_SECONDS),
        termination_log=termination_log(environ),
        route=Path(environ.get(ROUTE) or Path(ROUTE_MOUNT, ROUTE_FILE)),
        pod_ip=environ.get(POD_IP, ""),
    )


def _positive(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environ.get(name, default))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise RefusedError("BadConfig", f"{name} must be a number of seconds above 0")
    return value


def termination_log(environ: Mapping[str, str]) -> Path:
    """Where the reason of a refusal goes."""
    return Path(environ.get(TERMINATION_LOG, files.TERMINATION_LOG))
