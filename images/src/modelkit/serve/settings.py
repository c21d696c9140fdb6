"""What the server reads from its environment, once."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelkit.contract import environment, files
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import ServerConfig
from modelkit.errors import RefusedError

PORT = "MODELLOOP_HTTP_PORT"
WORK = "MODELLOOP_WORK"
TERMINATION_LOG = "MODELLOOP_TERMINATION_LOG"
POD_NAME = "POD_NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The pod's configuration and places."""

    config: ServerConfig
    port: int
    work: Path
    """A writable folder for the version's files."""
    pod: str


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment; raises RefusedError naming the variable that doesn't fit."""
    text = environ.get(environment.CONFIG)
    if not text:
        raise RefusedError("BadConfig", f"the environment variable {environment.CONFIG} must hold the ServerConfig")
    try:
        config = loads(ServerConfig, text)
        port = int(environ.get(PORT, environment.HTTP_PORT))
    except ContractError as exc:
        raise RefusedError("BadConfig", f"{environment.CONFIG} doesn't fit: {exc}") from exc
    except ValueError as exc:
        raise RefusedError("BadConfig", f"{PORT} must be a port number") from exc
    return Settings(
        config=config,
        port=port,
        work=Path(environ.get(WORK, files.WORK_MOUNT)),
        pod=environ.get(POD_NAME) or socket.gethostname(),
    )


def termination_log(environ: Mapping[str, str]) -> Path:
    """Where the reason of a refusal goes."""
    return Path(environ.get(TERMINATION_LOG, files.TERMINATION_LOG))
