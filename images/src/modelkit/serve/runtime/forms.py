"""How one runtime is asked: what every protocol's form has in common."""

from typing import Any, Protocol

import orjson

from modelkit.serve.batch import Batch
from modelkit.serve.errors import ModelUnusableError, RuntimeAnswerError
from modelkit.serve.runtime.outputs import Output


class Form(Protocol):
    """One protocol, as one runtime speaks it for one version."""

    @property
    def target(self) -> bytes:
        """Where requests go."""

    def render(self, batch: Batch) -> bytes:
        """The JSON body that asks for the batch; raises UnprocessableRequestError for rows that it can't hold."""

    def parse(self, body: bytes) -> list[Output]:
        """The outputs in the answer; raises RuntimeAnswerError."""


def mismatch(message: str) -> ModelUnusableError:
    """The runtime's model isn't one that rows of the version can be asked of."""
    return ModelUnusableError(
        "RuntimeMismatch", f"{message}; serve another model with the runtime, or use the protocol Raw"
    )


def parse_answer(body: bytes) -> Any:
    """JSON that the runtime answered; raises RuntimeAnswerError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        # `from None`: the original error holds the whole document.
        raise RuntimeAnswerError(
            f"the runtime's answer isn't JSON at line {exc.lineno} column {exc.colno}; NaN and Infinity aren't JSON"
        ) from None
