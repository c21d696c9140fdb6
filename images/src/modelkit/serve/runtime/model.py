"""A version that another model server in the pod runs, as a Model like any other.

Whatever protocol a request came by, its rows are checked by the signature first and then asked of the runtime in its
own protocol; the answer is checked before it is passed on. Nothing here logs a value of a request or of an answer.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import RuntimeConfig
from modelkit.serve.batch import Batch
from modelkit.serve.errors import (
    RuntimeAnswerError,
    RuntimeRefusalError,
    RuntimeUnavailableError,
    UnprocessableRequestError,
)
from modelkit.serve.model import Answer
from modelkit.serve.runtime.client import Answered, RuntimeClient
from modelkit.serve.runtime.form_v1 import build_v1_form
from modelkit.serve.runtime.form_v2 import build_v2_form
from modelkit.serve.runtime.forms import Form
from modelkit.serve.runtime.outputs import read_answer

V2, V1, RAW = "V2", "V1", "Raw"

_OURS = frozenset({401, 403, 404, 405, 406, 407, 408, 411, 415})
"""Refusals of how we asked; others of 400 to 499 are of the rows, and are passed on."""
_BUSY = frozenset({502, 503})
_MESSAGE_CHARACTERS = 500
_JSON = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
_METADATA = MappingProxyType({V2: "/v2/models/{}", V1: "/v1/models/{}/metadata"})
_BUILD: MappingProxyType[str, Callable[[Signature, str, Any], Form]] = MappingProxyType(
    {V2: build_v2_form, V1: build_v1_form}
)


class RemoteModel:
    """A version behind a runtime. Thread-safe; `learn` comes before `predict`, and with Raw there is neither."""

    def __init__(self, config: RuntimeConfig, signature: Signature, client: RuntimeClient) -> None:
        self.platform = f"runtime_{config.protocol.lower()}"
        self._config = config
        self._signature = signature
        self._client = client
        self._form: Form | None = None

    def learn(self) -> None:
        """Read from the runtime how it wants to be asked.

        Raises ModelUnusableError when rows of the version can't be asked of its model, RequestError when it doesn't
        answer.
        """
        config = self._config
        target = _METADATA[config.protocol].format(quote(config.model_name, safe="")).encode()
        found = self._client.ask(b"GET", target, headers=_JSON)
        if found.status >= 500:
            raise RuntimeUnavailableError(f"the runtime at {self._client.place} answered {found.status}; try again")
        metadata = None
        if found.status == 200:
            try:
                metadata = orjson.loads(found.body)
            except orjson.JSONDecodeError:
                metadata = None  # Not every runtime describes its models; it is asked without knowing.
        self._form = _BUILD[config.protocol](self._signature, config.model_name, metadata)

    def predict(self, batch: Batch) -> Answer:
        """See Model; raises RuntimeFailedError or InferenceTimeoutError when the runtime gives no usable answer."""
        form = self._form
        if self._config.protocol == RAW:
            raise UnprocessableRequestError("the runtime has a protocol of its own: it can't be asked about rows here")
        if form is None:
            raise RuntimeUnavailableError(f"the runtime at {self._client.place} isn't ready yet; try again")
        found = self._client.ask(b"POST", form.target, form.render(batch), _JSON)
        if found.status != 200:
            raise failure(found, self._client.place)
        return read_answer(self._signature, form.parse(found.body), batch.rows)


def failure(found: Answered, place: str) -> RuntimeAnswerError | RuntimeRefusalError | RuntimeUnavailableError:
    """What a response means that isn't 200."""
    if 400 <= found.status < 500 and found.status not in _OURS:
        return RuntimeRefusalError(found.status, _message(found) or f"the runtime at {place} refuses the request")
    if found.status in _BUSY:
        return RuntimeUnavailableError(f"the runtime at {place} answered {found.status}; try again")
    # Its words may be a traceback, and aren't about what the client sent.
    return RuntimeAnswerError(f"the runtime at {place} answered {found.status}; its log may say why")


def _message(found: Answered) -> str:
    """The runtime's own words for the client: those of its {"error"} or {"detail"}, else its text."""
    try:
        plain = orjson.loads(found.body)
    except orjson.JSONDecodeError:
        plain = found.body.decode("utf-8", "replace") if found.header(b"content-type").startswith(b"text/plain") else ""
    if isinstance(plain, dict):
        plain = next((plain[key] for key in ("error", "detail", "message") if key in plain), "")
    if isinstance(plain, dict):
        plain = plain.get("message", "")
    return plain[:_MESSAGE_CHARACTERS] if isinstance(plain, str) else ""
