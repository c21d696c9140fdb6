"""From a configuration with a runtime to a model that asks it: nothing is loaded here."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import RuntimeConfig, ServerConfig
from modelkit.contract.files import SAMPLES
from modelkit.errors import RefusedError
from modelkit.serve.batch import Features
from modelkit.serve.errors import (
    ModelUnusableError,
    RequestError,
    RuntimeAnswerError,
    RuntimeRefusalError,
    UnprocessableRequestError,
)
from modelkit.serve.plain import parse_rows
from modelkit.serve.runtime.client import RuntimeClient
from modelkit.serve.runtime.model import RAW, V1, V2, RemoteModel
from modelkit.serve.runtime.relay import Relay
from modelkit.serve.runtime.watch import Check, RuntimeWatch, build_probe
from modelkit.serve.warmup import Cost, check_answer

_COST = Cost(fixed=float("inf"), per_row=0.0)
"""Never answered on the event loop: asking somebody else is waiting."""
_THREADS = 32
"""Calls of the runtime at a time, at most: it is the one that computes."""


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version that a runtime answers for."""

    model: RemoteModel
    client: RuntimeClient
    watch: RuntimeWatch
    threads: int
    """How many calls of the runtime there may be at a time."""
    relay: Relay | None = None
    """With the protocol Raw: passes on what the server doesn't answer itself."""
    cost: Cost = _COST

    def close(self) -> None:
        """The server has stopped; raises ModelUnusableError when the runtime was refused."""
        self.client.close()
        if self.watch.refusal is not None:
            raise self.watch.refusal


def open_remote(config: ServerConfig, runtime: RuntimeConfig, signature: Signature, directory: Path) -> RemoteVersion:
    """The version with that signature behind `runtime`, which is asked once the server starts.

    `directory` holds the verified version's own files. Raises RefusedError for a configuration or samples that can't
    be used.
    """
    if runtime.protocol not in (V2, V1, RAW):
        raise RefusedError("BadConfig", f"the runtime's protocol must be V2, V1 or Raw; found {runtime.protocol!r}")
    client = RuntimeClient(runtime.address, runtime.timeout_seconds)
    model = RemoteModel(runtime, signature, client)
    check = _build_check(signature, model, runtime, directory / SAMPLES)
    watch = RuntimeWatch(build_probe(runtime, client), check, _stop_server)
    relay = Relay(runtime, hides_token=config.auth is not None) if runtime.protocol == RAW else None
    return RemoteVersion(model, client, watch, min(_THREADS, config.limits.max_concurrent), relay)


def _build_check(signature: Signature, model: RemoteModel, runtime: RuntimeConfig, path: Path) -> Check:
    """What a runtime that says it is ready is asked: how it wants rows, then the version's samples if it has any."""
    if runtime.protocol == RAW:
        return lambda: None
    if not path.exists():
        return model.learn
    try:
        samples: Mapping[str, Any] = orjson.loads(path.read_bytes())
        batch = parse_rows(Features.of(signature), samples["rows"])
    except (orjson.JSONDecodeError, KeyError, TypeError, RequestError) as exc:
        raise ModelUnusableError(
            "SamplesNotAnswered", f"the version's {SAMPLES} can't be read ({type(exc).__name__}); train again"
        ) from exc

    def check() -> None:
        model.learn()
        try:
            answer = model.predict(batch)
        except (RuntimeAnswerError, RuntimeRefusalError, UnprocessableRequestError) as exc:
            # A refusal's words are the runtime's, and may hold values.
            cause = f"it answers {exc.status}" if isinstance(exc, RuntimeRefusalError) else str(exc)
            raise ModelUnusableError(
                "SamplesNotAnswered", f"the runtime can't answer the version's samples: {cause}"
            ) from exc
        check_answer(signature, samples, answer)

    return check


def _stop_server() -> None:
    """End as after SIGTERM; the exit code and the reason come from the refusal."""
    os.kill(os.getpid(), signal.SIGTERM)
